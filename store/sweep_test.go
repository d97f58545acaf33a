package store_test

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/store"
	"github.com/hallmark-pki/hallmark/store/storetest"
)

// TestSweep: what has expired goes, in steps and while others spend; what has
// not, or only just has, stays.
func TestSweep(t *testing.T) {
	for name, fresh := range engines {
		t.Run(name, func(t *testing.T) {
			place := fresh(t)
			db, other := place(t), place(t)
			now := storetest.Now
			gone, justNow, live := now.Add(-store.SweepLater), now.Add(-store.SweepLater+time.Millisecond), now.Add(time.Minute)
			const n = 1500
			spend := func(i int, until time.Time) error { return db.Spend(t.Context(), scattered(i), until) }
			each(t, n, func(i int) error { return spend(i, []time.Time{gone, justNow, live}[i%3]) })
			for i, until := range []time.Time{gone, live} {
				if err := db.Keep(t.Context(), [32]byte{byte(i)}, []byte("body"), until); err != nil {
					t.Fatal(err)
				}
			}
			done := make(chan error)
			go func() {
				_, err := other.SweepAll(now)
				done <- err
			}()
			steps, err := db.SweepAll(now)
			if err != nil || steps < 2 {
				t.Fatalf("swept in %d steps, %v", steps, err)
			}
			each(t, 200, func(i int) error { return spend(n+i, live) })
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if _, err := db.SweepAll(now); err != nil { // what one left to the other, should neither have had it
				t.Fatal(err)
			}
			left := 0
			for i := range n + 200 {
				err := spend(i, live)
				if i < n && i%3 == 0 {
					if err != nil {
						t.Fatalf("nonce %d has expired and was not swept: %v", i, err)
					}
				} else if !fault.Is(err, fault.Conflict) {
					t.Fatalf("nonce %d was forgotten: %v", i, err)
				} else {
					left++
				}
			}
			if _, err := db.Take(t.Context(), [32]byte{0}, gone.Add(-time.Hour)); !fault.Is(err, fault.NotFound) {
				t.Errorf("an expired body was not swept: %v", err)
			}
			if _, err := db.Take(t.Context(), [32]byte{1}, now); err != nil {
				t.Error(err)
			}
			t.Logf("%d steps, %d nonces left", steps, left)
		})
	}
}

// scattered is a nonce's hash, different for each i, and all over the table.
func scattered(i int) (hash [32]byte) {
	binary.BigEndian.PutUint64(hash[:], uint64(i)*0x9e3779b97f4a7c15)
	return hash
}

// each calls f for all numbers below n, 64 at a time.
func each(t *testing.T, n int, f func(i int) error) {
	t.Helper()
	errs := make(chan error)
	for w := range 64 {
		go func() {
			var err error
			for i := w; i < n && err == nil; i += 64 {
				err = f(i)
			}
			errs <- err
		}()
	}
	for range 64 {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
}

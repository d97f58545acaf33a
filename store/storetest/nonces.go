package storetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	mathrand "math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/store"
)

func randomKey() (key [32]byte) {
	rand.Read(key[:])
	return key
}

// testSpend: a nonce is spent once, whatever else it was said to be good for.
func testSpend(t *testing.T, place Place) {
	db := place(t)
	until := Now.Add(5 * time.Minute)
	nonce := randomKey()
	do(t, db.Spend(t.Context(), nonce, until))
	want(t, db.Spend(t.Context(), nonce, until), fault.Conflict, "nonce_used")
	want(t, place(t).Spend(t.Context(), nonce, until.Add(time.Hour)), fault.Conflict, "nonce_used")
	do(t, db.Close())
	db = place(t)
	want(t, db.Spend(t.Context(), nonce, until), fault.Conflict, "nonce_used")
	do(t, db.Spend(t.Context(), [32]byte{}, until))
	do(t, db.Spend(t.Context(), [32]byte{0xff, 31: 1}, until))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 { // whoever gave up may have spent it or not, but knows if so
		nonce := randomKey()
		if err := db.Spend(ctx, nonce, until); err != nil {
			want(t, err, fault.Busy, "gave_up_waiting")
			do(t, db.Spend(t.Context(), nonce, until))
		}
	}
}

// testSpendRace: of a hundred who spend a nonce at once, one does; and many
// nonces at once do not stand in each other's way.
func testSpendRace(t *testing.T, place Place) {
	handles := []*store.DB{place(t), place(t)}
	until := Now.Add(time.Minute)
	for range 10 {
		nonce := randomKey()
		errs := together(100, func(n int) error { return handles[n%2].Spend(context.Background(), nonce, until) })
		if n := settled(t, errs, fault.Conflict, "nonce_used"); n != 1 {
			t.Fatalf("one nonce was spent %d times", n)
		}
	}
	nonces := make([][32]byte, 150)
	for i := range nonces {
		nonces[i] = randomKey()
	}
	var done [150]atomic.Int64
	settled(t, together(600, func(n int) error {
		which := mathrand.Perm(len(nonces))[0]
		err := handles[n%2].Spend(context.Background(), nonces[which], until)
		if err == nil {
			done[which].Add(1)
		}
		return err
	}), fault.Conflict, "nonce_used")
	for i := range done {
		if n := done[i].Load(); n > 1 {
			t.Fatalf("one nonce was spent %d times", n)
		}
	}
}

func testKept(t *testing.T, place Place) {
	handles := []*store.DB{place(t), place(t)}
	db := handles[0]
	until := Now.Add(time.Minute)
	_, err := db.Take(t.Context(), randomKey(), Now)
	want(t, err, fault.NotFound, "not_found")
	for _, body := range [][]byte{nil, {0}, bytes.Repeat([]byte("body"), 500)} {
		key := randomKey()
		do(t, db.Keep(t.Context(), key, []byte("another"), until.Add(-time.Hour)))
		do(t, db.Keep(t.Context(), key, body, until))
		var takers atomic.Int64
		errs := together(20, func(n int) error {
			got, err := handles[n%2].Take(context.Background(), key, Now)
			if err == nil && bytes.Equal(got, body) {
				takers.Add(1)
			}
			return err
		})
		if n := settled(t, errs, fault.NotFound, "not_found"); n != 1 || takers.Load() != 1 {
			t.Fatalf("a body was taken %d times, as it was kept %d times", n, takers.Load())
		}
	}
	key := randomKey()
	do(t, db.Keep(t.Context(), key, []byte("late"), until))
	_, err = db.Take(t.Context(), key, until)
	want(t, err, fault.NotFound, "not_found")
}

// testSecret: all processes share one secret of a name, whoever asks first.
func testSecret(t *testing.T, place Place) {
	handles := []*store.DB{place(t), place(t)}
	var all [20][]byte
	do(t, errors.Join(together(len(all), func(n int) (err error) {
		all[n], err = handles[n%2].Secret(context.Background(), "nonce")
		return err
	})...))
	for _, s := range all {
		if len(s) != 32 || !bytes.Equal(s, all[0]) {
			t.Fatalf("secrets of one name: %d bytes, and not the same", len(s))
		}
	}
	other, err := handles[0].Secret(t.Context(), "other")
	do(t, err)
	if bytes.Equal(other, all[0]) {
		t.Fatal("two names have one secret")
	}
	do(t, handles[0].Close())
	again, err := place(t).Secret(t.Context(), "nonce")
	do(t, err)
	same(t, "secret", again, all[0])
}

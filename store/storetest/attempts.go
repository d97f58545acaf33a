package storetest

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/internal/once"
	"github.com/hallmark-pki/hallmark/store"
)

func attempt(id [32]byte, decision string) once.Attempt {
	return once.Attempt{ID: id, Decision: decision, Began: Now, Until: Now.Add(time.Minute), Expires: Now.Add(once.Life)}
}

// testAttempts: an attempt is begun once, gets its answer, and is found by every replica and after a restart.
func testAttempts(t *testing.T, place Place) {
	db, id := place(t), randomKey()
	_, err := db.Attempt(t.Context(), id)
	want(t, err, fault.NotFound, "not_found")
	a := attempt(id, "d1")
	do(t, db.BeginAttempt(t.Context(), a, ""))
	other := attempt(id, "d2")
	want(t, place(t).BeginAttempt(t.Context(), other, ""), fault.Conflict, "attempt_exists")
	want(t, db.BeginAttempt(t.Context(), other, "d3"), fault.Conflict, "attempt_exists")
	found := func(want once.Attempt) {
		t.Helper()
		got, err := place(t).Attempt(t.Context(), id)
		do(t, err)
		if got.Decision != want.Decision || !got.Began.Equal(want.Began) || !got.Until.Equal(want.Until) || !got.Expires.Equal(want.Expires) || !bytes.Equal(got.Answer, want.Answer) {
			t.Errorf("found %+v, want %+v", got, want)
		}
	}
	found(a)
	do(t, db.EndAttempt(t.Context(), id, "d2", []byte("of another"))) // says nothing, changes nothing
	do(t, db.EndAttempt(t.Context(), id, "d2", nil))
	found(a)
	a.Answer = []byte("answer")
	do(t, db.EndAttempt(t.Context(), id, "d1", a.Answer))
	do(t, db.Close())
	db = place(t)
	found(a)
	want(t, db.BeginAttempt(t.Context(), other, ""), fault.Conflict, "attempt_exists")

	late := attempt(id, "d4") // the next day the key is free again
	late.Began, late.Expires = a.Expires, a.Expires.Add(once.Life)
	do(t, db.BeginAttempt(t.Context(), late, ""))
	found(late)
	do(t, db.BeginAttempt(t.Context(), other, "d4")) // of what came to nothing, too
	found(other)
	do(t, db.EndAttempt(t.Context(), id, "d2", nil))
	_, err = db.Attempt(t.Context(), id)
	want(t, err, fault.NotFound, "not_found")
}

// testAttemptRace: of many calls with one key, on two replicas, one begins.
func testAttemptRace(t *testing.T, place Place) {
	handles := []*store.DB{place(t), place(t)}
	for range 5 {
		id := randomKey()
		errs := together(20, func(n int) error {
			return handles[n%2].BeginAttempt(context.Background(), attempt(id, string(rune('a'+n))), "")
		})
		if n := settled(t, errs, fault.Conflict, "attempt_exists"); n != 1 {
			t.Fatalf("one attempt was begun %d times", n)
		}
	}
}

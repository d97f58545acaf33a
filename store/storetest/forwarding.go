package storetest

import (
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

func testShifts(t *testing.T, place Place) {
	db, other := place(t), place(t)
	const sink = "https://sink.example/logs"
	_, err := db.Shift(t.Context(), sink)
	want(t, err, fault.NotFound, "")
	shift, err := db.TakeShift(t.Context(), sink, 7, "a", Now, Now.Add(time.Minute))
	do(t, err)
	same(t, "a new sink", fmt.Sprintf("%d %s %t", shift.Next, shift.Holder, shift.Until.Equal(Now.Add(time.Minute).Truncate(time.Millisecond))), "7 a true")
	shift, err = other.TakeShift(t.Context(), sink, 9, "b", Now.Add(59*time.Second), Now.Add(time.Hour))
	do(t, err)
	same(t, "while another holds it", fmt.Sprintf("%d %s", shift.Next, shift.Holder), "7 a")
	want(t, other.MoveShift(t.Context(), sink, "b", 8, Now.Add(time.Hour)), fault.Conflict, "shift_lost")
	do(t, db.MoveShift(t.Context(), sink, "a", 12, Now.Add(2*time.Minute)))
	want(t, db.MoveShift(t.Context(), sink, "a", 11, Now.Add(2*time.Minute)), fault.Conflict, "shift_lost")
	shift, err = other.TakeShift(t.Context(), sink, 0, "b", Now.Add(2*time.Minute), Now.Add(3*time.Minute))
	do(t, err)
	same(t, "once its time is over", fmt.Sprintf("%d %s", shift.Next, shift.Holder), "12 b")
	want(t, db.MoveShift(t.Context(), sink, "a", 20, Now.Add(time.Hour)), fault.Conflict, "shift_lost")
	shift, err = db.Shift(t.Context(), sink)
	do(t, err)
	same(t, "nothing was lost", fmt.Sprintf("%d %s", shift.Next, shift.Holder), "12 b")
}

func testShiftRace(t *testing.T, place Place) {
	var held, rounds atomic.Int64
	var work sync.WaitGroup
	for replica := range 3 {
		db, name := place(t), fmt.Sprint("replica", replica)
		work.Go(func() {
			for range 20 {
				shift, err := db.TakeShift(t.Context(), "sink", 0, name, Now, Now.Add(time.Minute))
				if err != nil {
					t.Error(err)
					return
				}
				if shift.Holder != name {
					continue
				}
				if held.Add(1) != 1 {
					t.Error("two hold one shift")
				}
				rounds.Add(1)
				held.Add(-1)
				if err := db.MoveShift(t.Context(), "sink", name, shift.Next+1, Now); err != nil { // over at once
					t.Error(err)
				}
			}
		})
	}
	work.Wait()
	shift, err := place(t).Shift(t.Context(), "sink")
	do(t, err)
	same(t, "the steps taken", shift.Next, rounds.Load())
}

func testIndexAt(t *testing.T, place Place) {
	db := place(t)
	n, err := db.Size(t.Context())
	do(t, err)
	same(t, "size of nothing", n, 0)
	for i := range 200 {
		at := Now.Add(time.Duration(i) * time.Minute)
		e := Event("device.show", "d1")
		e.ID, e.At, e.Decision = audit.NewID(at), at, json.RawMessage(`{}`)
		do(t, db.Append(t.Context(), e))
	}
	grow := newPlant(t, db).grow
	_, err = db.Sequence(t.Context(), 1000, grow)
	do(t, err)
	n, err = db.Size(t.Context())
	do(t, err)
	same(t, "size", n, 200)
	for at, low := range map[time.Duration]int64{-time.Hour: 0, 100 * time.Minute: 90, 1000 * time.Hour: 200} {
		n, err := db.IndexAt(t.Context(), Now.Add(at))
		do(t, err)
		if n < low || n > max(low, int64(at/time.Minute)) && at < 200*time.Minute {
			t.Errorf("the first entry after %v has index %d", at, n)
		}
	}
}

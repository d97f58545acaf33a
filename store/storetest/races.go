package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/enroll"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/store"
)

// The races run over two handles of one database, as two processes would.

// testTokenRace: a token good for one use yields exactly one certificate.
func testTokenRace(t *testing.T, place Place) {
	handles := []*store.DB{place(t), place(t)}
	ids := register(t, handles[0], 100)
	for _, uses := range []int{1, 7} {
		token := newToken(t, handles[0], uses)
		issuances := make([]ca.Issuance, len(ids))
		for n, id := range ids {
			issuances[n] = Issuance(t, id, Key(t))
			issuances[n].Token = token.ID
		}
		errs := together(len(ids), func(n int) error { return handles[n%2].Issue(context.Background(), issuances[n]) })
		if n := settled(t, errs, fault.Denied, "token_used"); n != uses {
			t.Fatalf("a token for %d certificates yielded %d", uses, n)
		}
		for n, err := range errs {
			wantRecorded(t, handles[0], issuances[n].Event, err == nil)
		}
		found, _, err := handles[1].TokenByHash(t.Context(), token.Hash, "")
		do(t, err)
		same(t, "uses counted", found.Used, uses)
	}
}

// testKeyRace: one new key, many devices: one of them gets it.
func testKeyRace(t *testing.T, place Place) {
	handles := []*store.DB{place(t), place(t)}
	ids := register(t, handles[0], 40)
	for range 5 {
		key := Key(t)
		errs := together(len(ids), func(n int) error {
			return handles[n%2].Issue(context.Background(), Issuance(t, ids[n], key))
		})
		if n := settled(t, errs, fault.Denied, "key_in_use"); n != 1 {
			t.Fatalf("one key went to %d devices", n)
		}
	}
}

// testAdmitRace: a stranger that asks many times at once is admitted once.
func testAdmitRace(t *testing.T, place Place) {
	handles := []*store.DB{place(t), place(t)}
	errs := together(20, func(n int) error {
		i := Issuance(t, "stranger", Key(t))
		i.Admit = &fleet.Device{ID: "stranger", Serial: "S1"}
		return handles[n%2].Issue(context.Background(), i)
	})
	do(t, errors.Join(errs...))
	devices, err := handles[0].Devices(t.Context(), fleet.Filter{})
	do(t, err)
	same(t, "devices", len(devices), 1)
	found, err := handles[1].Certificates(t.Context(), ca.Filter{Device: "stranger"})
	do(t, err)
	same(t, "certificates", len(found), 20)
}

// testQuarantineRace: once a quarantine is acknowledged, nothing is issued.
func testQuarantineRace(t *testing.T, place Place) {
	handles := []*store.DB{place(t), place(t)}
	id := register(t, handles[0], 1)[0]
	var stopped atomic.Bool
	errs := together(60, func(n int) error {
		if n == 30 {
			move(t, handles[1], id, fleet.Quarantined)
			stopped.Store(true)
			return nil
		}
		i := Issuance(t, id, Key(t))
		late := stopped.Load()
		err := handles[n%2].Issue(context.Background(), i)
		if err == nil && late {
			return errors.New("issued after the quarantine")
		}
		return err
	})
	settled(t, errs, fault.Denied, "device_not_in_service")
}

// testPoison: calls that cannot be written fail alone, whoever they share a transaction with.
func testPoison(t *testing.T, place Place) {
	db := place(t)
	ids := register(t, db, 60)
	first := issue(t, db, ids[0])
	issuances := make([]ca.Issuance, len(ids))
	for n, id := range ids {
		issuances[n] = Issuance(t, id, Key(t))
		switch n % 6 {
		case 1:
			issuances[n].Certificate.Serial = first.Certificate.Serial
		case 3:
			issuances[n].Event.ID = first.Event.ID
		case 5:
			issuances[n].Certificate.Device = "unknown"
		}
	}
	errs := together(len(ids), func(n int) error { return db.Issue(context.Background(), issuances[n]) })
	for n, err := range errs {
		switch n % 6 {
		case 1:
			want(t, err, fault.Conflict, "serial_exists")
		case 3:
			want(t, err, fault.Conflict, "record_exists")
		case 5:
			want(t, err, fault.Denied, "device_not_in_service")
		default:
			do(t, err)
			wantRecorded(t, db, issuances[n].Event, true)
		}
	}
}

// testGivingUp: a caller that has stopped waiting before its turn has written nothing.
func testGivingUp(t *testing.T, place Place) {
	db := place(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	id := register(t, db, 1)[0]
	for range 20 {
		i := Issuance(t, id, Key(t))
		if err := db.Issue(ctx, i); err != nil {
			want(t, err, fault.Busy, "gave_up_waiting")
			wantRecorded(t, db, i.Event, false)
		} else {
			wantRecorded(t, db, i.Event, true)
		}
	}
	_, err := db.Device(ctx, id)
	want(t, err, fault.Busy, "gave_up_waiting")
}

// testHeldRace: many tries of one request make one held request.
func testHeldRace(t *testing.T, place Place) {
	handles := []*store.DB{place(t), place(t)}
	h := heldRequest("d1")
	errs := together(30, func(n int) error {
		mine := h
		mine.ID = fmt.Sprintf("%s-%02d", h.ID, n)
		_, err := handles[n%2].Hold(context.Background(), mine, Event("certificate.issue", "d1"))
		return err
	})
	do(t, errors.Join(errs...))
	found, err := handles[0].HeldRequests(t.Context(), enroll.HeldFilter{})
	do(t, err)
	if len(found) != 1 || found[0].Attempts != 30 {
		t.Fatalf("30 tries of one request made %d, with attempts %+v", len(found), found)
	}

	// Many issuances on one approval: one certificate.
	register(t, handles[0], 1)
	do(t, handles[0].SettleHeld(t.Context(), enroll.Settlement{ID: found[0].ID, To: enroll.Approved, By: "admin", At: Now}, Event("request.approve", found[0].ID)))
	ids := register(t, handles[0], 20)
	errs = together(len(ids), func(n int) error {
		i := Issuance(t, ids[n], Key(t))
		i.Request = found[0].ID
		return handles[n%2].Issue(context.Background(), i)
	})
	if n := settled(t, errs, fault.Conflict, "request_not_approved"); n != 1 {
		t.Fatalf("one approval yielded %d certificates", n)
	}
}

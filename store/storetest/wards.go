package storetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	mathrand "math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/store"
)

// testWarden: a quarantine stands together with the event that tells why.
func testWarden(t *testing.T, place Place) {
	db := place(t)
	ids := register(t, db, 4)
	issue(t, db, ids[1])
	move(t, db, ids[2], fleet.Retired)
	move(t, db, ids[3], fleet.Quarantined)
	for n, c := range []struct {
		id     string
		state  fleet.State
		reason string
	}{{ids[0], fleet.Quarantined, "pcr 7"}, {ids[1], fleet.Quarantined, "pcr 7"}, {ids[2], fleet.Retired, "test"}, {ids[3], fleet.Quarantined, "test"}, {id: "unknown"}} {
		event := Event("certificate.renew", c.id)
		event.At = Now.Add(time.Duration(n+1) * time.Second)
		do(t, db.Quarantine(t.Context(), c.id, "pcr 7", event))
		wantRecorded(t, db, event, true)
		d, err := db.Device(t.Context(), c.id)
		if c.state == "" {
			want(t, err, fault.NotFound, "device_unknown")
			continue
		}
		do(t, err)
		same(t, "state", fmt.Sprint(d.State, " ", d.Reason), fmt.Sprint(c.state, " ", c.reason))
		if changed := d.Changed.Equal(event.At.Truncate(time.Millisecond)); changed != (c.reason == "pcr 7") {
			t.Fatalf("device %s was changed at %v", c.id, d.Changed)
		}
		refused(t, db, Issuance(t, c.id, Key(t)), fault.Denied, "device_not_in_service")
	}
	event := Event("certificate.renew", ids[0])
	do(t, db.Append(t.Context(), event))
	want(t, db.Quarantine(t.Context(), ids[0], "again", event), fault.Conflict, "record_exists")
}

// testWardenRace: once a quarantine has returned, nothing is issued, not even
// by a transaction that it shared.
func testWardenRace(t *testing.T, place Place) {
	handles := []*store.DB{place(t), place(t)}
	for range 5 {
		id := register(t, handles[0], 1)[0]
		var stopped atomic.Bool
		errs := together(40, func(n int) error {
			if n == 20 {
				err := handles[1].Quarantine(context.Background(), id, "clock", Event("certificate.renew", id))
				stopped.Store(true)
				return err
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
		d, err := handles[0].Device(t.Context(), id)
		do(t, err)
		same(t, "state", d.State, fleet.Quarantined)
	}
}

// testBondRace: one TPM goes to one device, and one device has one TPM.
func testBondRace(t *testing.T, place Place) {
	handles := []*store.DB{place(t), place(t)}
	ids := register(t, handles[0], 30)
	for round := range 4 {
		tpm := NewTPM()
		if round%2 == 1 {
			tpm.EK = ""
		}
		fresh := register(t, handles[0], len(ids))
		issuances := make([]ca.Issuance, len(ids))
		for n, id := range fresh {
			o := Outcome(id, tpm, 1, 0)
			issuances[n] = Issuance(t, id, Key(t))
			issuances[n].Attested = &o
		}
		errs := together(len(ids), func(n int) error { return handles[n%2].Issue(context.Background(), issuances[n]) })
		if n := settled(t, errs, fault.Denied, "ek_mismatch"); n != 1 {
			t.Fatalf("one TPM went to %d devices", n)
		}
		for n, err := range errs {
			wantRecorded(t, handles[0], issuances[n].Event, err == nil)
			wantEvidence(t, handles[0], issuances[n].Attested.Blobs, err == nil)
		}
	}
	id := ids[0]
	errs := together(30, func(n int) error {
		return handles[n%2].Attest(context.Background(), Outcome(id, NewTPM(), uint64(n), 0), Event("device.attest", id))
	})
	if n := settled(t, errs, fault.Denied, "ek_mismatch"); n != 1 {
		t.Fatalf("one device was bound to %d TPMs", n)
	}
}

// testRenewalRace: renewals of one device at once all come through, and leave
// the clock of the last.
func testRenewalRace(t *testing.T, place Place) {
	handles := []*store.DB{place(t), place(t)}
	id, tpm := register(t, handles[0], 1)[0], NewTPM()
	first := bind(t, handles[0], id, tpm, 1).Bond
	outcomes := make([]attest.Outcome, 40)
	var latest attest.Bond
	for n, clock := range mathrand.Perm(len(outcomes)) {
		outcomes[n] = Outcome(id, tpm, uint64(clock+2), 8000)
		if clock == len(outcomes)-1 {
			latest = outcomes[n].Bond
		}
	}
	do(t, errors.Join(together(len(outcomes), func(n int) error {
		i := Issuance(t, id, Key(t))
		i.Attested = &outcomes[n]
		return handles[n%2].Issue(context.Background(), i)
	})...))
	latest.First = first.First
	wantBond(t, handles[0], latest)
	for n := range outcomes {
		wantEvidence(t, handles[1], outcomes[n].Blobs, true)
	}
}

// testCrowd: everything that shares transactions, at once, and some of it impossible: that fails alone.
func testCrowd(t *testing.T, place Place) {
	handles := []*store.DB{place(t), place(t)}
	const n = 160
	ids := register(t, handles[0], n)
	tpms := make([]TPM, n)
	issuances := make([]ca.Issuance, n)
	for i := range tpms {
		tpms[i] = NewTPM()
		o := Outcome(ids[i], tpms[i], 5, 5000)
		issuances[i] = Issuance(t, ids[i], Key(t))
		if i%3 != 0 {
			issuances[i].Attested = &o
		}
	}
	first := Event("a.b", ids[0])
	do(t, handles[0].Append(t.Context(), first))
	errs := together(6*n, func(j int) error {
		db, i := handles[j%2], j%n
		switch j / n {
		case 0:
			return db.Issue(context.Background(), issuances[i])
		case 1:
			return db.Spend(context.Background(), randomKey(), time.UnixMilli(math.MaxInt64/2))
		case 2:
			return db.Attest(context.Background(), Outcome(ids[i], tpms[i], 9, 0), Event("device.attest", ids[i]))
		case 3:
			return db.KeepEvidence(context.Background(), Outcome(ids[i], tpms[i], 1, 5000).Blobs)
		case 4:
			if i%8 == 0 {
				return db.Append(context.Background(), first)
			}
			return db.Append(context.Background(), Event("a.b", ids[i]))
		}
		return db.Keep(context.Background(), randomKey(), []byte("body"), Now)
	})
	same(t, "calls that came through", settled(t, errs, fault.Conflict, "record_exists"), 6*n-n/8)
	for i, id := range ids {
		bond, err := handles[i%2].Bond(t.Context(), id)
		do(t, err)
		same(t, "clock", bond.Clock.Clock, 9)
		wantRecorded(t, handles[0], issuances[i].Event, true)
	}
}

package storetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	mathrand "math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/fleet"
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

func testBaselines(t *testing.T, place Place) {
	db := place(t)
	yes := true
	var all []attest.Baseline
	for n := range 5 {
		b := attest.Baseline{ID: audit.NewID(Now.Add(time.Duration(n) * time.Second)).String(), Model: fmt.Sprintf("m%d", n%2), Firmware: "2.1", State: attest.Draft,
			PCRs:      map[string]map[int][]string{"sha256": {0: {randomHash(), randomHash()}, 7: {randomHash()}}},
			Events:    map[int][]attest.Event{0: {{Index: 3, Type: "EV_POST_CODE", Digest: randomHash(), Says: "é \x01\n"}}},
			Log:       attest.LogRules{SecureBoot: &yes, Allowed: map[int][]string{4: {randomHash()}}, Denied: []string{randomHash()}},
			ValidFrom: Now, Source: "device d1", Created: Now, By: "admin", Changed: Now.Truncate(time.Millisecond)}
		event := Event("baseline.add", b.ID)
		do(t, db.AddBaseline(t.Context(), b, event))
		wantRecorded(t, db, event, true)
		all = append([]attest.Baseline{b}, all...)
	}
	list := func(f attest.BaselineFilter, wanted ...attest.Baseline) {
		t.Helper()
		found, err := db.Baselines(t.Context(), f)
		do(t, err)
		for i := range found { // pointers print as addresses
			if found[i].Log.SecureBoot == nil || !*found[i].Log.SecureBoot {
				t.Fatal("a log rule was lost")
			}
			found[i].Log.SecureBoot = &yes
		}
		same(t, "baselines", found, append([]attest.Baseline(nil), wanted...))
	}
	list(attest.BaselineFilter{}, all...)
	list(attest.BaselineFilter{Limit: 2}, all[:2]...)
	list(attest.BaselineFilter{Before: all[2].ID}, all[3:]...)
	list(attest.BaselineFilter{Model: "m1"}, all[1], all[3])
	list(attest.BaselineFilter{ID: all[4].ID}, all[4])
	list(attest.BaselineFilter{State: attest.Active})

	event := Event("baseline.add", all[0].ID)
	want(t, db.AddBaseline(t.Context(), all[0], event), fault.Conflict, "")
	wantRecorded(t, db, event, false)

	m := attest.BaselineMove{ID: all[1].ID, From: []attest.BaselineState{attest.Draft}, To: attest.Canary, Canary: "ring=1", By: "eve", Reason: "try", At: Now.Add(time.Hour)}
	event = Event("baseline.activate", m.ID)
	do(t, db.MoveBaseline(t.Context(), m, event))
	wantRecorded(t, db, event, true)
	b := &all[1]
	b.State, b.Canary, b.ChangedBy, b.Why, b.Changed = m.To, m.Canary, m.By, m.Reason, m.At.Truncate(time.Millisecond)
	list(attest.BaselineFilter{State: attest.Canary}, *b)
	event = Event("baseline.activate", m.ID)
	want(t, db.MoveBaseline(t.Context(), m, event), fault.Conflict, "baseline_state")
	wantRecorded(t, db, event, false)
	m.From, m.To, m.Canary = []attest.BaselineState{attest.Canary, attest.Draft}, attest.Active, ""
	do(t, db.MoveBaseline(t.Context(), m, Event("baseline.activate", m.ID)))
	b.State = attest.Active
	list(attest.BaselineFilter{Model: "m1", State: attest.Active}, *b)
	m.ID = "unknown"
	event = Event("baseline.activate", m.ID)
	want(t, db.MoveBaseline(t.Context(), m, event), fault.NotFound, "baseline_unknown")
	wantRecorded(t, db, event, false)
}

// testCrowd: everything that shares transactions, at once.
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
	do(t, errors.Join(together(6*n, func(j int) error {
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
			return db.Append(context.Background(), Event("a.b", ids[i]))
		}
		return db.Keep(context.Background(), randomKey(), []byte("body"), Now)
	})...))
	for i, id := range ids {
		bond, err := handles[i%2].Bond(t.Context(), id)
		do(t, err)
		same(t, "clock", bond.Clock.Clock, 9)
		wantRecorded(t, handles[0], issuances[i].Event, true)
	}
}

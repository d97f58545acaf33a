package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

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

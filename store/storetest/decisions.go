package storetest

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/store"
)

// mixed writes n events of devices and of people, in no strict order of time, and
// returns them newest first.
func mixed(t testing.TB, db *store.DB, n int) []audit.Event {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	var all []audit.Event
	for i := range n {
		at := Now.Add(time.Duration(i)*time.Minute - time.Duration(random.IntN(4*60))*time.Second)
		e := audit.Event{ID: audit.NewID(at), At: at, Outcome: audit.Granted, Decision: json.RawMessage(`{}`)}
		device := audit.Party{Type: "device", ID: fmt.Sprintf("d%d", random.IntN(5))}
		switch i % 4 {
		case 0, 1:
			e.Action, e.Actor, e.Object = []string{"certificate.issue", "certificate.renew"}[i%2], device, device
		case 2:
			e.Action, e.Actor, e.Object = []string{"token.create", "device.show"}[random.IntN(2)], audit.Party{Type: "user", ID: fmt.Sprintf("u%d", random.IntN(3))}, device
		case 3: // a person about themselves, and one whose name is that of a device
			e.Action, e.Actor = "operator.show", audit.Party{Type: "user", ID: []string{"u0", "d1"}[random.IntN(2)]}
			e.Object = audit.Party{Type: "operator", ID: e.Actor.ID}
		}
		switch random.IntN(6) {
		case 0:
			e.Outcome = audit.Refused
		case 1:
			e.Outcome = audit.Held
		case 2:
			e.Outcome, e.Decision = audit.Done, nil
		}
		do(t, db.Append(t.Context(), e))
		all = append(all, e)
	}
	slices.Reverse(all)
	return all
}

// matches is what audit.Query says, in so many words.
func matches(q audit.Query, e audit.Event) bool {
	return (q.Action == "" || q.Action == e.Action) && (q.Actor == "" || q.Actor == e.Actor.ID) && (q.Object == "" || q.Object == e.Object.ID) &&
		(q.Outcome == "" || q.Outcome == e.Outcome) && (!q.Decided || e.Decision != nil) &&
		(q.Since.IsZero() || e.At.UnixMilli() >= q.Since.UnixMilli()) && (q.Until.IsZero() || e.At.UnixMilli() < q.Until.UnixMilli())
}

// testFilters holds every combination of filters, page by page, against a plain search.
func testFilters(t *testing.T, place Place) {
	db := place(t)
	all := mixed(t, db, 240)
	for _, action := range []string{"", "certificate.issue", "certificate.renew", "token.create", "operator.show", "no.such"} {
		for _, actor := range []string{"", "d1", "u0", "u2", "nobody"} {
			for _, object := range []string{"", "d1", "u0"} {
				for _, outcome := range []audit.Outcome{"", audit.Granted, audit.Refused, audit.Held, audit.Done} {
					for _, period := range [][2]time.Duration{{}, {time.Hour, 0}, {0, 2 * time.Hour}, {90 * time.Minute, 150 * time.Minute}, {300 * time.Hour, 0}} {
						q := audit.Query{Action: action, Actor: actor, Object: object, Outcome: outcome, Decided: outcome == audit.Refused, Limit: 17}
						if period[0] > 0 {
							q.Since = Now.Add(period[0])
						}
						if period[1] > 0 {
							q.Until = Now.Add(period[1])
						}
						checkPages(t, db, q, all)
					}
				}
			}
		}
	}
}

func checkPages(t *testing.T, db *store.DB, q audit.Query, all []audit.Event) {
	t.Helper()
	var got, want []string
	for _, e := range all {
		if matches(q, e) {
			leaf, err := e.Leaf()
			do(t, err)
			want = append(want, string(leaf))
		}
	}
	for {
		page, err := db.Entries(t.Context(), q)
		do(t, err)
		for _, e := range page {
			got, q.Before = append(got, string(e.Leaf)), e.Position
		}
		if len(page) < q.Limit {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%+v: %d entries, want %d", q, len(got), len(want))
	}
}

func testCountDecisions(t *testing.T, place Place) {
	db := place(t)
	all := mixed(t, db, 120)
	for _, actor := range []string{"u0", "u1", "d1", "nobody"} {
		for _, action := range []string{"token.create", "operator.show", "certificate.issue"} {
			for _, since := range []time.Duration{0, time.Hour, 1000 * time.Hour} {
				want := 0
				for _, e := range all {
					if matches(audit.Query{Action: action, Actor: actor, Outcome: audit.Granted, Since: Now.Add(since)}, e) {
						want++
					}
				}
				if action == "certificate.issue" {
					want = 0
				}
				n, err := db.CountDecisions(t.Context(), actor, action, Now.Add(since), 1000)
				do(t, err)
				same(t, fmt.Sprintf("%s of %s in %v", action, actor, since), n, want)
				n, err = db.CountDecisions(t.Context(), actor, action, Now.Add(since), 2)
				do(t, err)
				same(t, "no further than 2", n, min(want, 2))
			}
		}
	}
}

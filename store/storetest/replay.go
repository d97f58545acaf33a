package storetest

import (
	"fmt"
	"testing"

	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy/release"
	"github.com/hallmark-pki/hallmark/store"
)

// testReplays: one replay goes on at a time, over all processes; its end is kept with its proposal or not at all.
func testReplays(t *testing.T, place Place) {
	db, other := place(t), place(t)
	first, second := propose(t, db, 1, "b"), propose(t, db, 2, "b")
	run := func(id string, p release.Proposal) release.Rehearsal {
		return release.Rehearsal{ID: id, Proposal: p.ID, State: release.Ongoing, By: "eve"}
	}
	a := run("r1", first)
	do(t, db.BeginReplay(t.Context(), a, Event("policy.replay", first.ID)))
	for _, again := range []release.Rehearsal{run("r2", first), run("r2", second)} {
		event := Event("policy.replay", again.Proposal)
		want(t, other.BeginReplay(t.Context(), again, event), fault.Conflict, "replay_running")
		wantRecorded(t, db, event, false)
	}
	a.Beat, a.Progress.Entries = 1, 7
	do(t, db.KeepReplay(t.Context(), a))
	found, err := other.Replays(t.Context(), "")
	do(t, err)
	same(t, "what goes on", found, []release.Rehearsal{a})

	stale := first
	stale.Edition = 7
	want(t, db.EndReplay(t.Context(), a, &stale, Event("policy.replayed", first.ID)), fault.Conflict, "proposal_changed")
	a.State, first.Replay = release.Finished, &release.Replay{ID: "r1"}
	do(t, db.EndReplay(t.Context(), a, &first, Event("policy.replayed", first.ID)))
	if p := stored(t, other, first.ID); p.Replay == nil || p.Replay.ID != "r1" {
		t.Errorf("the proposal has %+v", p.Replay)
	}
	want(t, db.KeepReplay(t.Context(), a), fault.Conflict, "replay_over")
	want(t, db.EndReplay(t.Context(), a, nil, Event("policy.replayed", first.ID)), fault.Conflict, "replay_over")
	if found, err := db.Replays(t.Context(), ""); err != nil || len(found) != 0 {
		t.Errorf("%+v goes on, %v", found, err)
	}
	errs := together(4, func(i int) error { // of several that begin at once one does
		next := run(fmt.Sprint("race", i), []release.Proposal{first, second}[i%2])
		return []*store.DB{db, other}[i%2].BeginReplay(t.Context(), next, Event("policy.replay", next.Proposal))
	})
	began := 0
	for _, err := range errs {
		if err == nil {
			began++
		} else {
			want(t, err, fault.Conflict, "")
		}
	}
	if began != 1 {
		t.Errorf("%d replays go on", began)
	}
}

// testDifferences: what one replay found at one place counts together; it is listed by place, and goes when nobody shows it.
func testDifferences(t *testing.T, place Place) {
	db := place(t)
	p := propose(t, db, 1, "b")
	do(t, db.BeginReplay(t.Context(), release.Rehearsal{ID: "r1", Proposal: p.ID, State: release.Ongoing}, Event("policy.replay", p.ID)))
	var all []release.Listed
	for i := range 10 {
		d := release.Listed{Part: release.InFleet, Place: []byte{0, byte(i)}}
		d.Class, d.Action, d.Resource, d.Count, d.Is.Code = release.AllowToDeny, "certificate.renew", fmt.Sprint("gw-", i), 1, "no"
		if i > 7 {
			d.Part = release.InRecord
		}
		all = append(all, d)
	}
	do(t, db.AddDifferences(t.Context(), "r1", all))
	do(t, db.AddDifferences(t.Context(), "r1", all[9:]))
	do(t, db.AddDifferences(t.Context(), "orphan", all))
	for _, c := range []struct {
		f release.DifferenceFilter
		n int
	}{{release.DifferenceFilter{}, 10}, {release.DifferenceFilter{Part: release.InRecord}, 2}, {release.DifferenceFilter{Resource: "gw-3", Code: "no"}, 1},
		{release.DifferenceFilter{After: []byte{0, 4}, Limit: 3}, 3}, {release.DifferenceFilter{Class: release.DenyToAllow}, 0}} {
		c.f.Replay = "r1"
		found, err := db.Differences(t.Context(), c.f)
		if do(t, err); len(found) != c.n {
			t.Errorf("%+v selects %d, want %d", c.f, len(found), c.n)
		}
		if c.n == 10 && (found[9].Count != 2 || found[9].Resource != "gw-9" || found[0].Is.Code != "no" || found[0].Place[1] != 0) {
			t.Errorf("got %+v", found)
		}
	}
	do(t, db.SweepDifferences(t.Context()))
	for replay, n := range map[string]int{"r1": 10, "orphan": 0} {
		if found, err := db.Differences(t.Context(), release.DifferenceFilter{Replay: replay}); err != nil || len(found) != n {
			t.Errorf("of %s are left %d, %v", replay, len(found), err)
		}
	}
}

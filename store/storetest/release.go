package storetest

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy/release"
	"github.com/hallmark-pki/hallmark/store"
)

// proposal makes the nth of some proposals to change the rules called base.
func proposal(n int, base string) release.Proposal {
	at := Now.Add(time.Duration(n) * time.Second).Truncate(time.Millisecond)
	return release.Proposal{ID: audit.NewID(at).String(), Digest: fmt.Sprintf("sha256:%064d", n), Base: base, State: release.Open,
		Author: "ada", Created: at, Changed: at, Expires: at.Add(time.Hour), Bundle: []byte{0, byte(n), 255}}
}

// propose stores a new proposal.
func propose(t testing.TB, db *store.DB, n int, base string) release.Proposal {
	t.Helper()
	p := proposal(n, base)
	do(t, db.AddProposal(t.Context(), p, Event("policy.propose", p.ID)))
	return p
}

// stored reads a proposal back.
func stored(t testing.TB, db *store.DB, id string) release.Proposal {
	t.Helper()
	found, err := db.Proposals(t.Context(), release.ProposalFilter{ID: id})
	do(t, err)
	if len(found) != 1 {
		t.Fatalf("%d proposals have one id", len(found))
	}
	return found[0]
}

func testProposals(t *testing.T, place Place) {
	db := place(t)
	var all []release.Proposal
	for n := range 4 {
		all = append([]release.Proposal{propose(t, db, n, "b")}, all...)
	}
	same(t, "one proposal", stored(t, db, all[2].ID), all[2])
	want(t, db.AddProposal(t.Context(), all[0], Event("policy.propose", all[0].ID)), fault.Conflict, "")

	changed := all[1]
	changed.State, changed.Replay = release.Approved, &release.Replay{By: "eve", Fleet: release.Tally{Asked: 3, Totals: map[release.Class]int{release.AllowToDeny: 1}}}
	changed.Approvals = []release.Approval{{By: "eve", At: Now.Truncate(time.Millisecond), Digest: changed.Digest}}
	event := Event("policy.approve", changed.ID)
	do(t, db.ChangeProposal(t.Context(), changed, event))
	wantRecorded(t, db, event, true)
	event = Event("policy.approve", changed.ID)
	want(t, db.ChangeProposal(t.Context(), changed, event), fault.Conflict, "proposal_changed") // it has another edition by now
	wantRecorded(t, db, event, false)
	again := stored(t, db, changed.ID)
	if again.Edition != 1 || again.State != release.Approved || again.Approvals[0].By != "eve" || again.Replay.Fleet.Total(release.AllowToDeny) != 1 || !bytes.Equal(again.Bundle, all[1].Bundle) {
		t.Fatalf("got %+v", again)
	}
	for _, c := range []struct {
		f release.ProposalFilter
		n int
	}{{release.ProposalFilter{}, 4}, {release.ProposalFilter{Limit: 2}, 2}, {release.ProposalFilter{State: release.Approved}, 1},
		{release.ProposalFilter{Before: all[1].ID}, 2}, {release.ProposalFilter{Author: "eve"}, 0}} {
		found, err := db.Proposals(t.Context(), c.f)
		do(t, err)
		if len(found) != c.n || c.n > 0 && found[0].Bundle != nil {
			t.Errorf("%+v selects %d, want %d without bundles", c.f, len(found), c.n)
		}
	}
}

// turnTo is the turn that puts a proposal in force as revision n.
func turnTo(from release.Course, p release.Proposal, n int64) release.Turn {
	p.State, p.Revision = release.Active, n
	return release.Turn{From: from, To: release.Course{Version: from.Version + 1, Revision: n}, InForce: p.Digest, Proposals: []release.Proposal{p},
		Revisions: []release.Revision{{Number: n, Digest: p.Digest, Proposal: p.ID, By: "eve", Keepers: []string{"ada", "eve"}, At: p.Changed, Bundle: p.Bundle}}}
}

func testTurn(t *testing.T, place Place) {
	db, other := place(t), place(t)
	first, late := propose(t, db, 1, "b"), propose(t, db, 2, "b")
	start, err := db.Course(t.Context())
	do(t, err)
	same(t, "the first course", start, release.Course{})
	event := Event("policy.activate", first.ID)
	do(t, db.Turn(t.Context(), turnTo(start, first, 1), event))
	wantRecorded(t, db, event, true)
	course, err := other.Course(t.Context()) // another replica
	do(t, err)
	same(t, "the course", course, release.Course{Version: 1, Revision: 1})
	if p := stored(t, other, first.ID); p.State != release.Active || p.Revision != 1 {
		t.Errorf("the proposal in force is %+v", p)
	}
	if p := stored(t, other, late.ID); p.State != release.Superseded {
		t.Errorf("what built on other rules is %s", p.State)
	}

	event = Event("policy.activate", late.ID)
	want(t, other.Turn(t.Context(), turnTo(start, late, 2), event), fault.Conflict, "course_changed")
	wantRecorded(t, db, event, false)
	want(t, other.Turn(t.Context(), turnTo(course, late, 2), event), fault.Conflict, "proposal_changed") // read before it was superseded
	want(t, other.Turn(t.Context(), turnTo(course, stored(t, db, late.ID), 1), event), fault.Conflict, "")
	after, err := db.Course(t.Context()) // and nothing of these turns is kept
	do(t, err)
	same(t, "the course", after, course)

	next := propose(t, db, 3, first.Digest)
	do(t, db.Turn(t.Context(), turnTo(course, next, 2), Event("policy.activate", next.ID)))
	if p := stored(t, db, first.ID); p.State != release.Superseded {
		t.Errorf("what was in force is %s", p.State)
	}
	back := release.Turn{From: release.Course{Version: 2, Revision: 2}, To: release.Course{Version: 3, Revision: 3}, InForce: first.Digest,
		Revisions: []release.Revision{{Number: 3, Digest: first.Digest, Of: 1, By: "eve"}}}
	do(t, db.Turn(t.Context(), back, Event("policy.rollback", "1")))
	found, err := db.Revisions(t.Context(), release.RevisionFilter{Number: 3})
	do(t, err)
	if len(found) != 1 || !bytes.Equal(found[0].Bundle, first.Bundle) || found[0].Of != 1 {
		t.Errorf("the return is %+v", found)
	}
	found, err = db.Revisions(t.Context(), release.RevisionFilter{Before: 3})
	do(t, err)
	if len(found) != 2 || found[0].Number != 2 || found[0].Bundle != nil || len(found[1].Keepers) != 2 {
		t.Errorf("the history is %+v", found)
	}
}

// testTurnRace: of several replicas that turn at once one does.
func testTurnRace(t *testing.T, place Place) {
	const n = 6
	var handles [n]*store.DB
	var proposals [n]release.Proposal
	for i := range n {
		handles[i] = place(t)
		proposals[i] = propose(t, handles[i], i, "b")
	}
	errs := together(n, func(i int) error {
		return handles[i].Turn(t.Context(), turnTo(release.Course{}, proposals[i], 1), Event("policy.activate", proposals[i].ID))
	})
	if done := settled(t, errs, fault.Conflict, "course_changed"); done != 1 {
		t.Errorf("%d turns from one course", done)
	}
	active, err := handles[0].Proposals(t.Context(), release.ProposalFilter{State: release.Active})
	do(t, err)
	if len(active) != 1 {
		t.Errorf("%d proposals are in force", len(active))
	}
}

func testTallies(t *testing.T, place Place) {
	db := place(t)
	for i, asked := range []int{1, 5, 7} {
		do(t, db.KeepTally(t.Context(), "p1", fmt.Sprintf("process %d", i%2), release.Tally{Asked: asked}))
	}
	found, err := db.Tallies(t.Context(), "p1")
	do(t, err)
	if len(found) != 2 || found[0].Asked != 7 || found[1].Asked != 5 {
		t.Errorf("got %+v", found)
	}
	if found, err = db.Tallies(t.Context(), "p2"); err != nil || len(found) != 0 {
		t.Errorf("got %+v, %v", found, err)
	}
}

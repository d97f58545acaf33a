package release_test

import (
	"context"
	"fmt"
	"iter"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/policy"
	"github.com/hallmark-pki/hallmark/policy/release"
)

// working runs the world's background work until the test ends, or stop is called.
func (w *world) working() (stop func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	ended := false
	stop = func() {
		if cancel(); !ended {
			ended = true
			must(w.t, <-done)
		}
	}
	w.t.Cleanup(stop)
	return stop
}

// slowly makes the fleet ask nothing until go is closed.
func (w *world) slowly() (goOn chan struct{}) {
	goOn = make(chan struct{})
	w.Renewals = func(ctx context.Context) iter.Seq2[policy.Request, error] {
		return func(yield func(policy.Request, error) bool) {
			select {
			case <-goOn:
				w.renewals(ctx)(yield)
			case <-ctx.Done():
				yield(policy.Request{}, ctx.Err())
			}
		}
	}
	return goOn
}

// open is a proposal by ada that nobody has replayed.
func (w *world) open(bundle []byte) release.Proposal {
	w.t.Helper()
	w.pass(time.Second)
	id := audit.NewID(w.clock()).String()
	p, err := w.Propose(w.t.Context(), w.permit("ada", policy.ProposePolicy, id), release.Draft{ID: id, Bundle: bundle})
	must(w.t, err)
	return p
}

func (w *world) start(id string) (release.Rehearsal, error) {
	return w.StartReplay(w.t.Context(), w.permit("eve", policy.ReplayPolicy, id), id, release.Period{})
}

// ended waits until the last replay of the proposal is over.
func (w *world) ended(id string) release.Rehearsal {
	w.t.Helper()
	for {
		run, err := w.Rehearsal(w.t.Context(), w.permit("eve", policy.ShowPolicy, id), id)
		must(w.t, err)
		if run.State != release.Ongoing {
			return run
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestReplayJob: a replay goes on by itself, one at a time, and what it finds is kept one by one.
func TestReplayJob(t *testing.T) {
	w := newWorld(t, rules(t, "false", "true", "{}"))
	for i := range 1200 {
		w.devices = append(w.devices, fmt.Sprintf("gw-%04d", i))
	}
	goOn := w.slowly()
	w.working()
	p, other := w.open(rules(t, `endswith(input.resource.id, "3")`, "true", "{}")), w.open(rules(t, "true", "true", "{}"))
	run, err := w.start(p.ID)
	must(t, err)
	if run.State != release.Ongoing || run.Digest != p.Digest || run.Base != p.Base || run.By != "eve" {
		t.Errorf("it began as %+v", run)
	}
	_, err = w.start(other.ID)
	wants(t, err, "replay_running")
	_, err = w.start(p.ID)
	wants(t, err, "replay_running")
	// Somebody agrees meanwhile to what was replayed before: neither is lost.
	close(goOn)
	if run = w.ended(p.ID); run.State != release.Finished || run.Progress.Devices != 1200 || !run.Progress.Done {
		t.Fatalf("it ended as %+v", run)
	}
	p, err = w.Find(t.Context(), p.ID)
	must(t, err)
	fleet := &p.Replay.Fleet
	if p.Replay.ID != run.ID || p.Replay.Digest != p.Digest || fleet.Refused != 120 || len(fleet.Differences) != 100 || len(fleet.Truncated) != 1 ||
		len(fleet.Groups) != 1 || fleet.Groups[0].Count != 120 || fleet.Groups[0].Is != "refused" {
		t.Errorf("it found %d refused, %d listed, groups %+v", fleet.Refused, len(fleet.Differences), fleet.Groups)
	}
	seen := map[string]bool{}
	f := release.DifferenceFilter{Part: release.InFleet, Class: release.AllowToDeny, Code: "refused", Action: "certificate.renew", Limit: 50}
	for pages := 0; ; pages++ {
		found, err := w.FindDifferences(t.Context(), w.permit("lin", policy.ShowPolicy, p.ID), p.ID, f)
		must(t, err)
		if len(found) == 0 {
			break
		}
		for _, d := range found {
			seen[d.Resource] = true
			f.After = d.Place
		}
	}
	if len(seen) != 120 || !seen["gw-0003"] || !seen["gw-1193"] {
		t.Errorf("%d devices are listed one by one", len(seen))
	}
	one, err := w.FindDifferences(t.Context(), w.permit("lin", policy.ShowPolicy, p.ID), p.ID, release.DifferenceFilter{Resource: "gw-0013"})
	if must(t, err); len(one) != 1 || one[0].Is.Detail != "not this one" {
		t.Errorf("of one device: %+v", one)
	}
	for _, action := range []string{"policy.replay", "policy.replayed"} {
		if found, err := w.db.Entries(t.Context(), audit.Query{Action: action, Object: p.ID}); err != nil || len(found) != 1 {
			t.Errorf("the record tells of %d times %s, %v", len(found), action, err)
		}
	}
}

// TestReplaysThatEndEarly leave the proposal as it was, say why, and the next one can begin.
func TestReplaysThatEndEarly(t *testing.T) {
	w := newWorld(t, rules(t, "false", "true", "{}"))
	w.devices = []string{"gw-1"}
	first := w.proposed(rules(t, "true", "true", "{}"))
	w.slowly()
	stop := w.working()
	_, err := w.start(first.ID)
	must(t, err)
	run, err := w.CancelReplay(t.Context(), w.permit("lin", policy.ReplayPolicy, first.ID), first.ID)
	if must(t, err); run.State != release.Cancelled || run.Why != "lin has cancelled it" {
		t.Errorf("cancelled: %+v", run)
	}
	again, err := w.CancelReplay(t.Context(), w.permit("lin", policy.ReplayPolicy, first.ID), first.ID)
	if must(t, err); again.ID != run.ID || again.State != release.Cancelled {
		t.Errorf("cancelled once more: %+v", again)
	}
	for { // the cancelled one takes up to a second to notice
		if _, err = w.start(first.ID); err == nil {
			break
		}
		wants(t, err, "replay_running")
		time.Sleep(50 * time.Millisecond)
	}
	stop() // an orderly end of the process
	if run = w.ended(first.ID); run.State != release.Interrupted {
		t.Errorf("stopped: %+v", run)
	}
	unchanged, err := w.Find(t.Context(), first.ID)
	if must(t, err); unchanged.Replay == nil || unchanged.Replay.ID != first.Replay.ID || unchanged.Replay.Fleet.Refused != 1 {
		t.Errorf("the earlier replay is gone: %+v", unchanged.Replay)
	}
}

// TestReplayOfAProcessThatIsGone is ended by another one, whose clock may differ.
func TestReplayOfAProcessThatIsGone(t *testing.T) {
	w := newWorld(t, rules(t, "false", "true", "{}"))
	p := w.open(rules(t, "true", "true", "{}"))
	gone := release.Rehearsal{ID: "gone", Proposal: p.ID, Digest: p.Digest, Base: p.Base, State: release.Ongoing, By: "eve", Began: w.clock().Add(time.Hour)}
	event := audit.Event{ID: audit.NewID(w.clock()), At: w.clock(), Action: "policy.replay", Outcome: audit.Granted,
		Actor: audit.Party{Type: "user", ID: "eve"}, Object: audit.Party{Type: "policy", ID: p.ID}}
	must(t, w.db.BeginReplay(t.Context(), gone, event))
	w.working()
	for looks := 0; ; looks++ {
		run, err := w.Rehearsal(t.Context(), w.permit("eve", policy.ShowPolicy, p.ID), p.ID)
		must(t, err)
		if run.State != release.Ongoing {
			if run.State != release.Interrupted || looks < 5 {
				t.Errorf("after %d looks: %+v", looks, run)
			}
			break
		}
		if looks < 5 { // a sign of life now and then
			gone.Beat++
			must(t, w.db.KeepReplay(t.Context(), gone))
		}
		w.pass(4 * time.Second)
		time.Sleep(400 * time.Millisecond)
	}
	if got, err := w.Find(t.Context(), p.ID); err != nil || got.Replay != nil {
		t.Errorf("the proposal has a replay: %+v, %v", got.Replay, err)
	}
}

// TestReplayWhileTheRulesChange has no result: what it was compared with is gone.
func TestReplayWhileTheRulesChange(t *testing.T) {
	w := newWorld(t, rules(t, "false", "true", "{}"))
	w.devices = []string{"gw-1"}
	first := w.approved(rules(t, "false", "true", `{"n": 1}`))
	second := w.open(rules(t, "false", "true", `{"n": 2}`))
	goOn := w.slowly()
	w.working()
	_, err := w.start(second.ID)
	must(t, err)
	_, err = w.activate(first.ID, all)
	must(t, err)
	close(goOn)
	if run := w.ended(second.ID); run.State != release.Failed || run.Why == "" {
		t.Errorf("it ended as %+v", run)
	}
}

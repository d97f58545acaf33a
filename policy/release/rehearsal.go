package release

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// RehearsalState says whether a replay goes on, and how it ended.
type RehearsalState string

// The states of a replay.
const (
	Ongoing     RehearsalState = "running"
	Finished    RehearsalState = "done" // the proposal shows what it found
	Failed      RehearsalState = "failed"
	Cancelled   RehearsalState = "cancelled"   // by an operator
	Interrupted RehearsalState = "interrupted" // the process that replayed ended
)

// Rehearsal is a replay as a job. It outlives the call that began it, but not
// the process; whatever it has not finished leaves the proposal as it was.
type Rehearsal struct {
	ID       string         `json:"id"`
	Proposal string         `json:"proposal"`
	Digest   string         `json:"digest"` // of the proposed rules
	Base     string         `json:"base"`   // of the rules that they are compared with
	State    RehearsalState `json:"state"`
	Why      string         `json:"why,omitempty"` // it ended without a result
	By       string         `json:"by"`
	Since    time.Time      `json:"since"` // of the decisions that are asked again
	Until    time.Time      `json:"until"`
	Began    time.Time      `json:"began"`
	Changed  time.Time      `json:"changed"`
	Progress Progress       `json:"progress"`
	Beat     int64          `json:"beat"` // grows every second as long as the process that replays lives
}

// describe is the job as a fact of the record.
func (h *Rehearsal) describe() map[string]any {
	f := map[string]any{"id": h.ID, "digest": h.Digest, "base": h.Base, "state": string(h.State), "by": h.By,
		"since": h.Since.UTC().Format(audit.TimeFormat), "until": h.Until.UTC().Format(audit.TimeFormat)}
	if h.Why != "" {
		f["why"] = h.Why
	}
	return f
}

// Replay asks the proposed rules everything that was decided in a period, what
// every device in service will ask at its next renewal, and what every operator
// might, and keeps with the proposal where they answer differently from the rules in
// force. One replay goes on at a time, over all replicas; another is a Conflict with the
// code replay_running. progress is called once a second, never twice at a time; it may be nil.
func (r *Releases) Replay(ctx context.Context, p policy.Permit, id string, over Period, progress func(Progress)) (Proposal, error) {
	run, proposal, err := r.begin(ctx, p, id, over)
	if err != nil {
		return Proposal{}, err
	}
	if err := r.perform(ctx, &run, &proposal, progress); err != nil {
		return Proposal{}, err
	}
	return r.Find(ctx, id)
}

// StartReplay is Replay as a job: it returns at once, and Run does the work,
// whatever becomes of the call. Rehearsal tells how far it is.
func (r *Releases) StartReplay(ctx context.Context, p policy.Permit, id string, over Period) (Rehearsal, error) {
	run, proposal, err := r.begin(ctx, p, id, over)
	if err != nil {
		return Rehearsal{}, err
	}
	select {
	case r.Running.rehearsals() <- rehearsing{run, proposal}:
		return run, nil
	default: // the one before was cancelled, and has not noticed yet
		busy := fault.New(fault.Busy, "replay_running", "the replay before is about to end; try again")
		return Rehearsal{}, errors.Join(busy, r.conclude(ctx, &run, Failed, busy.Says))
	}
}

// CancelReplay ends the replay of a proposal if it goes on, and leaves the
// proposal as it was. One that has ended is returned as it is. The permit is to replay it.
func (r *Releases) CancelReplay(ctx context.Context, p policy.Permit, id string) (Rehearsal, error) {
	if err := p.Covers(policy.ReplayPolicy, id); err != nil {
		return Rehearsal{}, err
	}
	run, err := r.lastReplay(ctx, id)
	if err != nil {
		return run, err
	}
	ongoing := run.State == Ongoing
	if ongoing {
		run.State, run.Why, run.Changed = Cancelled, p.Actor()+" has cancelled it", r.now()
	}
	event, err := p.Redeem(policy.ReplayPolicy, id, policy.Properties{"replay": run.describe()})
	switch {
	case err != nil:
		return Rehearsal{}, err
	case !ongoing: // asked and permitted all the same
		return run, r.Journal.Append(ctx, event)
	}
	return run, r.Replays.EndReplay(ctx, run, nil, event)
}

// Rehearsal returns the last replay of a proposal, or an error of kind NotFound.
// The permit is to show the proposal.
func (r *Releases) Rehearsal(ctx context.Context, p policy.Permit, id string) (Rehearsal, error) {
	if err := p.Covers(policy.ShowPolicy, id); err != nil {
		return Rehearsal{}, err
	}
	return r.lastReplay(ctx, id)
}

func (r *Releases) lastReplay(ctx context.Context, id string) (Rehearsal, error) {
	found, err := r.Replays.Replays(ctx, id)
	if err == nil && (len(found) == 0 || id == "") {
		err = fault.New(fault.NotFound, "not_replayed", "the proposal was never replayed")
	}
	if err != nil {
		return Rehearsal{}, err
	}
	return found[0], nil
}

// begin says that a replay goes on from now.
func (r *Releases) begin(ctx context.Context, p policy.Permit, id string, over Period) (run Rehearsal, proposal Proposal, err error) {
	if err = p.Covers(policy.ReplayPolicy, id); err != nil {
		return run, proposal, err
	}
	now := r.now()
	if err = over.settle(now); err != nil {
		return run, proposal, err
	}
	if proposal, err = r.mustBe(ctx, id, Open, Approved, Shadow, Staged); err != nil {
		return run, proposal, err
	}
	run = Rehearsal{ID: audit.NewID(now).String(), Proposal: id, Digest: proposal.Digest, Base: proposal.Base, State: Ongoing, By: p.Actor(),
		Since: over.Since, Until: over.Until, Began: now, Changed: now}
	event, err := p.Redeem(policy.ReplayPolicy, id, policy.Properties{"replay": run.describe()})
	if err != nil {
		return run, proposal, err
	}
	return run, proposal, r.Replays.BeginReplay(ctx, run, event)
}

// rehearsing is a replay that was begun and waits to be done.
type rehearsing struct {
	run      Rehearsal
	proposal Proposal
}

// rehearse does the replays that were started, until ctx ends. One that still waits then is ended, too.
func (r *Releases) rehearse(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			select {
			case j := <-r.Running.rehearsals():
				return r.conclude(ctx, &j.run, Interrupted, stopped)
			default:
				return nil
			}
		case j := <-r.Running.rehearsals():
			if err := r.perform(ctx, &j.run, &j.proposal, nil); err != nil {
				r.Log.Warn("a replay has ended without a result", "proposal", j.run.Proposal, "error", err)
			}
		}
	}
}

// perform does a replay that was begun, and ends it.
func (r *Releases) perform(ctx context.Context, run *Rehearsal, proposal *Proposal, progress func(Progress)) error {
	working, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	c := r.comparison(run)
	var beating sync.WaitGroup
	quiet := make(chan struct{})
	beating.Go(func() { r.beat(working, run, c, stop, quiet, progress) })
	done, err := r.replay(working, c, run, proposal)
	close(quiet)
	beating.Wait()
	run.Progress = c.progress()
	run.Progress.Done = err == nil
	if progress != nil {
		progress(run.Progress)
	}
	if cause := context.Cause(working); err != nil && cause != nil {
		err = cause
	}
	switch {
	case codeOf(err) == codeOver: // somebody has ended it
	case err != nil && ctx.Err() != nil:
		err = errors.Join(err, r.conclude(ctx, run, Interrupted, stopped))
	case err != nil:
		err = errors.Join(err, r.conclude(ctx, run, Failed, fault.Of(err).Says))
	default:
		err = r.finish(ctx, run, done)
	}
	return errors.Join(err, r.Differences.SweepDifferences(context.WithoutCancel(ctx)))
}

// stopped is why a replay was interrupted.
const stopped = "the server was stopped"

// codeOf is the code of an error; empty where there is none.
func codeOf(err error) string {
	if err == nil {
		return ""
	}
	return fault.Of(err).Code
}

// codeOver is the code of a replay that goes on no more.
const codeOver = "replay_over"

// beat notes once a second how far the replay is. Where somebody has ended it meanwhile, it stops the work.
func (r *Releases) beat(ctx context.Context, run *Rehearsal, c *comparison, stop context.CancelCauseFunc, quiet <-chan struct{}, progress func(Progress)) {
	tick := time.NewTicker(second)
	defer tick.Stop()
	var last int64
	for {
		select {
		case <-tick.C:
		case <-quiet:
			return
		}
		run.Beat++
		run.Changed, run.Progress = r.now(), c.progress()
		run.Progress.Rate, last = run.Progress.Entries-last, run.Progress.Entries
		if progress != nil {
			progress(run.Progress)
		}
		err := r.Replays.KeepReplay(ctx, *run)
		switch {
		case codeOf(err) == codeOver:
			stop(err)
		case err != nil && ctx.Err() == nil:
			r.Log.Warn("the progress of a replay cannot be kept", "proposal", run.Proposal, "error", err)
		}
	}
}

// finish keeps what a replay has found with its proposal, as that is by now.
func (r *Releases) finish(ctx context.Context, run *Rehearsal, done *Replay) error {
	const tries = 5
	for try := 1; ; try++ {
		proposal, err := r.mustBe(ctx, run.Proposal, Open, Approved, Shadow, Staged)
		if err == nil {
			proposal.Replay = done
			run.State, run.Changed = Finished, r.now()
			err = r.Replays.EndReplay(ctx, *run, &proposal, r.told(run, done))
		}
		switch code := codeOf(err); {
		case err == nil || code == codeOver:
			return err
		case code == "proposal_changed" && try < tries: // somebody has approved it, say
		default:
			return errors.Join(err, r.conclude(ctx, run, Failed, fault.Of(err).Says))
		}
	}
}

// conclude ends a replay that has no result.
func (r *Releases) conclude(ctx context.Context, run *Rehearsal, s RehearsalState, why string) error {
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*second)
	defer cancel()
	run.State, run.Why, run.Changed = s, why, r.now()
	return r.Replays.EndReplay(last, *run, nil, r.told(run, nil))
}

// told is the event that a replay has ended.
func (r *Releases) told(run *Rehearsal, done *Replay) audit.Event {
	fact := run.describe()
	if done != nil {
		fact["found"] = done.describe()
	}
	now := r.Now()
	return audit.Event{ID: audit.NewID(now), At: now, Action: "policy.replayed", Outcome: audit.Done,
		Actor: audit.Party{Type: "service", ID: "hallmark"}, Object: audit.Party{Type: "policy", ID: run.Proposal},
		Fact: audit.AppendCanonical(nil, map[string]any{"replay": fact})}
}

// patience is how long a replay may show no sign of life. It goes by this
// process's clock alone: those of replicas may differ.
const patience = 10 * time.Second

// watch ends a replay whose process is gone.
type watch struct {
	id    string
	beat  int64
	since time.Time // of the last sign of life
}

func (w *watch) look(ctx context.Context, r *Releases) error {
	found, err := r.Replays.Replays(ctx, "")
	if err != nil || len(found) == 0 {
		w.id = ""
		return err
	}
	run := &found[0]
	if run.ID != w.id || run.Beat != w.beat {
		*w = watch{run.ID, run.Beat, r.Now()}
		return nil
	}
	if r.Now().Sub(w.since) < patience {
		return nil
	}
	err = r.conclude(ctx, run, Interrupted, "the process that replayed is gone; replay again")
	if codeOf(err) == codeOver {
		return nil // another replica was faster, or it has ended
	}
	if err == nil {
		r.Log.Warn("a replay was interrupted: its process is gone", "proposal", run.Proposal, "by", run.By)
	}
	return err
}

// FindDifferences returns what the last finished replay of a proposal found, or, with
// Part OnTrial, its trial. The permit is to show the proposal.
func (r *Releases) FindDifferences(ctx context.Context, p policy.Permit, id string, f DifferenceFilter) ([]Listed, error) {
	if err := p.Covers(policy.ShowPolicy, id); err != nil {
		return nil, err
	}
	proposal, err := r.Find(ctx, id)
	if err != nil {
		return nil, err
	}
	if f.Part == OnTrial {
		return f.among(proposal.Trial), nil
	}
	if proposal.Replay == nil {
		return nil, fault.New(fault.Conflict, "not_replayed", fmt.Sprintf("replay the proposal first: hallmark policy replay %s", id))
	}
	f.Replay = proposal.Replay.ID
	return r.Differences.Differences(ctx, f)
}

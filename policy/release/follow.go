package release

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

// What Run goes by.
const (
	second  = time.Second      // between looks at the course
	keeping = 10 * time.Second // between writes of what a trial has come to
)

// Run keeps this replica on course, asks rules that are in shadow, and takes a
// trial back whose refusals leave their band, until ctx ends.
func (r *Releases) Run(ctx context.Context) error {
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error { return r.Running.Shadow(ctx) })
	work.Go(func() error { return r.rehearse(ctx) })
	work.Go(func() error { return r.follow(ctx) })
	return work.Wait()
}

func (r *Releases) follow(ctx context.Context) error {
	tick := time.NewTicker(second)
	defer tick.Stop()
	var said string
	var seen watch
	kept := r.Now()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), second)
			defer cancel()
			return r.keep(last, true)
		case <-tick.C:
		}
		said = r.say(said, errors.Join(r.Running.Follow(ctx), r.judge(ctx), seen.look(ctx, r)))
		if now := r.Now(); now.Sub(kept) >= keeping {
			kept = now
			said = r.say(said, r.keep(ctx, false))
		}
	}
}

// say logs each different error once.
func (r *Releases) say(said string, err error) string {
	if err == nil || errors.Is(err, context.Canceled) {
		return ""
	}
	if err.Error() != said {
		r.Log.Error("the policy's course", "error", err)
	}
	return err.Error()
}

// judge samples the rates, and takes a trial back that has left its band.
func (r *Releases) judge(ctx context.Context) error {
	l := r.Running.lineup.Load()
	now := r.Now()
	l.rate.sample(now)
	if l.trial == nil {
		return nil
	}
	l.trial.rate.sample(now)
	if l.trial.stage.Kind == ToShadow || !bandOf(l.active.Settings()).left(l.trial.rate, l.rate, now) {
		return nil
	}
	err := r.fallBack(ctx, l)
	if fault.Is(err, fault.Conflict) {
		return nil // another replica was faster, or somebody has moved it
	}
	return err
}

// fallBack ends a trial: the rules in force answer everything again.
func (r *Releases) fallBack(ctx context.Context, l *lineup) error {
	p, err := find(ctx, r.Proposals, l.trial.proposal)
	if err != nil {
		return err
	}
	now := r.now()
	asked, refused := l.trial.rate.over(recently, now)
	before, denied := l.rate.over(longest, now)
	p.State, p.By, p.Changed = FallenBack, "", now
	p.Why = fmt.Sprintf("%d of %d decisions of the last %s refused; the rules in force refused %d of %d in the last %s",
		refused, asked, recently, denied, before, longest)
	fact := map[string]any{"proposal": map[string]any(p.describe()), "refused": int(refused), "asked": int(asked), "refused_before": int(denied), "asked_before": int(before)}
	event := audit.Event{ID: audit.NewID(now), At: now, Action: "policy.fallback", Outcome: audit.Done,
		Actor: audit.Party{Type: "service", ID: "hallmark"}, Object: audit.Party{Type: "policy", ID: p.ID},
		Fact: audit.AppendCanonical(nil, fact)}
	t := Turn{From: l.course, To: Course{Revision: l.course.Revision}, Proposals: []Proposal{p}}
	if err := r.turn(ctx, t, event); err != nil {
		return err
	}
	r.Log.Error("POLICY FALLBACK: a staged policy refused too much and was taken back", "proposal", p.ID, "policy", p.Digest, "author", p.Author, "why", p.Why)
	return nil
}

// keep writes what this process has counted of a trial.
func (r *Releases) keep(ctx context.Context, last bool) error {
	l := r.Running.lineup.Load()
	if l == nil || l.trial == nil || !(l.trial.seen.changed.Swap(false) || last) {
		return nil
	}
	t := l.trial.seen.tally()
	t.Asked += int(l.trial.seen.asked.Load()) // on a stage nothing is compared, only counted
	t.Refused += int(l.trial.seen.refused.Load())
	return r.Trials.KeepTally(ctx, l.trial.proposal, r.Process, t)
}

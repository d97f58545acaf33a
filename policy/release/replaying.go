package release

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// The period that is replayed where none is named.
const usualPeriod = 7 * 24 * time.Hour

// Replay asks the proposed rules everything that was decided in a period, what
// every device in service will ask at its next renewal, and what every operator
// might, and keeps with the proposal where they answer differently from the rules in
// force. progress is called about ten times a second, never twice at a time; it may be nil.
func (r *Releases) Replay(ctx context.Context, p policy.Permit, id string, over Period, progress func(Progress)) (Proposal, error) {
	if err := p.Covers(policy.ReplayPolicy, id); err != nil {
		return Proposal{}, err
	}
	if err := over.settle(r.now()); err != nil {
		return Proposal{}, err
	}
	proposal, err := r.mustBe(ctx, id, Open, Approved, Shadow, Staged)
	if err != nil {
		return Proposal{}, err
	}
	done, err := r.replay(ctx, &proposal, over, progress)
	if err != nil {
		return Proposal{}, err
	}
	done.By = p.Actor()
	if proposal, err = r.mustBe(ctx, id, Open, Approved, Shadow, Staged); err != nil { // it took a while
		return Proposal{}, err
	}
	proposal.Replay = done
	event, err := p.Redeem(policy.ReplayPolicy, id, policy.Properties{"replay": done.describe()})
	if err != nil {
		return Proposal{}, err
	}
	if err := r.Proposals.ChangeProposal(ctx, proposal, event); err != nil {
		return Proposal{}, err
	}
	return r.Find(ctx, id)
}

func (p *Period) settle(now time.Time) error {
	if p.Until.IsZero() || p.Until.After(now) {
		p.Until = now
	}
	if p.Since.IsZero() {
		p.Since = p.Until.Add(-usualPeriod)
	}
	if !p.Since.Before(p.Until) {
		return fault.New(fault.Malformed, "bad_period", "the period to replay ends before it begins")
	}
	return nil
}

// replay compares the proposed rules with those in force.
func (r *Releases) replay(ctx context.Context, p *Proposal, over Period, progress func(Progress)) (*Replay, error) {
	active := r.Running.lineup.Load().active
	if active.Digest() != p.Base {
		return nil, fault.New(fault.Conflict, "policy_base", "other rules are in force than those that the proposal changes")
	}
	proposed, err := r.Language.Load(ctx, p.Bundle)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	c := &comparison{active: active, proposed: proposed, workers: r.Workers}
	if c.workers <= 0 {
		c.workers = runtime.GOMAXPROCS(0)
	}
	stop := c.report(progress)
	defer stop()
	out := &Replay{Base: p.Base, At: r.now(), Since: over.Since, Until: over.Until}
	if out.Operators, out.People, err = r.comparePeople(ctx, active, proposed, func() { c.people.Add(1) }); err != nil {
		return nil, err
	}
	if out.Fleet, err = c.fleet(ctx, r.Renewals); err != nil {
		return nil, fmt.Errorf("rehearsing the fleet's renewals: %w", err)
	}
	if out.Recorded, err = c.recorded(ctx, r.Record, over); err != nil {
		return nil, fmt.Errorf("replaying the record: %w", err)
	}
	out.Took = time.Since(start)
	return out, nil
}

// describe is the replay as a fact of the record.
func (r *Replay) describe() map[string]any {
	numbers := func(t *Tally) map[string]any {
		m := map[string]any{"asked": t.Asked, "refused": t.Refused, "was_refused": t.WasRefused}
		for class, n := range t.Totals {
			m[string(class)] = n
		}
		return m
	}
	return map[string]any{"base": r.Base, "since": r.Since.UTC().Format(audit.TimeFormat), "until": r.Until.UTC().Format(audit.TimeFormat),
		"recorded": numbers(&r.Recorded), "fleet": numbers(&r.Fleet), "operators": len(r.Operators)}
}

// comparison asks two sets of rules the same questions, with several workers.
type comparison struct {
	active, proposed Rules
	workers          int

	decisions, devices, people atomic.Int64
}

// report calls progress now and then until stop is called, and then once more.
func (c *comparison) report(progress func(Progress)) (stop func()) {
	if progress == nil {
		return func() {}
	}
	at := func(done bool) Progress {
		return Progress{Recorded: int(c.decisions.Load()), Devices: int(c.devices.Load()), People: int(c.people.Load()), Done: done}
	}
	end := make(chan struct{})
	var ticking sync.WaitGroup
	ticking.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				progress(at(false))
			case <-end:
				return
			}
		}
	})
	return func() {
		close(end)
		ticking.Wait()
		progress(at(true))
	}
}

// page is how many questions a worker takes at a time.
const page = 512

// each hands what produce makes to the workers, and returns what they counted.
// No more than a few pages are in memory at any time.
func each[T any](ctx context.Context, c *comparison, produce func(ctx context.Context, out chan<- []T) error, ask func(context.Context, *counter, *T) error) (Tally, error) {
	pages := make(chan []T, c.workers)
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error {
		defer close(pages)
		return produce(ctx, pages)
	})
	counters := make([]*counter, c.workers)
	for i := range counters {
		counters[i] = newCounter()
		work.Go(func() error {
			for page := range pages {
				for j := range page {
					if err := ask(ctx, counters[i], &page[j]); err != nil {
						return err
					}
				}
				if err := ctx.Err(); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := work.Wait(); err != nil {
		return Tally{}, err
	}
	all := newCounter()
	for _, counted := range counters {
		all.merge(&counted.t)
	}
	return all.tally(), nil
}

func send[T any](ctx context.Context, out chan<- []T, page []T) error {
	select {
	case out <- page:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

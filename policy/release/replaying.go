package release

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

// The period that is replayed where none is named.
const usualPeriod = 7 * 24 * time.Hour

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

// comparison is how a replay asks.
func (r *Releases) comparison(run *Rehearsal) *comparison {
	c := &comparison{workers: r.Workers, served: r.Running.served}
	if c.workers <= 0 {
		c.workers = runtime.GOMAXPROCS(0)
	}
	c.sink = func(part Part) *sink {
		s := &sink{store: r.Differences, replay: run.ID, part: part, waiting: map[kind]*Difference{}}
		c.sinks = append(c.sinks, s)
		return s
	}
	return c
}

// replay compares the proposed rules with those in force.
func (r *Releases) replay(ctx context.Context, c *comparison, run *Rehearsal, p *Proposal) (*Replay, error) {
	c.active = r.Running.lineup.Load().active
	if c.active.Digest() != p.Base {
		return nil, fault.New(fault.Conflict, "policy_base", "other rules are in force than those that the proposal changes")
	}
	var err error
	if c.proposed, err = r.Language.Load(ctx, p.Bundle); err != nil {
		return nil, err
	}
	start := time.Now()
	over := Period{run.Since, run.Until}
	out := &Replay{ID: run.ID, Digest: p.Digest, Base: p.Base, By: run.By, At: r.now(), Since: over.Since, Until: over.Until}
	if out.Operators, out.People, err = r.comparePeople(ctx, c.active, c.proposed, func() { c.people.Add(1) }); err != nil {
		return nil, err
	}
	if out.Fleet, err = c.fleet(ctx, r.Renewals); err != nil {
		return nil, fmt.Errorf("rehearsing the fleet's renewals: %w", err)
	}
	if out.Recorded, err = c.recorded(ctx, r.Record, over); err != nil {
		return nil, fmt.Errorf("replaying the record: %w", err)
	}
	for _, s := range c.sinks {
		out.Unlisted += s.over
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
	return map[string]any{"digest": r.Digest, "base": r.Base, "since": r.Since.UTC().Format(audit.TimeFormat), "until": r.Until.UTC().Format(audit.TimeFormat),
		"recorded": numbers(&r.Recorded), "fleet": numbers(&r.Fleet), "operators": len(r.Operators)}
}

package release

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

// Start loads the rules in force. It fails where there are none that load.
func (r *Running) Start(ctx context.Context) error {
	return r.Follow(ctx)
}

// Follow brings this replica on course: it reads one row, and loads what has
// changed. What cannot be loaded leaves the rules from before in force, and is told by Behind.
func (r *Running) Follow(ctx context.Context) error {
	r.turning.Lock()
	defer r.turning.Unlock()
	course, err := r.Revisions.Course(ctx)
	if err != nil {
		return r.lag(fmt.Errorf("reading the policy's course: %w", err))
	}
	l := r.lineup.Load()
	if l != nil && l.course == course {
		return r.lag(nil)
	}
	next, err := r.line(ctx, l, course)
	if err != nil {
		return r.lag(fmt.Errorf("following the policy to revision %d (course %d): %w", course.Revision, course.Version, err))
	}
	r.lineup.Store(next)
	return r.lag(nil)
}

func (r *Running) lag(err error) error {
	if err == nil {
		r.behind.Store(nil)
	} else {
		r.behind.Store(&err)
	}
	return err
}

// line makes the lineup of a course, and keeps of the one before what stays.
func (r *Running) line(ctx context.Context, before *lineup, course Course) (*lineup, error) {
	next := &lineup{course: course, rate: newRate(r.Now)}
	switch {
	case course.Revision == 0:
		if before != nil && before.course.Revision == 0 {
			next.revision, next.bundle, next.active, next.rate = before.revision, before.bundle, before.active, before.rate
			break
		}
		if err := r.lineDirectory(ctx, next); err != nil {
			return nil, err
		}
	case before != nil && before.course.Revision == course.Revision:
		next.revision, next.bundle, next.active, next.rate = before.revision, before.bundle, before.active, before.rate
	default:
		var err error
		if next.revision, err = r.revision(ctx, course.Revision); err != nil {
			return nil, err
		}
		next.bundle = next.revision.Bundle
		if before != nil && before.active.Digest() == next.revision.Digest {
			next.active, next.rate = before.active, before.rate
			break
		}
		if next.active, err = r.Language.Load(ctx, next.bundle); err != nil {
			return nil, err
		}
	}
	return next, r.lineTrial(ctx, before, next)
}

// lineDirectory puts the rules of the policy directory in force.
func (r *Running) lineDirectory(ctx context.Context, l *lineup) (err error) {
	if l.bundle, err = r.Directory(ctx); err != nil {
		return err
	}
	if l.active, err = r.Language.Load(ctx, l.bundle); err != nil {
		return err
	}
	l.revision = Revision{Digest: l.active.Digest(), At: r.Now().UTC().Truncate(time.Millisecond)}
	return nil
}

// lineTrial puts the proposal on trial beside the rules in force.
func (r *Running) lineTrial(ctx context.Context, before, next *lineup) error {
	if next.course.Trial == "" {
		return nil
	}
	p, err := find(ctx, r.Proposals, next.course.Trial)
	if err != nil {
		return err
	}
	if p.Stage == nil || !p.State.onTrial() {
		return fmt.Errorf("proposal %s is %s and on no stage", p.ID, p.State)
	}
	next.trial = &trial{proposal: p.ID, salt: p.Digest, stage: *p.Stage, rate: newRate(r.Now), seen: newSeen()}
	if before != nil && before.trial != nil && before.trial.proposal == p.ID {
		next.trial.rules, next.trial.seen = before.trial.rules, before.trial.seen
		if sameStage(before.trial.stage, *p.Stage) {
			next.trial.rate = before.trial.rate
		}
		return nil
	}
	next.trial.rules, err = r.Language.Load(ctx, p.Bundle)
	return err
}

func sameStage(a, b Stage) bool {
	return a.Kind == b.Kind && a.Percent == b.Percent && slices.Equal(a.Profiles, b.Profiles)
}

// Reload reads the policy directory anew while that is the source of the rules;
// once a proposal was activated it is a Conflict.
func (r *Running) Reload(ctx context.Context) error {
	r.turning.Lock()
	defer r.turning.Unlock()
	before := r.lineup.Load()
	if before != nil && before.course.Version > 0 {
		return fault.New(fault.Conflict, "policy_in_store",
			fmt.Sprintf("revision %d is in force; the policy directory counts no more: propose it with hallmark policy propose DIR", before.course.Revision))
	}
	next := &lineup{rate: newRate(r.Now)}
	if err := r.lineDirectory(ctx, next); err != nil {
		return err
	}
	r.lineup.Store(next)
	return nil
}

// Loaded is the event that tells which rules of the policy directory are in
// force on this replica; ok is false where the store is their source.
func (r *Running) Loaded() (e audit.Event, ok bool) {
	l := r.lineup.Load()
	if l == nil || l.course.Revision != 0 {
		return audit.Event{}, false
	}
	now := r.Now()
	return audit.Event{ID: audit.NewID(now), At: now, Action: "policy.load", Outcome: audit.Done,
		Actor: audit.Party{Type: "service", ID: "hallmark"}, Object: audit.Party{Type: "policy", ID: l.active.Digest()},
		Fact: audit.AppendCanonical(nil, map[string]any{"policy": map[string]any{"digest": l.active.Digest(), "source": "directory"}})}, true
}

// revision returns one revision with its bundle.
func (r *Running) revision(ctx context.Context, n int64) (Revision, error) {
	found, err := r.Revisions.Revisions(ctx, RevisionFilter{Number: n, Limit: 1})
	if err == nil && len(found) == 0 {
		err = fault.New(fault.NotFound, "revision_unknown", "the policy has no such revision")
	}
	if err != nil {
		return Revision{}, err
	}
	return found[0], nil
}

// find returns one proposal with its bundle, or an error of kind NotFound.
func find(ctx context.Context, s ProposalStore, id string) (Proposal, error) {
	if id == "" {
		return Proposal{}, fault.New(fault.NotFound, "proposal_unknown", "no proposal has an empty id")
	}
	found, err := s.Proposals(ctx, ProposalFilter{ID: id, Limit: 1})
	if err == nil && len(found) == 0 {
		err = fault.New(fault.NotFound, "proposal_unknown", "no proposal has this id")
	}
	if err != nil {
		return Proposal{}, err
	}
	return found[0], nil
}

// keeps reports whether the operator may take the revision back whatever its rules say.
func (r *Revision) keeps(operator string) bool { return slices.Contains(r.Keepers, operator) }

// number is a revision's as permits name it.
func number(n int64) string { return strconv.FormatInt(n, 10) }

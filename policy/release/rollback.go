package release

import (
	"context"
	"fmt"

	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// Return is a way back to earlier rules.
type Return struct {
	To     int64 // number of the revision; 0: the one before that in force
	Reason string
}

// Rollback puts an earlier revision in force again, under a new number. Like
// any action it is decided by the rules in force; but who put those in force may
// always take them back to the revision before, see Running.Uphold. A trial
// ends with it. The permit is for the number as Return names it, in decimal digits, or for none with 0.
func (r *Releases) Rollback(ctx context.Context, p policy.Permit, back Return) (Revision, error) {
	id := ""
	if back.To != 0 {
		id = number(back.To)
	}
	if err := p.Covers(policy.RollbackPolicy, id); err != nil {
		return Revision{}, err
	}
	if err := checkNote(back.Reason); err != nil {
		return Revision{}, err
	}
	course, err := r.Revisions.Course(ctx)
	if err != nil {
		return Revision{}, err
	}
	if back.To == 0 {
		back.To = course.Revision - 1
	}
	target, err := r.target(ctx, course, back.To)
	if err != nil {
		return Revision{}, err
	}
	refused, err := r.noWorse(ctx, &target)
	switch {
	case err != nil:
		return Revision{}, err
	case refused != nil:
		return Revision{}, r.overrule(ctx, p, refused)
	}
	t, err := r.planReturn(ctx, course, &target, p.Actor(), back.Reason)
	if err != nil {
		return Revision{}, err
	}
	made := t.Revisions[0]
	event, err := p.Redeem(policy.RollbackPolicy, id, policy.Properties{"revision": map[string]any{
		"number": made.Number, "from": course.Revision, "of": made.Of, "digest": made.Digest, "reason": back.Reason}})
	if err != nil {
		return Revision{}, err
	}
	if err := r.turn(ctx, t, event); err != nil {
		return Revision{}, err
	}
	r.Log.Warn("the policy was rolled back", "by", made.By, "from", course.Revision, "to", made.Of, "policy", made.Digest)
	made.Bundle = nil
	return made, nil
}

// target returns the revision to go back to, with its bundle.
func (r *Releases) target(ctx context.Context, course Course, to int64) (Revision, error) {
	if course.Revision == 0 || to < 1 {
		return Revision{}, fault.New(fault.Conflict, "no_revision_before", "there is no earlier revision to return to")
	}
	if to == course.Revision {
		return Revision{}, fault.New(fault.Conflict, "revision_in_force", fmt.Sprintf("revision %d is in force", to))
	}
	return r.Running.revision(ctx, to)
}

// noWorse refuses to go back to rules under which nobody could change the rules
// any more, unless that is so already. Rules that no longer load are an error.
func (r *Releases) noWorse(ctx context.Context, target *Revision) (*fault.Error, error) {
	rules, err := r.Language.Load(ctx, target.Bundle)
	if err != nil {
		return nil, fault.Wrap(fault.Conflict, "revision_unusable", fmt.Sprintf("revision %d cannot be loaded by this version", target.Number), err)
	}
	refused, err := r.somebodyLeft(ctx, rules)
	if refused == nil || err != nil {
		return nil, err
	}
	now, err := r.somebodyLeft(ctx, r.Running.lineup.Load().active)
	if now != nil || err != nil {
		return nil, err
	}
	return refused, nil
}

// planReturn lays the change of course out.
func (r *Releases) planReturn(ctx context.Context, course Course, target *Revision, by, reason string) (Turn, error) {
	n, err := r.next(ctx, course.Revision)
	if err != nil {
		return Turn{}, err
	}
	of := target.Number
	if target.Of != 0 {
		of = target.Of
	}
	now := r.now()
	t := Turn{From: course, To: Course{Revision: n}, InForce: target.Digest, Revisions: []Revision{
		{Number: n, Digest: target.Digest, Of: of, By: by, At: now, Note: reason}}}
	for _, end := range []struct {
		id    string
		state State
	}{{course.Trial, Superseded}, {r.inForceBy(course), RolledBack}} {
		if end.id == "" {
			continue
		}
		p, err := find(ctx, r.Proposals, end.id)
		if err != nil {
			return Turn{}, err
		}
		p.State, p.Why, p.By, p.Changed = end.state, fmt.Sprintf("rolled back to revision %d: %s", of, reason), by, now
		t.Proposals = append(t.Proposals, p)
	}
	return t, nil
}

// inForceBy is the id of the proposal that is in force; empty if the revision in force came of none.
func (r *Releases) inForceBy(course Course) string {
	if l := r.Running.lineup.Load(); l.course.Revision == course.Revision {
		return l.revision.Proposal
	}
	return ""
}

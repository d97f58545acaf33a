package release

import (
	"context"
	"fmt"
	"slices"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// Activation puts an approved proposal on a stage.
type Activation struct {
	ID             string
	Stage          Stage // Kind, Percent and Profiles count
	AcceptRefusals int   // for rules that refuse every renewal: how many those are, as the replay shows
	Reason         string
}

// Activate puts an approved proposal on a stage, or on another one: beside the
// rules in force, in force for a share of the devices, or in force. It refuses rules under
// which nobody could change the rules any more (code nobody_left), and rules that refuse every
// renewal of the fleet unless their number is named (code refusals_not_accepted).
func (r *Releases) Activate(ctx context.Context, p policy.Permit, a Activation) (Proposal, error) {
	if err := p.Covers(policy.ActivatePolicy, a.ID); err != nil {
		return Proposal{}, err
	}
	if err := a.check(); err != nil {
		return Proposal{}, err
	}
	course, err := r.Revisions.Course(ctx)
	if err != nil {
		return Proposal{}, err
	}
	proposal, err := r.mustBe(ctx, a.ID, Approved, Shadow, Staged)
	if err != nil {
		return Proposal{}, err
	}
	if course.Trial != "" && course.Trial != a.ID {
		return Proposal{}, fault.New(fault.Conflict, "trial_on", "another proposal is on trial: "+course.Trial)
	}
	refused, err := r.guard(ctx, &proposal, &a)
	switch {
	case err != nil:
		return Proposal{}, err
	case refused != nil:
		return Proposal{}, r.overrule(ctx, p, refused)
	}
	t, err := r.plan(ctx, p, course, proposal, &a)
	if err != nil {
		return Proposal{}, err
	}
	fact := t.Proposals[0].describe()
	fact["stage"] = a.Stage.describe()
	if n := t.To.Revision; n != course.Revision {
		fact["revision"] = n
	}
	event, err := p.Redeem(policy.ActivatePolicy, a.ID, policy.Properties{"proposal": fact})
	if err != nil {
		return Proposal{}, err
	}
	if err := r.turn(ctx, t, event); err != nil {
		return Proposal{}, err
	}
	return r.Find(ctx, a.ID)
}

// check says what is wrong with the stage asked for.
func (a *Activation) check() error {
	s := &a.Stage
	if err := checkNote(a.Reason); err != nil {
		return err
	}
	wrong := ""
	switch {
	case s.Kind != ToShadow && s.Kind != ToPercent && s.Kind != ToProfiles && s.Kind != ToAll:
		wrong = "a stage is shadow, percent, profiles or all"
	case s.Kind == ToPercent && (s.Percent < 1 || s.Percent > 99):
		wrong = "a share is between 1 and 99 percent; all is a stage of its own"
	case s.Kind != ToPercent && s.Percent != 0:
		wrong = "only the stage percent has a share"
	case s.Kind == ToProfiles && (len(s.Profiles) == 0 || len(s.Profiles) > 100):
		wrong = "the stage profiles names 1 to 100 profiles"
	case s.Kind != ToProfiles && len(s.Profiles) != 0:
		wrong = "only the stage profiles names any"
	}
	if wrong != "" {
		return fault.New(fault.Malformed, "bad_stage", wrong)
	}
	return nil
}

// guard holds an activation against what no rules can lift; refused says what it broke.
func (r *Releases) guard(ctx context.Context, p *Proposal, a *Activation) (refused *fault.Error, err error) {
	if refused, err = r.mustBeApproved(ctx, p); refused != nil || err != nil || a.Stage.Kind == ToShadow {
		return refused, err
	}
	if p.Replay == nil {
		return nil, fault.New(fault.Conflict, "not_replayed", "replay the proposal first, so that it is known what would change")
	}
	if fleet := &p.Replay.Fleet; fleet.Asked > 0 && fleet.Refused == fleet.Asked && a.AcceptRefusals != fleet.Refused {
		return fault.New(fault.Denied, "refusals_not_accepted",
			fmt.Sprintf("these rules refuse the next renewal of all %d devices; who means that names the number", fleet.Refused)), nil
	}
	rules, err := r.Language.Load(ctx, p.Bundle)
	if err != nil {
		return nil, err
	}
	return r.somebodyLeft(ctx, rules)
}

// plan lays the change of course out.
func (r *Releases) plan(ctx context.Context, p policy.Permit, course Course, proposal Proposal, a *Activation) (Turn, error) {
	now := r.now()
	stage := a.Stage
	stage.By, stage.At = p.Actor(), now
	proposal.Stage, proposal.By, proposal.Changed, proposal.Why = &stage, p.Actor(), now, a.Reason
	t := Turn{From: course, To: course}
	if course.Revision == 0 { // from here on the store is the source, and what the directory held can be returned to
		first := r.Running.directory()
		if first.Digest != proposal.Base {
			return Turn{}, fault.New(fault.Conflict, "policy_base", "this replica answers with other rules than those that the proposal changes")
		}
		first.Number, t.To.Revision = 1, 1
		t.Revisions = append(t.Revisions, first)
	}
	switch stage.Kind {
	case ToShadow:
		proposal.State, t.To.Trial = Shadow, proposal.ID
	case ToPercent, ToProfiles:
		proposal.State, t.To.Trial = Staged, proposal.ID
	case ToAll:
		n, err := r.next(ctx, t.To.Revision)
		if err != nil {
			return Turn{}, err
		}
		proposal.State, proposal.Revision = Active, n
		t.To.Revision, t.To.Trial, t.InForce = n, "", proposal.Digest
		t.Revisions = append(t.Revisions, Revision{Number: n, Digest: proposal.Digest, Proposal: proposal.ID, By: p.Actor(), At: now,
			Keepers: proposal.keepers(p.Actor()), Note: proposal.Note, Bundle: proposal.Bundle})
	}
	t.Proposals = []Proposal{proposal}
	return t, nil
}

// next is the number of the revision after those there are; first is one that is to come before it.
func (r *Releases) next(ctx context.Context, first int64) (int64, error) {
	newest, err := r.Revisions.Revisions(ctx, RevisionFilter{Limit: 1})
	if err != nil || len(newest) == 0 {
		return first + 1, err
	}
	return newest[0].Number + 1, nil
}

// keepers are those who may take the proposal back once it is in force.
func (p *Proposal) keepers(activator string) []string {
	names := []string{p.Author, activator}
	for _, a := range p.Approvals {
		names = append(names, a.By)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// turn commits a change of course and brings this replica on it at once; the others follow within a second.
func (r *Releases) turn(ctx context.Context, t Turn, e audit.Event) error {
	t.To.Version = t.From.Version + 1
	if err := r.Revisions.Turn(ctx, t, e); err != nil {
		return err
	}
	if err := r.Running.Follow(ctx); err != nil {
		r.Log.Error("the policy has changed, but this replica cannot follow", "error", err)
	}
	return nil
}

// directory is what the policy directory held when it was loaded, as a revision.
func (r *Running) directory() Revision {
	l := r.lineup.Load()
	if l == nil || l.course.Revision != 0 {
		return Revision{}
	}
	first := l.revision
	first.Bundle, first.Note = l.bundle, "the policy directory"
	return first
}

package release

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// Vote is an operator's word on a proposal.
type Vote struct {
	ID     string // of the proposal
	Digest string // of the rules that the operator has seen; empty: whatever the proposal holds
	Note   string
}

// Approve adds the caller's agreement. With enough of them the proposal is
// approved; how many that takes is data.settings.approvals of the rules in
// force. Whoever made a proposal cannot approve it, whatever rules say (code
// self_approval); nobody's approval counts twice.
func (r *Releases) Approve(ctx context.Context, p policy.Permit, v Vote) (Proposal, error) {
	if err := p.Covers(policy.ApprovePolicy, v.ID); err != nil {
		return Proposal{}, err
	}
	if err := checkNote(v.Note); err != nil {
		return Proposal{}, err
	}
	proposal, err := r.mustBe(ctx, v.ID, Open, Approved)
	if err != nil {
		return Proposal{}, err
	}
	switch {
	case v.Digest != "" && v.Digest != proposal.Digest:
		return Proposal{}, fault.New(fault.Conflict, "policy_digest", "the proposal holds other rules: "+proposal.Digest)
	case sameOperator(p.Actor(), proposal.Author):
		return Proposal{}, r.overrule(ctx, p, fault.New(fault.Denied, "self_approval", "nobody approves a change of their own"))
	case proposal.Replay == nil:
		return Proposal{}, fault.New(fault.Conflict, "not_replayed", "replay the proposal first, so that it is known what would change")
	case slices.ContainsFunc(proposal.Approvals, func(a Approval) bool { return sameOperator(a.By, p.Actor()) }):
		return Proposal{}, fault.New(fault.Conflict, "approved_already", "you have approved this proposal already")
	}
	now := r.now()
	proposal.Approvals = append(proposal.Approvals, Approval{By: p.Actor(), At: now, Digest: proposal.Digest, Note: v.Note})
	proposal.Changed, proposal.By, proposal.Why = now, p.Actor(), ""
	counted, err := r.approvals(ctx, &proposal)
	if err != nil {
		return Proposal{}, err
	}
	if counted >= proposal.Needed {
		proposal.State = Approved
	}
	fact := proposal.describe()
	fact["approvals"], fact["needed"], fact["note"] = counted, proposal.Needed, v.Note
	event, err := p.Redeem(policy.ApprovePolicy, v.ID, policy.Properties{"proposal": fact})
	if err != nil {
		return Proposal{}, err
	}
	if err := r.Proposals.ChangeProposal(ctx, proposal, event); err != nil {
		return Proposal{}, err
	}
	return r.Find(ctx, v.ID)
}

// approvals counts those that are good: to these very rules, by others than
// the author, each once, who are operators still.
func (r *Releases) approvals(ctx context.Context, p *Proposal) (int, error) {
	people, err := r.Operators(ctx)
	if err != nil {
		return 0, err
	}
	counted := map[string]bool{}
	for _, a := range p.Approvals {
		known := slices.ContainsFunc(people, func(e policy.Entity) bool { return e.ID == a.By })
		if known && a.Digest == p.Digest && !sameOperator(a.By, p.Author) {
			counted[strings.ToLower(a.By)] = true
		}
	}
	return len(counted), nil
}

// sameOperator reports whether two names are those of one operator. Names that differ in
// nothing but the case of their letters are not given twice, but could be once.
func sameOperator(a, b string) bool { return strings.EqualFold(a, b) }

// mustBeApproved returns an error unless enough others agree still.
func (r *Releases) mustBeApproved(ctx context.Context, p *Proposal) (*fault.Error, error) {
	counted, err := r.approvals(ctx, p)
	if err != nil || counted >= p.Needed {
		return nil, err
	}
	return fault.New(fault.Denied, "approvals_missing",
		fmt.Sprintf("%d of %d approvals by operators who are in the register", counted, p.Needed)), nil
}

// Reject ends a proposal that is not in force yet, on trial or not.
func (r *Releases) Reject(ctx context.Context, p policy.Permit, id, reason string) (Proposal, error) {
	return r.end(ctx, p, policy.RejectPolicy, Rejected, id, reason)
}

// Withdraw is Reject by the author; others cannot (code not_author).
func (r *Releases) Withdraw(ctx context.Context, p policy.Permit, id, reason string) (Proposal, error) {
	return r.end(ctx, p, policy.WithdrawPolicy, Withdrawn, id, reason)
}

func (r *Releases) end(ctx context.Context, p policy.Permit, a policy.Action, to State, id, reason string) (Proposal, error) {
	if err := p.Covers(a, id); err != nil {
		return Proposal{}, err
	}
	if err := checkNote(reason); err != nil {
		return Proposal{}, err
	}
	course, err := r.Revisions.Course(ctx)
	if err != nil {
		return Proposal{}, err
	}
	proposal, err := r.mustBe(ctx, id, Open, Approved, Shadow, Staged)
	if err != nil {
		return Proposal{}, err
	}
	if to == Withdrawn && proposal.Author != p.Actor() {
		return Proposal{}, r.overrule(ctx, p, fault.New(fault.Denied, "not_author", "only its author withdraws a proposal; others reject it"))
	}
	proposal.State, proposal.Why, proposal.By, proposal.Changed = to, reason, p.Actor(), r.now()
	event, err := p.Redeem(a, id, policy.Properties{"proposal": proposal.describe()})
	if err != nil {
		return Proposal{}, err
	}
	if course.Trial == id {
		err = r.turn(ctx, Turn{From: course, To: Course{Revision: course.Revision}, Proposals: []Proposal{proposal}}, event)
	} else {
		err = r.Proposals.ChangeProposal(ctx, proposal, event)
	}
	if err != nil {
		return Proposal{}, err
	}
	return r.Find(ctx, id)
}

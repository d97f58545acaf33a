package release

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// Lifetime is how long a proposal may wait to be put in force, or on trial.
const Lifetime = 14 * 24 * time.Hour

// Releases is the life of the policy as operators lead it. Whatever they ask of
// it takes a Permit.
type Releases struct {
	Proposals   ProposalStore
	Revisions   RevisionStore
	Trials      TrialStore
	Replays     ReplayStore
	Differences DifferenceStore
	Record      Record
	Journal     audit.Journal // takes what a guard rail refuses
	Running     *Running
	Language    Language
	Now         func() time.Time
	Log         *slog.Logger

	// Operators returns everybody who may manage the server, as rules see them when
	// they ask for something.
	Operators func(ctx context.Context) ([]policy.Entity, error)

	// Renewals yields what each device in service would ask at its next renewal; nil
	// means that there is no fleet.
	Renewals func(ctx context.Context) iter.Seq2[policy.Request, error]

	// Workers is how many questions a replay asks at a time; 0 means one for each processor.
	Workers int

	// Pulled says how the bundle server stands that rules are pulled from; nil: there is none.
	Pulled func() *SourceStatus

	// Process names this process among the replicas, in what they count of trials.
	Process string
}

// Draft is a change of the rules as it is handed in.
type Draft struct {
	ID     string // of the proposal to be; the permit must be for it
	Bundle []byte // OPA bundle (tar.gz)
	Base   string // digest of the rules that the author started from; empty: those in force
	Note   string
}

// Propose takes a change of the rules in, if it passes every check and its own
// tests. If it does not, the error is Malformed with the code policy_refused,
// and the proposal that comes with it holds the Report and is not kept.
func (r *Releases) Propose(ctx context.Context, p policy.Permit, d Draft) (Proposal, error) {
	if err := p.Covers(policy.ProposePolicy, d.ID); err != nil {
		return Proposal{}, err
	}
	if err := checkNote(d.Note); err != nil {
		return Proposal{}, err
	}
	if len(d.Bundle) > MaxBundle {
		return Proposal{}, fault.New(fault.Malformed, "bundle_too_large", fmt.Sprintf("a bundle has at most %d MiB", MaxBundle>>20))
	}
	report, err := r.Language.Vet(ctx, d.Bundle)
	if err != nil {
		return Proposal{}, err
	}
	base := r.Running.Digest()
	switch {
	case !report.Passed:
		return Proposal{Report: report}, fault.New(fault.Malformed, "policy_refused", "these rules are not taken; the report says why")
	case d.Base != "" && d.Base != base:
		return Proposal{}, fault.New(fault.Conflict, "policy_base", "the rules in force are no longer those that this change started from: "+base)
	case report.Digest == base:
		return Proposal{}, fault.New(fault.Conflict, "policy_unchanged", "these are the rules in force")
	}
	now := r.now()
	proposal := Proposal{ID: d.ID, Digest: report.Digest, Base: base, State: Open, Author: p.Actor(), Note: d.Note, By: p.Actor(),
		Created: now, Changed: now, Expires: now.Add(Lifetime), Report: report, Bundle: d.Bundle}
	event, err := p.Redeem(policy.ProposePolicy, d.ID, policy.Properties{"proposal": proposal.describe()})
	if err != nil {
		return Proposal{}, err
	}
	if err := r.Proposals.AddProposal(ctx, proposal, event); err != nil {
		return Proposal{}, err
	}
	return r.settled(ctx, proposal)
}

// List returns the proposals that the filter selects, newest first, their
// differences left out. A filter by state goes by what is stored: proposals that
// expired or were superseded by a reload are still found as open or approved.
func (r *Releases) List(ctx context.Context, p policy.Permit, f ProposalFilter) ([]Proposal, error) {
	if err := p.Covers(policy.ListPolicies, ""); err != nil {
		return nil, err
	}
	found, err := r.Proposals.Proposals(ctx, f)
	for i := range found {
		r.settle(&found[i])
		if found[i].Replay != nil {
			found[i].Replay = found[i].Replay.brief()
		}
	}
	return found, err
}

// Show returns one proposal with its bundle, or an error of kind NotFound.
func (r *Releases) Show(ctx context.Context, p policy.Permit, id string) (Proposal, error) {
	if err := p.Covers(policy.ShowPolicy, id); err != nil {
		return Proposal{}, err
	}
	return r.Find(ctx, id)
}

// Find returns one proposal with its bundle, or an error of kind NotFound. It is
// for asking policy about it, and answers no operator.
func (r *Releases) Find(ctx context.Context, id string) (Proposal, error) {
	found, err := find(ctx, r.Proposals, id)
	if err != nil {
		return Proposal{}, err
	}
	return r.settled(ctx, found)
}

// Force is what is in force.
type Force struct {
	Course   Course   `json:"course"`
	Revision Revision `json:"revision"` // number 0: the policy directory is the source
	Digest   string   `json:"digest"`
	Behind   string   `json:"behind,omitempty"` // why this replica still answers with earlier rules
	Bundle   []byte   `json:"-"`                // OPA bundle (tar.gz)

	Source *SourceStatus `json:"source,omitempty"` // the bundle server that rules are pulled from; nil: there is none
}

// InForce returns the rules in force on this replica. The permit is to show the policy, and names none.
func (r *Releases) InForce(_ context.Context, p policy.Permit) (Force, error) {
	if err := p.Covers(policy.ShowPolicy, ""); err != nil {
		return Force{}, err
	}
	f := r.Running.force()
	if r.Pulled != nil {
		f.Source = r.Pulled()
	}
	return f, nil
}

// Revision returns one revision with its bundle, or an error of kind NotFound.
// The permit is to show the policy of that number, in decimal digits.
func (r *Releases) Revision(ctx context.Context, p policy.Permit, n int64) (Revision, error) {
	if err := p.Covers(policy.ShowPolicy, number(n)); err != nil {
		return Revision{}, err
	}
	return r.Running.revision(ctx, n)
}

// History returns the revisions that the filter selects, newest first.
func (r *Releases) History(ctx context.Context, p policy.Permit, f RevisionFilter) ([]Revision, error) {
	if err := p.Covers(policy.PolicyHistory, ""); err != nil {
		return nil, err
	}
	return r.Revisions.Revisions(ctx, f)
}

// force is what this replica answers with.
func (r *Running) force() Force {
	l := r.lineup.Load()
	if l == nil {
		return Force{}
	}
	f := Force{Course: l.course, Revision: l.revision, Digest: l.active.Digest(), Bundle: l.bundle}
	f.Revision.Bundle = nil
	if err := r.Behind(); err != nil {
		f.Behind = err.Error()
	}
	return f
}

// now is the time as it is kept.
func (r *Releases) now() time.Time { return r.Now().UTC().Truncate(time.Millisecond) }

// settled completes a proposal as it was read: see settle; and what its trial has come to.
func (r *Releases) settled(ctx context.Context, p Proposal) (Proposal, error) {
	r.settle(&p)
	if p.Stage == nil {
		return p, nil
	}
	counted, err := r.Trials.Tallies(ctx, p.ID)
	if err != nil {
		return Proposal{}, err
	}
	all := newCounter()
	for i := range counted {
		all.merge(&counted[i])
	}
	total := all.tally()
	p.Trial = &total
	return p, nil
}

// settle says of a proposal what time and the rules in force have made of it.
func (r *Releases) settle(p *Proposal) {
	p.Needed = approvalsNeeded(r.Running.Settings())
	switch {
	case !p.State.pending():
	case p.Base != r.Running.Digest():
		p.State, p.Why = Superseded, "other rules are in force than those that it changes; propose it anew"
	case !p.State.onTrial() && r.Now().After(p.Expires):
		p.State, p.Why = Expired, "nobody put it in force in time; propose it anew"
	}
}

// mustBe returns the proposal for a change, or an error unless it is in one of the states.
func (r *Releases) mustBe(ctx context.Context, id string, states ...State) (Proposal, error) {
	p, err := find(ctx, r.Proposals, id)
	if err != nil {
		return Proposal{}, err
	}
	r.settle(&p)
	if !slices.Contains(states, p.State) {
		says := "the proposal is " + string(p.State)
		if p.Why != "" {
			says += ": " + p.Why
		}
		return Proposal{}, fault.New(fault.Conflict, "proposal_"+string(p.State), says)
	}
	return p, nil
}

// overrule records that a guard rail refused what the rules had permitted, and returns the refusal.
func (r *Releases) overrule(ctx context.Context, p policy.Permit, cause *fault.Error) error {
	event, refused := p.Overrule(cause)
	if err := r.Journal.Append(ctx, event); err != nil {
		return fault.Wrap(fault.Busy, "record_unavailable", "the record cannot be written; nothing was done", err)
	}
	return refused
}

func checkNote(note string) error {
	if len(note) > MaxNote {
		return fault.New(fault.Malformed, "reason_length", fmt.Sprintf("a note or reason has at most %d bytes", MaxNote))
	}
	return nil
}

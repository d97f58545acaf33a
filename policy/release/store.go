package release

import (
	"context"

	"github.com/hallmark-pki/hallmark/audit"
)

// ProposalStore keeps proposals.
type ProposalStore interface {
	// Proposals returns those that the filter selects, newest first. Bundle is set
	// only where the filter names one proposal.
	Proposals(ctx context.Context, f ProposalFilter) ([]Proposal, error)

	// AddProposal commits a new proposal with its event; an id that exists is a Conflict.
	AddProposal(ctx context.Context, p Proposal, e audit.Event) error

	// ChangeProposal commits the proposal as it is now, its bundle apart, with the
	// event. Edition is that which was read; if another is stored by now it is a Conflict
	// with the code proposal_changed.
	ChangeProposal(ctx context.Context, p Proposal, e audit.Event) error
}

// ProposalFilter selects proposals. Zero fields select everything.
type ProposalFilter struct {
	ID     string
	State  State
	Author string
	Before string // only ids below this, for paging
	Limit  int    // at most this many; 0 means 100
}

// RevisionStore keeps revisions, for ever, and the course.
type RevisionStore interface {
	// Revisions returns those that the filter selects, newest first. Bundle is set
	// only where the filter names one revision.
	Revisions(ctx context.Context, f RevisionFilter) ([]Revision, error)

	// Course returns what is in force. It is read every second and costs one row.
	Course(ctx context.Context) (Course, error)

	// Turn commits a change of course with its event, all or nothing.
	Turn(ctx context.Context, t Turn, e audit.Event) error
}

// RevisionFilter selects revisions. Zero fields select everything.
type RevisionFilter struct {
	Number int64 // this one
	Before int64 // only numbers below this, for paging
	Limit  int   // at most this many; 0 means 100
}

// Turn is a change of course.
type Turn struct {
	From Course // as it was read; if another is stored by now the turn is a Conflict with the code course_changed
	To   Course // from now on; its Version is one above From's

	Revisions []Revision // new ones, numbered, oldest first; a number that exists is a Conflict

	// Proposals are stored as they are now, their bundles apart; an edition that is no
	// longer the stored one is a Conflict with the code proposal_changed.
	Proposals []Proposal

	// InForce is the digest of the rules from now on, where they change: open and
	// approved proposals that build on others become superseded, and so do
	// active ones, those in Proposals apart.
	InForce string
}

// TrialStore keeps what the replicas count while a proposal is on trial. It is
// what they observe, not what anybody did, and no part of the record.
type TrialStore interface {
	// KeepTally replaces what this process has counted of the proposal's trial.
	KeepTally(ctx context.Context, proposal, process string, t Tally) error

	// Tallies returns what all processes have counted.
	Tallies(ctx context.Context, proposal string) ([]Tally, error)
}

// Record is the record, for reading: the decisions that a replay asks again.
type Record interface {
	// Entries returns the entries that the query selects, newest first.
	Entries(ctx context.Context, q audit.Query) ([]audit.Entry, error)
}

// ReplayStore keeps replays as jobs.
type ReplayStore interface {
	// BeginReplay commits a new one with its event, in place of the last of its
	// proposal. As long as another goes on, of whatever proposal, it is a
	// Conflict with the code replay_running.
	BeginReplay(ctx context.Context, run Rehearsal, e audit.Event) error

	// KeepReplay notes how far one has come. One that goes on no more is a
	// Conflict with the code replay_over. It is no part of the record.
	KeepReplay(ctx context.Context, run Rehearsal) error

	// EndReplay commits the end of one that goes on with its event, and the proposal as
	// it is now, where there is one (see ProposalStore.ChangeProposal). One that goes on no more is a Conflict, likewise.
	EndReplay(ctx context.Context, run Rehearsal, p *Proposal, e audit.Event) error

	// Replays returns the last of a proposal, or, of none, that which goes on; none if there is none.
	Replays(ctx context.Context, proposal string) ([]Rehearsal, error)
}

// DifferenceStore keeps what replays have found. It is no part of the record.
type DifferenceStore interface {
	// AddDifferences adds differences that a replay found; those at one place count together.
	AddDifferences(ctx context.Context, replay string, found []Listed) error

	// Differences returns those that the filter selects, by place.
	Differences(ctx context.Context, f DifferenceFilter) ([]Listed, error)

	// SweepDifferences removes those of replays that neither go on nor are shown by their proposal.
	SweepDifferences(ctx context.Context) error
}

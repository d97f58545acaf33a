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

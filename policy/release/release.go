// Package release is the life of a policy: how a change of the rules is
// proposed, replayed, approved, tried beside the rules in force, put in force
// by stages, and taken back.
//
// A Proposal is a bundle of rules with a history. Releases holds the verbs that
// operators have; each takes a Permit, and holds to guard rails that no rule can
// lift: nobody approves a change of their own, somebody is always left who can
// change the rules, and who put a change in force can take it back. Running is
// the policy.Engine that answers with the rules in force, on every replica the
// same, and with those on trial where a trial is on.
package release

import (
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/policy"
)

// MaxBundle is the largest bundle that is taken, in bytes.
const MaxBundle = 8 << 20

// MaxNote is the longest note or reason, in bytes.
const MaxNote = 4096

// State is where a proposal stands in its life.
type State string

// The states. From Open to Active is the way of those that make it.
const (
	Open       State = "open"        // checked; to be replayed and approved
	Approved   State = "approved"    // enough others have agreed
	Shadow     State = "shadow"      // asked beside the rules in force, without effect
	Staged     State = "staged"      // in force for a share of the devices
	Active     State = "active"      // in force
	Rejected   State = "rejected"    // by an approver
	Withdrawn  State = "withdrawn"   // by its author
	Expired    State = "expired"     // nobody put it in force in time
	Superseded State = "superseded"  // the rules that it changes are no longer those in force, or others followed it
	FallenBack State = "fallen_back" // its trial refused too much
	RolledBack State = "rolled_back" // it was in force, and was taken back
)

// pending reports whether a proposal in this state can still come into force.
func (s State) pending() bool { return s == Open || s == Approved || s.onTrial() }

// onTrial reports whether the rules of a proposal in this state are being asked.
func (s State) onTrial() bool { return s == Shadow || s == Staged }

// Proposal is a change of the rules on its way.
type Proposal struct {
	ID     string `json:"id"`
	Digest string `json:"digest"` // of the proposed rules, "sha256:<hex>", as their decisions will carry it
	Base   string `json:"base"`   // of the rules that it changes: those in force when it was made

	State   State     `json:"state"`
	Author  string    `json:"author"` // operator's id
	Note    string    `json:"note,omitempty"`
	Created time.Time `json:"created"`
	Changed time.Time `json:"changed"` // UTC, to the millisecond, as the other times
	Expires time.Time `json:"expires"`
	By      string    `json:"changed_by,omitempty"` // who moved it last: an operator's id, or empty for the server
	Why     string    `json:"why,omitempty"`        // the reason they gave

	Report    Report     `json:"report"`           // of the checks and tests
	Replay    *Replay    `json:"replay,omitempty"` // the last one; nil: not replayed yet
	Approvals []Approval `json:"approvals,omitempty"`
	Needed    int        `json:"approvals_needed"`   // as the rules in force say
	Stage     *Stage     `json:"stage,omitempty"`    // of a trial
	Trial     *Tally     `json:"trial,omitempty"`    // what the trial has come to, over all replicas
	Revision  int64      `json:"revision,omitempty"` // under which it came into force

	Edition int64  `json:"edition"` // grows with every change
	Bundle  []byte `json:"-"`       // OPA bundle (tar.gz); only of a single proposal
}

// Report is what the checks and tests of a bundle came to.
type Report struct {
	Passed   bool     `json:"passed"`
	Digest   string   `json:"digest,omitempty"`   // of the rules, where they could be read
	Problems []string `json:"problems,omitempty"` // "file:line:column: what is wrong"
	Tests    int      `json:"tests"`
	Failed   []string `json:"failed,omitempty"` // names of tests
	Coverage float64  `json:"coverage"`         // per cent of the rules' lines
}

// Approval is one operator's agreement, to these very rules.
type Approval struct {
	By     string    `json:"by"`
	At     time.Time `json:"at"`
	Digest string    `json:"digest"`
	Note   string    `json:"note,omitempty"`
}

// StageKind says how far a proposal is put in force.
type StageKind string

// The kinds of stages.
const (
	ToShadow   StageKind = "shadow"   // asked beside, without effect
	ToPercent  StageKind = "percent"  // a share of the devices
	ToProfiles StageKind = "profiles" // those who enrol under certain profiles
	ToAll      StageKind = "all"      // in force
)

// Stage is how far a proposal is put in force.
type Stage struct {
	Kind     StageKind `json:"kind"`
	Percent  int       `json:"percent,omitempty"`  // 1 to 99, of the devices; with ToPercent
	Profiles []string  `json:"profiles,omitempty"` // with ToProfiles
	By       string    `json:"by,omitempty"`
	At       time.Time `json:"at,omitzero"`
}

// Revision is one turn of the rules in force: a proposal that was activated, a
// return to earlier rules, or, as the first, what the policy directory held.
type Revision struct {
	Number   int64     `json:"revision"`           // from 1
	Digest   string    `json:"digest"`             // "sha256:<hex>"
	Of       int64     `json:"of,omitempty"`       // of a return: the revision that it returned to
	Proposal string    `json:"proposal,omitempty"` // id
	By       string    `json:"by,omitempty"`       // who put it in force; empty for the first
	Keepers  []string  `json:"keepers,omitempty"`  // who may take it back whatever its rules say: author, approvers, activator
	At       time.Time `json:"at"`
	Note     string    `json:"note,omitempty"`
	Bundle   []byte    `json:"-"` // OPA bundle (tar.gz); only of a single revision
}

// Course is what all replicas follow.
type Course struct {
	Version  int64  `json:"version"`         // grows with every change of the others; 0: the policy directory is the source of the rules
	Revision int64  `json:"revision"`        // in force; 0: none yet
	Trial    string `json:"trial,omitempty"` // id of the proposal in shadow or staged; empty: none
}

// describe is the proposal as a fact of the record.
func (p *Proposal) describe() policy.Properties {
	f := map[string]any{"id": p.ID, "digest": p.Digest, "base": p.Base, "state": string(p.State), "author": p.Author}
	if p.Stage != nil && p.State.onTrial() {
		f["stage"] = p.Stage.describe()
	}
	if p.Why != "" {
		f["reason"] = p.Why
	}
	return f
}

func (s *Stage) describe() map[string]any {
	f := map[string]any{"kind": string(s.Kind)}
	if s.Kind == ToPercent {
		f["percent"] = s.Percent
	}
	if s.Kind == ToProfiles {
		f["profiles"] = s.Profiles
	}
	return f
}

// Question is the proposal as rules see it: the resource of whatever is asked
// about it, and the change that the context tells of.
func (p *Proposal) Question() (resource policy.Entity, change policy.Properties) {
	approvals := make([]any, len(p.Approvals))
	for i, a := range p.Approvals {
		approvals[i] = map[string]any{"by": a.By, "at": a.At.UTC().Format(audit.TimeFormat), "digest": a.Digest}
	}
	return policy.Entity{Type: "policy", ID: p.ID, Properties: p.describe()},
		policy.Properties{"author": p.Author, "approvals": approvals}
}

package release

import "time"

// SourceStatus is what is known, on one replica, of a bundle server that rules are
// pulled from (see package policy/source).
type SourceStatus struct {
	Name     string    `json:"name"`
	URL      string    `json:"url"`                   // without what may be secret in it
	Unsigned bool      `json:"unsigned,omitempty"`    // bundles need no signature
	Outcome  string    `json:"outcome,omitempty"`     // of the last bundle that came; empty: none yet
	Why      string    `json:"why,omitempty"`         // what is wrong with it, or what became of its proposal
	Looked   time.Time `json:"looked,omitzero"`       // when the server was asked last
	Answered time.Time `json:"answered,omitzero"`     // when it last answered
	Digest   string    `json:"digest,omitempty"`      // of the last bundle that could be read
	Revision string    `json:"revision,omitempty"`    // as its manifest calls it
	Proposal string    `json:"proposal,omitempty"`    // id
	Failures int       `json:"failures,omitempty"`    // looks in a row that brought no answer
	Failure  string    `json:"unreachable,omitempty"` // why the last look brought none
}

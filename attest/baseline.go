package attest

import (
	"context"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
)

// BaselineState is where a baseline stands in its life.
type BaselineState string

// The states. Moves go forward only, and to denied from anywhere.
const (
	Draft      BaselineState = "draft"      // proposed, counts for nobody
	Canary     BaselineState = "canary"     // counts for the devices under its canary label
	Active     BaselineState = "active"     // counts for every device of its model
	Deprecated BaselineState = "deprecated" // still accepted, with a warning
	Rejected   BaselineState = "denied"     // a device that boots this is refused and quarantined
)

// Baseline is a set of reference values: what devices of one model may boot.
type Baseline struct {
	ID       string        `json:"id"` // an audit.ID
	Model    string        `json:"model"`
	Firmware string        `json:"firmware,omitempty"` // a name for the release; for people and rules
	State    BaselineState `json:"state"`

	// PCRs are the values allowed, hex, by bank (sha256, sha384) and index. Registers
	// that are not listed may have any value.
	PCRs map[string]map[int][]string `json:"pcrs"`

	// Events are the digests that the log of the reference device measured, hex, by
	// PCR and in order. They explain a difference; Log decides.
	Events map[int][]Event `json:"events,omitempty"`
	Log    LogRules        `json:"log_rules,omitzero"`

	Canary     string    `json:"canary,omitempty"` // label=value of the devices that a canary counts for
	ValidFrom  time.Time `json:"valid_from,omitzero"`
	ValidUntil time.Time `json:"valid_to,omitzero"`
	Source     string    `json:"source,omitempty"` // where it came from: "device ID, evidence SHA256", a file's digest …
	Created    time.Time `json:"created"`
	By         string    `json:"created_by"`
	Changed    time.Time `json:"changed"`
	ChangedBy  string    `json:"changed_by,omitempty"`
	Why        string    `json:"reason,omitempty"` // of the last change
}

// LogRules are rules over an event log that replayed. Where a PCR has
// allowed digests here, its value need not be listed: each of its measurements must be.
type LogRules struct {
	SecureBoot *bool            `json:"secure_boot,omitempty"`
	Allowed    map[int][]string `json:"allowed_digests,omitempty"` // hex, by PCR
	Denied     []string         `json:"denied_digests,omitempty"`  // hex, in any PCR
}

// NoModel stands for the model of devices of which the register knows none.
const NoModel = "-"

// BaselineFilter selects baselines, newest first. Zero fields select everything.
type BaselineFilter struct {
	ID     string
	Model  string
	State  BaselineState
	Before string // only ids below this, for paging
	Limit  int    // 0 means 100
}

// BaselineMove changes a baseline's state.
type BaselineMove struct {
	ID     string
	From   []BaselineState
	To     BaselineState
	Canary string // kept with To == Canary
	By     string
	Reason string
	At     time.Time
}

// BaselineStore keeps baselines.
type BaselineStore interface {
	Baselines(ctx context.Context, f BaselineFilter) ([]Baseline, error)
	// AddBaseline commits with its event; an id that exists is a Conflict.
	AddBaseline(ctx context.Context, b Baseline, e audit.Event) error
	// MoveBaseline commits with its event; another state is a Conflict, an unknown id NotFound.
	MoveBaseline(ctx context.Context, m BaselineMove, e audit.Event) error
}

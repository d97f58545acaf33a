package release

import (
	"time"
)

// Replay is what a proposal's rules would have decided, and would decide, beside
// what the rules in force do.
type Replay struct {
	Base      string         `json:"base"` // digest of the rules that it was compared with
	By        string         `json:"by"`
	At        time.Time      `json:"at"`
	Since     time.Time      `json:"since"` // of the decisions that were asked again
	Until     time.Time      `json:"until"`
	Took      time.Duration  `json:"took_ns"`
	Recorded  Tally          `json:"recorded"`            // decisions of the record
	Fleet     Tally          `json:"fleet"`               // the next renewal of every device in service
	Operators []OperatorDiff `json:"operators,omitempty"` // who gains or loses actions, by id
	People    int            `json:"operators_asked"`
}

// OperatorDiff says what an operator may do under only one of two sets of rules.
type OperatorDiff struct {
	Operator string   `json:"operator"`
	Loses    []string `json:"loses,omitempty"`
	Gains    []string `json:"gains,omitempty"`
}

// Period says which decisions are replayed. The zero Period is the last seven days.
type Period struct {
	Since time.Time
	Until time.Time // zero: now
}

// Progress is how far a replay has come.
type Progress struct {
	Recorded int  `json:"recorded"` // decisions asked again
	Devices  int  `json:"devices"`  // renewals asked
	People   int  `json:"operators"`
	Done     bool `json:"done"`
}

// brief is the replay without its lists.
func (r *Replay) brief() *Replay {
	b := *r
	b.Recorded.Differences, b.Fleet.Differences, b.Operators = nil, nil, nil
	return &b
}

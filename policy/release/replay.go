package release

import (
	"time"
)

// Replay is what a proposal's rules would have decided, and would decide, beside
// what the rules in force do.
type Replay struct {
	ID        string         `json:"id"`
	Digest    string         `json:"digest"` // of the proposed rules
	Base      string         `json:"base"`   // digest of the rules that it was compared with
	By        string         `json:"by"`
	At        time.Time      `json:"at"`
	Since     time.Time      `json:"since"` // of the decisions that were asked again
	Until     time.Time      `json:"until"`
	Took      time.Duration  `json:"took_ns"`
	Recorded  Tally          `json:"recorded"`            // decisions of the record
	Fleet     Tally          `json:"fleet"`               // the next renewal of every device in service
	Operators []OperatorDiff `json:"operators,omitempty"` // who gains or loses actions, by id
	People    int            `json:"operators_asked"`
	Unlisted  int            `json:"unlisted,omitempty"` // differences that are counted, but were too many to be kept one by one
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
	People    int64 `json:"operators"`     // asked
	Devices   int64 `json:"devices"`       // whose next renewal was asked
	Decisions int64 `json:"decisions"`     // asked again
	Entries   int64 `json:"entries"`       // of the record that were read, from the newest back
	Total     int64 `json:"entries_total"` // of the record that are to be read; 0 until it is their turn
	Rate      int64 `json:"per_second"`    // entries, in the last second
	Done      bool  `json:"done"`
}

// brief is the replay without its lists.
func (r *Replay) brief() *Replay {
	b := *r
	b.Recorded.Differences, b.Fleet.Differences, b.Operators = nil, nil, nil
	return &b
}

// Package decisionlog tells of decisions in the event format of the Open Policy
// Agent, and sends them to whoever takes OPA's decision log.
//
// The record is the evidence and stays whole; what leaves the house is a
// transcript of it, with what masks name taken out. The record is the queue,
// too: a Forwarder keeps nothing but its place in it, so that no decision is lost,
// whatever happens to the sink or to the server, and none waits for a sink.
package decisionlog

import (
	"context"
	"time"
)

// Record is the record in the order of its tree, for reading: the queue.
type Record interface {
	// Leaves returns up to n leaves from index first on, in order.
	Leaves(ctx context.Context, first int64, n int) ([][]byte, error)

	// Size is how many leaves the tree has.
	Size(ctx context.Context) (int64, error)

	// IndexAt is the index of about the first leaf of that time or later, and never of a later
	// one; Size where there is none.
	IndexAt(ctx context.Context, at time.Time) (int64, error)
}

// Shift is how far the record was sent to a sink, and who does the sending now.
type Shift struct {
	Next   int64  // index of the first entry that was not sent yet
	Holder string // the process that sends; empty: none
	Until  time.Time
}

// ShiftStore keeps shifts, so that they outlive the process and one replica sends at a time.
type ShiftStore interface {
	// Shift returns that of the sink, or an error of kind NotFound.
	Shift(ctx context.Context, sink string) (Shift, error)

	// TakeShift gives the shift to holder until then, if it is free, is over by now, or
	// was the holder's before, and returns how it stands afterwards. A sink without one gets it, at start.
	TakeShift(ctx context.Context, sink string, start int64, holder string, now, until time.Time) (Shift, error)

	// MoveShift notes that everything below next was sent, and keeps the shift until
	// then; an until that is past gives it back. If it is not the holder's any more it is a
	// Conflict with the code shift_lost.
	MoveShift(ctx context.Context, sink, holder string, next int64, until time.Time) error
}

// Package fault is the one vocabulary of errors: what kind of failure it is,
// what the caller may read, and what only the log may hold.
//
// A room wraps and returns; the door at the end of the call logs once and
// translates the Kind to its protocol. An error that nobody classified is
// Internal and tells the caller nothing but an id.
package fault

import (
	"errors"
	"time"
)

// Kind says what sort of failure an error is. The zero Kind is Internal, so
// an error that was never classified cannot be mistaken for a harmless one.
type Kind int

// The kinds, each with the answer that a door typically gives.
const (
	Internal        Kind = iota // our own failure: a bug, or a part that broke (500)
	Malformed                   // the request cannot be understood or breaks its format (400)
	Unauthenticated             // nobody usable has said who they are (401)
	Denied                      // understood, known, and refused (403)
	Held                        // waits for a person (202 with Retry-After)
	NotFound                    // the thing named does not exist (404)
	Conflict                    // the thing is in a state that forbids this (409)
	Busy                        // we cannot just now; try again later (503 with Retry-After)
)

// Kinds lists every Kind, for the tests that range over each door's table.
var Kinds = []Kind{Internal, Malformed, Unauthenticated, Denied, Held, NotFound, Conflict, Busy}

// String returns the kind's name in lower case.
func (k Kind) String() string {
	names := [...]string{"internal", "malformed", "unauthenticated", "denied", "held", "not found", "conflict", "busy"}
	if k < 0 || int(k) >= len(names) {
		return "internal"
	}
	return names[k]
}

// Error is a classified failure.
type Error struct {
	Kind  Kind
	Code  string        // short reason code in snake_case that scripts and technicians look up, such as "key_in_use"
	Says  string        // one line that the caller may read: no internals, no secrets
	After time.Duration // when to try again; only for Held and Busy
	Ref   string        // id of the recorded decision, where there is one
	Err   error         // the cause, for the log only; may be nil
}

// Error returns the full text, for logs. Callers of a door read Says instead.
func (e *Error) Error() string {
	text := e.Says
	if e.Code != "" {
		text = e.Code + ": " + text
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// New returns an error of the given kind with a reason code and a line for the caller.
func New(kind Kind, code, says string) *Error {
	return &Error{Kind: kind, Code: code, Says: says}
}

// Wrap is New with a cause that only the log will show.
func Wrap(kind Kind, code, says string, cause error) *Error {
	return &Error{Kind: kind, Code: code, Says: says, Err: cause}
}

// Of returns the classified error inside err, or one of kind Internal that
// says only "internal error" and carries err as its cause. It returns nil for nil.
func Of(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Kind: Internal, Code: "internal", Says: "internal error", Err: err}
}

// Is reports whether err is classified as kind.
func Is(err error, kind Kind) bool {
	return err != nil && Of(err).Kind == kind
}

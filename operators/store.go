package operators

import (
	"context"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
)

// Filter selects operators, in order of name. Zero fields select everybody.
type Filter struct {
	Name  string
	State State
	After string // only names above this, for paging
	Limit int    // at most this many; 0 means 100
}

// Store is what the register needs of the database. An event commits with
// what it tells, or neither does.
type Store interface {
	// Operators returns those that the filter selects, without their certificates.
	Operators(ctx context.Context, f Filter) ([]Operator, error)

	// OperatorCertificates returns an operator's certificates, newest first, at most limit.
	OperatorCertificates(ctx context.Context, name string, limit int) ([]Certificate, error)

	// AddOperator takes somebody in, with a first certificate unless it is the
	// zero one. A name, an OIDC subject or an email address there that the register holds already is a
	// Conflict. With first it is a Conflict, code operators_exist, if the register holds anybody.
	AddOperator(ctx context.Context, o Operator, c Certificate, first bool, e audit.Event) error

	// ChangeOperator makes one change. An unknown operator is NotFound.
	ChangeOperator(ctx context.Context, c Change, e audit.Event) error
}

// Change is one change of an operator's entry. One that suspends or removes
// them, or revokes all certificates, ends their sessions too.
type Change struct {
	Name string
	From []State // their state has to be one of these, or it is a Conflict, code operator_state
	To   State   // empty leaves it

	// Others makes it a Conflict, code last_operator, if nobody else is active; callers by
	// break-glass do not count.
	Others bool

	Roles   []Role       // nil leaves them
	Bind    *Binding     // nil leaves it; another one ends their sessions
	Certify *Certificate // a certificate to be added
	Holding string       // SHA-256 of a certificate of theirs that may not be revoked, or it is Denied, code certificate_revoked; empty: none

	// RevokeAll revokes every certificate of theirs; Revoke the one with that
	// serial, which is NotFound, code operator_certificate_unknown, if there is none. One that is revoked stays as it is.
	RevokeAll bool
	Revoke    string

	Reason string
	By     string
	At     time.Time
}

// Roster is asked on every request of an operator.
type Roster interface {
	// OperatorByCertificate returns the operator whose certificate has that SHA-256 (lower-case hex)
	// and the certificate, or an error of kind NotFound.
	OperatorByCertificate(ctx context.Context, sha256 string) (Operator, Certificate, error)

	// OperatorBySession returns the operator whose session's token has that
	// SHA-256 and the session, or an error of kind NotFound.
	OperatorBySession(ctx context.Context, hash [32]byte) (Operator, Session, error)

	// TouchSession notes that the session was used.
	TouchSession(ctx context.Context, id string, at time.Time) error
}

// SessionStore keeps who is signed in.
type SessionStore interface {
	// OperatorByLogin returns the operator who is bound to that subject of the issuer,
	// else who is bound to the email address, unless it is empty, and to no subject yet; or an error of kind NotFound.
	OperatorByLogin(ctx context.Context, issuer, subject, email string) (Operator, error)

	// AddSession commits a new session with its event, and sweeps away what has
	// ended. It is Denied, code operator_unbound, if the operator is not active
	// or not bound to the session's subject any more. With Pin it binds them to the subject.
	AddSession(ctx context.Context, s NewSession, e audit.Event) error

	// Sessions returns those that the filter selects, newest first.
	Sessions(ctx context.Context, f SessionFilter) ([]Session, error)

	// EndSession ends a session with its event; one that is not there is NotFound.
	EndSession(ctx context.Context, id string, e audit.Event) error
}

// SessionFilter selects sessions. Zero fields select all.
type SessionFilter struct {
	ID       string
	Operator string
	Before   string // only ids below this, for paging
	Limit    int    // at most this many; 0 means 100

	Expiring time.Time // only those that last longer than this
	Stale    time.Time // only those that were used after this
}

// NewSession is a session that is to be added.
type NewSession struct {
	Session
	Hash  [32]byte  // SHA-256 of the token
	Pin   bool      // the subject is not bound yet, the email address is
	Stale time.Time // sessions last used before this have ended
	Most  int       // how many sessions an operator may have; the oldest make room
}

// SealStore keeps what is known of break-glass credentials.
type SealStore interface {
	// AddSeal takes a new seal in, in place of any other that is still sealed.
	AddSeal(ctx context.Context, s Seal, e audit.Event) error

	// SealByKey returns the seal of the key whose SubjectPublicKeyInfo has that SHA-256
	// (lower-case hex), or an error of kind NotFound.
	SealByKey(ctx context.Context, key string) (Seal, error)

	// OpenSeal marks the seal as opened and takes the caller in that comes of it.
	// A seal that is not Sealed is a Conflict, code seal_used.
	OpenSeal(ctx context.Context, id string, o Operator, c Certificate, e audit.Event) error
}

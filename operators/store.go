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

	// AddOperator takes somebody in, with a first certificate. A name or an OIDC
	// subject that the register holds already is a Conflict. With first it is a Conflict, code
	// operators_exist, if the register holds anybody.
	AddOperator(ctx context.Context, o Operator, c Certificate, first bool, e audit.Event) error

	// ChangeOperator makes one change. An unknown operator is NotFound.
	ChangeOperator(ctx context.Context, c Change, e audit.Event) error
}

// Change is one change of an operator's entry.
type Change struct {
	Name string
	From []State // their state has to be one of these, or it is a Conflict, code operator_state
	To   State   // empty leaves it

	// Others makes it a Conflict, code last_operator, if nobody else is active; callers by
	// break-glass do not count.
	Others bool

	Roles   []Role       // nil leaves them
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

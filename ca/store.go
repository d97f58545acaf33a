package ca

import (
	"context"
	"crypto/x509"
	"time"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/fleet"
)

// Certificate is one issued certificate as the store keeps it.
type Certificate struct {
	Serial    string // lower-case hex without separators
	Device    string // id in the register
	Profile   string
	NotBefore time.Time // to the second, UTC
	NotAfter  time.Time
	KeySHA256 [32]byte // SHA-256 over the SubjectPublicKeyInfo
	DER       []byte

	// Parsed is set on certificates that Issue returns and that Parse has filled; stores leave it nil.
	Parsed *x509.Certificate

	// Holder is the device's entry in the register, as Store.Certificate read it along; nil elsewhere.
	Holder *fleet.Device

	// Revoked says that it counts no more; nil where it does, as far as that is a matter of revocation.
	Revoked *Revocation
}

// Issuance is everything that commits together when a certificate is issued.
type Issuance struct {
	Certificate *Certificate
	Event       audit.Event

	// Presented is the serial number of our own certificate that the request was made
	// with; empty where it was none. One that is revoked by now is an error of kind Denied with code
	// certificate_revoked, and nothing is written. So is, with code key_revoked, a key that is never to be certified again.
	Presented string

	// Token is counted down by one use. One that is used up, revoked or expired
	// at Certificate.NotBefore in the meantime is an error of kind Denied with
	// code token_used, and nothing is written. Empty: no token.
	Token string

	// Request is marked as issued; one that is not approved is a Conflict. Empty: none was held.
	Request string

	// Admit is a device to create along with the certificate, nil if it exists.
	Admit *fleet.Device

	// Activate moves the device from Expected to Active. In every case a device that
	// is not in service by now is an error of kind Denied with code
	// device_not_in_service, and nothing is written.
	Activate bool

	// Attested is the device's bond to its TPM as it is from now on, and the evidence
	// behind it; nil where no evidence was shown. A device that is bound to another
	// TPM by now, and a TPM that another device is bound to, are errors of kind
	// Denied with code ek_mismatch, and nothing is written.
	Attested *attest.Outcome
}

// Filter selects certificates, newest first. Zero fields select everything.
type Filter struct {
	Device  string
	Profile string
	ValidAt time.Time // only those valid at this time
	Key     [32]byte  // SHA-256 over the SubjectPublicKeyInfo
	Revoked Which     // by whether they are revoked
	Before  int64     // only positions below this, for paging; 0 means from the newest
	Limit   int       // at most this many; 0 means 100
}

// Which selects by whether a certificate is revoked. The zero Which selects all.
type Which int

// The choices.
const (
	Either        Which = iota
	OnlyRevoked         // those that are
	OnlyUnrevoked       // those that are not
)

// Listed is a certificate with its position, for paging.
type Listed struct {
	Position int64
	Certificate
}

// Store is what the authority needs of the database.
type Store interface {
	// Issue commits the issuance in one transaction and returns when it is durable.
	// A serial that exists already is an error of kind Conflict.
	Issue(ctx context.Context, i Issuance) error

	// Certificate returns the certificate with that serial, Holder set, or an error of kind NotFound.
	Certificate(ctx context.Context, serial string) (*Certificate, error)

	// Certificates returns those that the filter selects.
	Certificates(ctx context.Context, f Filter) ([]Listed, error)

	// KeyHolder returns the id of the device that the newest certificate over this
	// key was issued to, or "" if the key is new. spki is the DER SubjectPublicKeyInfo.
	KeyHolder(ctx context.Context, spki []byte) (string, error)
}

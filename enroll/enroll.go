// Package enroll is the walk that every enrolment takes, whatever the door:
// authenticate, look up, decide, issue, record, answer. The doors (one package
// each, below this one) turn their protocol into a Request and a certificate
// or an error back into their protocol; everything between is here.
package enroll

import (
	"crypto/x509"
	"time"

	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// Operation is what a device asks for.
type Operation int

// The operations. The zero Operation is refused.
const (
	Enroll       Operation = iota + 1 // a first certificate (RFC 7030, Section 4.2.1)
	Reenroll                          // another one on the strength of the one held (RFC 7030, Section 4.2.2)
	ServerKeygen                      // a certificate over a key that we make (RFC 7030, Section 4.4)
	Nonce                             // what evidence has to be fresh by, for an enrolment to come
	Attest                            // evidence between renewals; no certificate comes of it
	CertifyAK                         // a certificate of an attestation key
)

// String returns the operation's name.
func (o Operation) String() string {
	switch o {
	case Enroll:
		return "enroll"
	case Reenroll:
		return "reenroll"
	case ServerKeygen:
		return "serverkeygen"
	case Nonce:
		return "nonce"
	case Attest:
		return "attest"
	case CertifyAK:
		return "certify-ak"
	}
	return "none"
}

// Proof is what the caller brought to say who it is. It proves nothing before
// authenticate has looked at it.
type Proof struct {
	Chain    []*x509.Certificate // as the TLS peer sent it, leaf first; possession of the leaf's key is shown, nothing else
	HasBasic bool                // HTTP Basic was sent
	User     string              // its user name: a device id, or empty
	Password string              // its password: an enrolment token
}

// Request is one enrolment as a door hands it over.
type Request struct {
	Door      string // est, acme …
	Operation Operation
	Profile   string // the label asked at; empty for the default profile
	Proof     Proof
	CSR       *ca.CSR
	Challenge string   // the sealed nonce exchange that evidence in the CSR answers, as it came back; empty if none did
	Bindings  []string // channel binding values of this very connection, base64 (RFC 4648, Section 4); empty if none can be computed
	Source    string   // the caller's IP address
	ID        string   // request id that finds the log lines
}

// Profile is a ca.Profile with what enrolment under it takes.
type Profile struct {
	*ca.Profile
	ChannelBinding   bool          // the CSR must be linked to the TLS connection (RFC 7030, Section 3.5)
	ServerKeygen     bool          // the server may make keys for devices
	ExternalReenroll bool          // a factory certificate may be used at simplereenroll, which then is a first enrolment
	TokenReenroll    bool          // so may a token
	ReenrollGrace    time.Duration // how long after its end a certificate may still renew itself
	RetryAfter       time.Duration // what a held device is told to wait; 0 means 30 s
	Wrap             bool          // EST answers are broken into lines of 64 for every client

	Evidence         string   // Optional (or empty) or Required, of a TPM
	EvidenceOnRenew  bool     // also with each renewal
	CertifyFresh     bool     // the certify statement has to carry the nonce, too
	EventLogRequired bool     // an event log has to come along
	PCRs             []int    // registers to quote, ascending; nil: 0 to 7, 9, 14
	Banks            []string // PCR banks taken: sha256, sha384; nil: both
}

// Enroller walks.
type Enroller struct {
	Profiles map[string]*Profile
	Default  string // name of the profile that the unlabelled paths use
	Register *fleet.Register
	Tokens   *Tokens
	Anchors  *Anchors
	Waiting  *Waiting
	CA       *ca.Authority
	Policy   *policy.Point
	Now      func() time.Time

	Attestation *Attestation // nil: no evidence of TPMs is taken
}

// Profile returns the profile behind a label, the default one for the empty
// label, or an error of kind NotFound.
func (e *Enroller) Profile(label string) (*Profile, error) {
	if label == "" {
		label = e.Default
	}
	if p := e.Profiles[label]; p != nil {
		return p, nil
	}
	return nil, fault.New(fault.NotFound, "profile_unknown", "there is no enrolment profile of that name here")
}

package enroll

import (
	"context"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/fleet"
)

// Token is a right to enrol that somebody carries. The secret itself is never
// stored, only its SHA-256.
type Token struct {
	ID      string    `json:"id"`
	Hash    [32]byte  `json:"-"`                 // SHA-256 of the secret
	Device  string    `json:"device,omitempty"`  // empty: any registered device
	Profile string    `json:"profile,omitempty"` // empty: any profile
	Uses    int       `json:"uses"`              // how many certificates it is good for
	Used    int       `json:"used"`              // how many it has yielded
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	By      string    `json:"created_by"`
	Revoked bool      `json:"revoked,omitempty"`
}

// TokenFilter selects tokens, newest first.
type TokenFilter struct {
	ID     string
	Device string
	Before string // only ids below this, for paging
	Limit  int    // 0 means 100
}

// TokenStore keeps tokens. Issuance counts their uses (ca.Issuance.Token).
type TokenStore interface {
	// TokenByHash returns the token, or an error of kind NotFound, and with it the
	// device that it is for: its own, or else the one named; nil if there is none in the register.
	TokenByHash(ctx context.Context, hash [32]byte, named string) (Token, *fleet.Device, error)
	Tokens(ctx context.Context, f TokenFilter) ([]Token, error)
	// CreateToken and RevokeToken commit with the event. Revoking an unknown one is NotFound; a revoked one stays revoked.
	CreateToken(ctx context.Context, t Token, e audit.Event) error
	RevokeToken(ctx context.Context, id string, e audit.Event) error
}

// AnchorKind says what a trust anchor vouches for.
type AnchorKind string

// The kinds of anchor.
const (
	IDevID AnchorKind = "idevid" // vouch for factory certificates (IEEE 802.1AR)
	EK     AnchorKind = "ek"     // vouch for endorsement keys of TPMs
	AK     AnchorKind = "ak"     // vouch for attestation keys of TPMs
)

// Anchor is a certificate that a profile trusts to vouch for devices.
type Anchor struct {
	ID      string     `json:"id"` // SHA-256 of the DER, lower-case hex
	Profile string     `json:"profile"`
	Kind    AnchorKind `json:"kind"`
	Subject string     `json:"subject"`
	DER     []byte     `json:"-"`
	Added   time.Time  `json:"added"`
	By      string     `json:"added_by"`
}

// AnchorStore keeps trust anchors. The same certificate may stand for several
// profiles and kinds.
type AnchorStore interface {
	// Anchors returns those of one profile and kind; empty strings select all.
	Anchors(ctx context.Context, profile string, kind AnchorKind) ([]Anchor, error)
	// AddAnchor is idempotent.
	AddAnchor(ctx context.Context, a Anchor, e audit.Event) error
	// RemoveAnchor removes the anchor from one profile, or from all if profile is empty; none there is NotFound.
	RemoveAnchor(ctx context.Context, id, profile string, e audit.Event) error
}

// HeldState is where a held request stands.
type HeldState string

// The states of a held request.
const (
	Pending  HeldState = "pending"
	Approved HeldState = "approved"
	Rejected HeldState = "denied"
	Issued   HeldState = "issued"
	Used     HeldState = "used" // of an operator's: it was done
)

// Held is what waits for a person: an enrolment, or what an operator has asked for.
type Held struct {
	ID       string    `json:"id"` // the id of the decision that held it first
	Key      [32]byte  `json:"-"`  // what makes two tries the same request (see pendingKey)
	Device   string    `json:"device"`
	Profile  string    `json:"profile"`
	Renewal  bool      `json:"renewal"`
	KeyHash  string    `json:"key_sha256"` // SHA-256 over the SubjectPublicKeyInfo, lower-case hex
	Subject  string    `json:"subject"`    // as the CSR claims it
	Reasons  []string  `json:"reasons,omitempty"`
	State    HeldState `json:"state"`
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires"`
	Decided  time.Time `json:"decided,omitzero"`
	By       string    `json:"decided_by,omitempty"`
	Reason   string    `json:"reason,omitempty"` // the operator's
	Serial   string    `json:"serial,omitempty"` // of the certificate that came of it
	Attempts int       `json:"attempts"`         // how often it was asked for
	Errand   *Errand   `json:"errand,omitempty"` // what an operator has asked for; device, profile and the like are empty then
}

// HeldFilter selects held requests, newest first.
type HeldFilter struct {
	ID     string
	State  HeldState
	Device string
	Before string // only ids below this, for paging
	Limit  int    // 0 means 100
}

// HeldStore keeps held requests.
type HeldStore interface {
	// Hold writes h with its event, unless a live one (pending, approved or denied, and not
	// expired at h.Created) with the same Key exists; then it counts one more attempt
	// there and still writes the event. It returns the one that stands.
	Hold(ctx context.Context, h Held, e audit.Event) (Held, error)
	// HeldByKey returns the newest live one with that key, or NotFound.
	HeldByKey(ctx context.Context, key [32]byte, now time.Time) (Held, error)
	// HeldRequests returns those that the filter selects.
	HeldRequests(ctx context.Context, f HeldFilter) ([]Held, error)
	// SettleHeld moves a pending request to Approved or Rejected with its event; another state is a Conflict, an unknown id NotFound.
	SettleHeld(ctx context.Context, s Settlement, e audit.Event) error
}

// Settlement is an operator's word on a held request.
type Settlement struct {
	ID     string
	To     HeldState
	By     string
	Reason string
	At     time.Time
}

// NonceStore is what exchanges that span two requests share among replicas.
type NonceStore interface {
	// Spend marks a nonce (by its SHA-256) as used until the time given, durably; one that is marked already is a Conflict.
	Spend(ctx context.Context, nonce [32]byte, until time.Time) error

	// Keep keeps a small body under a key until the time given, or until it is taken.
	Keep(ctx context.Context, key [32]byte, body []byte, until time.Time) error

	// Take returns the body and forgets it, once; an unknown key, and one past its time, is NotFound.
	Take(ctx context.Context, key [32]byte, now time.Time) ([]byte, error)

	// Secret returns the 32 random bytes of that name that all replicas share, made at the first call.
	Secret(ctx context.Context, name string) ([]byte, error)
}

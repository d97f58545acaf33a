package operators

import (
	"context"
	"crypto"
	"crypto/x509"
	"time"

	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

const (
	breakglassPrefix = "breakglass-"
	breakglassMember = "breakglass" // of the context that rules see
	breakglassMethod = "breakglass" // of auth, where the halves of the key are the proof
)

// BreakglassLife is how long a certificate by break-glass lives.
const BreakglassLife = time.Hour

// SealState is where a break-glass credential stands.
type SealState string

// The states of a seal.
const (
	Sealed   SealState = "sealed"
	Replaced SealState = "replaced" // another one was sealed
	Used     SealState = "used"     // it was opened
)

// Seal is a break-glass credential as the server knows it: by its public key.
// The private key was made and cut in two where it was sealed (see Split).
type Seal struct {
	ID      string    `json:"id"`
	Key     string    `json:"key_sha256"` // over the SubjectPublicKeyInfo, lower-case hex
	State   SealState `json:"state"`
	Created time.Time `json:"created"`
	By      string    `json:"created_by"`
}

// Opened says how a caller came by break-glass.
type Opened struct {
	Seal    string    `json:"seal"` // its id
	Reason  string    `json:"reason"`
	Opened  time.Time `json:"opened"`
	Expires time.Time `json:"expires"`
}

func (o *Opened) properties() map[string]any {
	p := map[string]any{"seal": o.Seal, "reason": o.Reason}
	if !o.Opened.IsZero() {
		p["opened"], p["expires"] = o.Opened.Format(time.RFC3339), o.Expires.Format(time.RFC3339)
	}
	return p
}

// Seal takes in the public key of a new break-glass credential under the
// permit's id. One that was sealed before and never opened is no good any more.
func (r *Register) Seal(ctx context.Context, p policy.Permit, id string, pub crypto.PublicKey) (Seal, error) {
	key, err := spki(pub)
	if err != nil {
		return Seal{}, err
	}
	s := Seal{ID: id, Key: key, State: Sealed, Created: r.now(), By: p.Actor()}
	event, err := p.Redeem(policy.SealBreakglass, id, policy.Properties{"seal": map[string]any{"key_sha256": key}})
	if err != nil {
		return Seal{}, err
	}
	return s, r.Seals.AddSeal(ctx, s, event)
}

// Unseal returns the caller who holds a sealed key, for the question whether
// they may open it, and the id of the seal, which the question is about. The reason is theirs. Errors are of kind Unauthenticated, code
// not_sealed, and Denied, code seal_used, which comes with the caller, for the record.
func (r *Register) Unseal(ctx context.Context, pub crypto.PublicKey, reason string) (Caller, string, error) {
	if err := checkReason(reason); err != nil {
		return Caller{}, "", err
	}
	key, err := spki(pub)
	if err != nil {
		return Caller{}, "", err
	}
	s, err := r.Seals.SealByKey(ctx, key)
	switch {
	case fault.Is(err, fault.NotFound):
		return Caller{}, "", fault.New(fault.Unauthenticated, "not_sealed", "these are not the halves of a key that was sealed on this server")
	case err != nil:
		return Caller{}, "", err
	}
	caller := Caller{operator: s.opener(reason), method: breakglassMethod, sealed: pub}
	if s.State != Sealed {
		return caller, s.ID, fault.New(fault.Denied, "seal_used", "this break-glass credential was opened before, or another was sealed in its place")
	}
	return caller, s.ID, nil
}

// opener is who opens the seal.
func (s *Seal) opener(reason string) Operator {
	name := breakglassPrefix + s.ID
	return Operator{Name: name, State: Active, Roles: []Role{}, Breakglass: &Opened{Seal: s.ID, Reason: reason}}
}

// Open opens a seal: the sealed key is certified for an hour. The permit has to
// be that of the caller whom Unseal returned, and there has to be a reason. It works once.
func (r *Register) Open(ctx context.Context, p policy.Permit, caller Caller) (Operator, *x509.Certificate, error) {
	o := caller.operator
	if o.Breakglass == nil || caller.sealed == nil || p.Actor() != o.Name {
		return Operator{}, nil, fault.New(fault.Denied, "not_sealed", "only who holds a sealed key opens it")
	}
	opened := *o.Breakglass
	if err := p.Covers(policy.OpenBreakglass, opened.Seal); err != nil {
		return Operator{}, nil, err
	}
	if opened.Reason == "" {
		return Operator{}, nil, fault.New(fault.Malformed, "reason_missing", "break-glass wants a reason")
	}
	now := r.now()
	signed, err := r.Authority.Certify(o.Name, caller.sealed, BreakglassLife, now)
	if err != nil {
		return Operator{}, nil, err
	}
	c := entryOf(signed, now)
	opened.Opened, opened.Expires = now, c.NotAfter
	o.Breakglass, o.Created, o.Changed = &opened, now, now
	event, err := p.Redeem(policy.OpenBreakglass, opened.Seal, policy.Properties{breakglassMember: opened.properties(), "certificate": c.fact()})
	if err != nil {
		return Operator{}, nil, err
	}
	if err := r.Seals.OpenSeal(ctx, opened.Seal, o, *c, event); err != nil {
		return Operator{}, nil, err
	}
	if r.Opened != nil {
		r.Opened(o)
	}
	o.Certificates = []Certificate{*c}
	return o, signed, nil
}

// Uphold is a guard rail that no rules lift: who holds both halves of a sealed
// key may open it, and who came by break-glass may look at the policy and take it
// back to an earlier revision, even if the rules in force allow nobody anything. It is for
// policy.Point, and heeds the context that Caller.Context has filled in.
func Uphold(q *policy.Request) (why policy.Reason, allowed bool) {
	if _, came := q.Context[breakglassMember].(map[string]any); !came || q.Subject.Type != "user" {
		return policy.Reason{}, false
	}
	switch q.Action {
	case policy.OpenBreakglass, policy.RollbackPolicy, policy.ShowPolicy, policy.ListPolicies, policy.PolicyHistory, policy.ExplainPolicy:
		return policy.Reason{Code: "guard_rail", Detail: "break-glass may always look at the policy and take it back to an earlier revision"}, true
	}
	return policy.Reason{}, false
}

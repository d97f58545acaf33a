package release

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"sync/atomic"
	"time"

	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
	"github.com/hallmark-pki/hallmark/policy/rego"
)

// Outlet hands the rules in force out to gateways, as a signed OPA bundle. Rules
// on trial are not handed out: a gateway does not know which devices the trial is for.
type Outlet struct {
	Running *Running
	Seal    *rego.Seal // nil: there is no key, and nothing is handed out
	sealed  atomic.Pointer[sealed]
}

// Sealed is a signed bundle.
type Sealed struct {
	Digest string // of the rules, "sha256:<hex>"
	Bundle []byte // OPA bundle (tar.gz)
}

// sealed is a Sealed with the name of the bundle that it was made of.
type sealed struct {
	Sealed
	of string
}

// Fetch returns the rules in force on this replica. The permit is to fetch the policy.
func (o *Outlet) Fetch(_ context.Context, p policy.Permit) (Sealed, error) {
	if err := p.Covers(policy.FetchPolicy, ""); err != nil {
		return Sealed{}, err
	}
	if o.Seal == nil {
		return Sealed{}, errNoSeal
	}
	force := o.Running.force()
	name := rego.Name(force.Bundle)
	if made := o.sealed.Load(); made != nil && made.of == name {
		return made.Sealed, nil
	}
	packed, err := rego.Repack(force.Bundle, o.Seal)
	if err != nil {
		return Sealed{}, err
	}
	made := &sealed{Sealed{force.Digest, packed}, name}
	o.sealed.Store(made)
	return made.Sealed, nil
}

var errNoSeal = fault.New(fault.Busy, "no_policy_key", "this server has no key to sign bundles with; its log says why")

// glance is between looks at whether other rules are in force.
const glance = 250 * time.Millisecond

// Await waits until rules of another digest are in force, or ctx ends.
func (o *Outlet) Await(ctx context.Context, digest string) {
	tick := time.NewTicker(glance)
	defer tick.Stop()
	for o.Running.Digest() == digest {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// VerificationKey is the public half of the key that signs what an Outlet hands out.
type VerificationKey struct {
	ID        string            `json:"key_id"`     // RFC 7638 thumbprint
	Algorithm string            `json:"algorithm"`  // as in OPA's configuration: ES256
	PEM       string            `json:"public_key"` // PUBLIC KEY
	JWK       map[string]string `json:"jwk"`        // the same by RFC 7517
	Scope     string            `json:"scope,omitempty"`
}

// Key returns what gateways verify bundles with. The permit is to fetch the policy.
func (o *Outlet) Key(_ context.Context, p policy.Permit) (VerificationKey, error) {
	if err := p.Covers(policy.FetchPolicy, ""); err != nil {
		return VerificationKey{}, err
	}
	if o.Seal == nil {
		return VerificationKey{}, errNoSeal
	}
	public := o.Seal.Key.Public()
	jwk, err := rego.JWK(public)
	if err != nil {
		return VerificationKey{}, err
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return VerificationKey{}, err
	}
	jwk["kid"] = o.Seal.KeyID
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	return VerificationKey{ID: o.Seal.KeyID, Algorithm: "ES256", PEM: string(text), JWK: jwk, Scope: o.Seal.Scope}, nil
}

package operators

import (
	"context"
	"crypto"
	"crypto/x509"
	"time"

	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// Caller is an operator who has proven who they are. Only Identify and Unseal
// make one; the zero Caller is nobody.
type Caller struct {
	operator    Operator
	certificate Certificate      // that they came with; zero: none
	session     Session          // that they came with; zero: none
	method      string           // how they proved it
	sealed      crypto.PublicKey // the key of a seal that they may open; nil for everybody else
}

// Name is the operator's name; empty for nobody.
func (c Caller) Name() string { return c.operator.Name }

// Subject is the caller as rules see them.
func (c Caller) Subject() policy.Entity {
	p := Describe(c.operator.Roles)
	auth := map[string]any{"method": c.method}
	if c.certificate.SHA256 != "" {
		auth["serial"], auth["cert_sha256"] = c.certificate.Serial, c.certificate.SHA256
	}
	if c.method == loginMethod {
		auth = c.session.Login.properties()
		if c.session.ID != "" {
			auth["session"] = c.session.ID
		}
	}
	p["auth"] = auth
	return policy.Entity{Type: "user", ID: c.operator.Name, Properties: p}
}

// Context is what rules see of how the caller came: member "breakglass" where
// that is so. It has to be part of every question that the caller asks.
func (c Caller) Context() policy.Properties {
	b := c.operator.Breakglass
	if b == nil {
		return nil
	}
	return policy.Properties{breakglassMember: b.properties()}
}

// Breakglass says how the caller came by break-glass; nil for everybody else.
func (c Caller) Breakglass() *Opened { return c.operator.Breakglass }

// Identify returns the caller behind a certificate whose chain, validity and
// proof of possession have been checked. It is asked on every request, since a
// connection outlives what its certificate was worth when it was opened. Where the
// certificate is known and no good any more, the caller is returned with the error, for the record:
// kind Unauthenticated, code not_an_operator or certificate_revoked, or
// Denied, code operator_suspended or operator_removed.
func (r *Register) Identify(ctx context.Context, leaf *x509.Certificate) (Caller, error) {
	o, c, err := r.Roster.OperatorByCertificate(ctx, digest(leaf.Raw))
	switch {
	case fault.Is(err, fault.NotFound), err == nil && o.Name != leaf.Subject.CommonName:
		return Caller{}, fault.New(fault.Unauthenticated, "not_an_operator", "the certificate presented is not in this server's register of operators")
	case err != nil:
		return Caller{}, err
	}
	caller := Caller{operator: o, certificate: c, method: "mtls"}
	if err := o.barred(); err != nil {
		return caller, err
	}
	if !c.Revoked.IsZero() {
		return caller, fault.New(fault.Unauthenticated, "certificate_revoked", "the operator certificate presented was revoked")
	}
	return caller, nil
}

// barred returns why the register lets this operator do nothing; nil if it does.
func (o *Operator) barred() error {
	switch o.State {
	case Active:
		return nil
	case Suspended:
		return fault.New(fault.Denied, "operator_suspended", "this operator is suspended")
	}
	return fault.New(fault.Denied, "operator_removed", "this operator was removed")
}

// Barred waits until the caller is nobody any more, and reports that; it asks
// the register about once a second, for the length of a long transfer. It reports false when ctx ends.
func (r *Register) Barred(ctx context.Context, caller Caller) bool {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-ticker.C:
		}
		if r.ended(ctx, caller) {
			return true
		}
	}
}

// ended reports whether what the caller came with is worth nothing any more.
func (r *Register) ended(ctx context.Context, caller Caller) bool {
	if caller.method == loginMethod {
		o, _, err := r.Roster.OperatorBySession(ctx, caller.session.hash)
		return fault.Is(err, fault.NotFound) || err == nil && o.State != Active
	}
	o, c, err := r.Roster.OperatorByCertificate(ctx, caller.certificate.SHA256)
	return err == nil && (!c.Revoked.IsZero() || o.State != Active)
}

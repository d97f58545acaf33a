package operators

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// DefaultLife is how long operators' certificates live unless it is configured.
const DefaultLife = 24 * time.Hour

// Authority certifies people: ca.Operators.
type Authority interface {
	// Certify returns a client certificate for the operator of that name, good for life.
	Certify(name string, pub crypto.PublicKey, life time.Duration, now time.Time) (*x509.Certificate, error)
}

// Register is the register as operators use it. Whatever they ask of it takes a
// Permit. Public keys that are handed in are those of certification requests
// whose signature has verified (ca.ParseCSR): private keys never come here.
type Register struct {
	Store     Store
	Roster    Roster
	Seals     SealStore
	Sessions  SessionStore
	Authority Authority
	Life      time.Duration // of the certificates; 0 means DefaultLife
	SignIn    SignIn
	Now       func() time.Time
	Opened    func(Operator) // told of each caller by break-glass, once it is on record; may be nil
}

// shownCertificates is how many of an operator's certificates Show returns.
const shownCertificates = 100

// Add takes somebody in, with the Name, Roles and Binding of o, and certifies
// their key. Who signs in at the identity provider needs none: pub may be nil for
// them, and then there is no certificate. The permit must be for the name.
func (r *Register) Add(ctx context.Context, p policy.Permit, o Operator, pub crypto.PublicKey) (Operator, *x509.Certificate, error) {
	if err := p.Covers(policy.AddOperator, o.Name); err != nil {
		return Operator{}, nil, err
	}
	if err := o.Check(); err != nil {
		return Operator{}, nil, err
	}
	bound, err := r.bind(o.Binding)
	if err != nil {
		return Operator{}, nil, err
	}
	now := r.now()
	made := Operator{Name: o.Name, Roles: o.Roles, State: Active, Binding: bound, Created: now, By: p.Actor(), Changed: now, ChangedBy: p.Actor()}
	var signed *x509.Certificate
	c := new(Certificate)
	if pub != nil || !bound.Bound() {
		if signed, c, err = r.certify(o.Name, pub, now); err != nil {
			return Operator{}, nil, err
		}
	}
	event, err := p.Redeem(policy.AddOperator, o.Name, made.fact(c))
	if err != nil {
		return Operator{}, nil, err
	}
	if err := r.Store.AddOperator(ctx, made, *c, false, event); err != nil {
		return Operator{}, nil, err
	}
	if signed != nil {
		made.Certificates = []Certificate{*c}
	}
	return made, signed, nil
}

// List returns the operators that the filter selects, without their certificates.
func (r *Register) List(ctx context.Context, p policy.Permit, f Filter) ([]Operator, error) {
	if err := p.Covers(policy.ListOperators, ""); err != nil {
		return nil, err
	}
	return r.Store.Operators(ctx, f)
}

// Show returns one operator with their last certificates, or an error of kind NotFound.
func (r *Register) Show(ctx context.Context, p policy.Permit, name string) (Operator, error) {
	if err := p.Covers(policy.ShowOperator, name); err != nil {
		return Operator{}, err
	}
	o, err := r.Find(ctx, name)
	if err == nil {
		o.Certificates, err = r.Store.OperatorCertificates(ctx, name, shownCertificates)
	}
	return o, err
}

// Find returns one operator without certificates, or an error of kind
// NotFound. It is for asking policy about them, and answers no operator.
func (r *Register) Find(ctx context.Context, name string) (Operator, error) {
	if name == "" {
		return Operator{}, errUnknown
	}
	found, err := r.Store.Operators(ctx, Filter{Name: name, Limit: 1})
	switch {
	case err != nil:
		return Operator{}, err
	case len(found) == 0:
		return Operator{}, errUnknown
	}
	return found[0], nil
}

var errUnknown = fault.New(fault.NotFound, "operator_unknown", "no operator has this name")

// Assign gives an operator other roles, in place of those that they have.
func (r *Register) Assign(ctx context.Context, p policy.Permit, name string, roles []Role) error {
	if err := checkRoles(roles); err != nil {
		return err
	}
	return r.change(ctx, p, policy.AssignOperator, Change{Name: name, From: []State{Active, Suspended}, Roles: roles})
}

// Bind says anew by what an operator is known to the identity provider; the
// zero Binding takes that from them. Their sessions end.
func (r *Register) Bind(ctx context.Context, p policy.Permit, name string, b Binding) error {
	bound, err := r.bind(b)
	if err != nil {
		return err
	}
	return r.change(ctx, p, policy.AssignOperator, Change{Name: name, From: []State{Active, Suspended}, Bind: &bound})
}

// bind completes a binding with the issuer.
func (r *Register) bind(b Binding) (Binding, error) {
	if err := b.check(); err != nil || !b.Bound() {
		return Binding{}, err
	}
	if r.SignIn.Issuer == "" {
		return Binding{}, fault.New(fault.Conflict, "oidc_not_configured",
			"this server has no identity provider to bind operators to: operators.oidc of its config.yaml names one")
	}
	b.Issuer, b.Email = r.SignIn.Issuer, strings.ToLower(b.Email)
	return b, nil
}

// Suspend keeps an operator out until somebody resumes them. Their
// certificates are not revoked.
func (r *Register) Suspend(ctx context.Context, p policy.Permit, name, reason string) error {
	return r.change(ctx, p, policy.SuspendOperator, Change{Name: name, From: []State{Active}, To: Suspended, Others: true, Reason: reason})
}

// Resume lets a suspended operator in again.
func (r *Register) Resume(ctx context.Context, p policy.Permit, name, reason string) error {
	return r.change(ctx, p, policy.ResumeOperator, Change{Name: name, From: []State{Suspended}, To: Active, Reason: reason})
}

// Remove keeps an operator out for good and revokes their certificates. The
// entry stays, since the record tells of them.
func (r *Register) Remove(ctx context.Context, p policy.Permit, name, reason string) error {
	return r.change(ctx, p, policy.RemoveOperator, Change{
		Name: name, From: []State{Active, Suspended}, To: Removed, Others: true, RevokeAll: true, Reason: reason})
}

// Revoke revokes the operator's certificate with that serial number (lower-case
// hex), or all that they have where serial is empty. It does not keep them from being certified anew.
func (r *Register) Revoke(ctx context.Context, p policy.Permit, name, serial, reason string) error {
	return r.change(ctx, p, policy.RevokeOperator, Change{
		Name: name, From: []State{Active, Suspended, Removed}, RevokeAll: serial == "", Revoke: serial, Reason: reason})
}

// Certify certifies another key of an operator, such as one who has lost theirs.
func (r *Register) Certify(ctx context.Context, p policy.Permit, name string, pub crypto.PublicKey) (*x509.Certificate, error) {
	return r.certified(ctx, p, policy.CertifyOperator, Change{Name: name, From: []State{Active}}, pub)
}

// Renew certifies a key of the caller's, who holds a certificate that is good.
// That one stays good until it expires.
func (r *Register) Renew(ctx context.Context, p policy.Permit, caller Caller, pub crypto.PublicKey) (*x509.Certificate, error) {
	if caller.operator.Name == "" || p.Actor() != caller.operator.Name {
		return nil, fault.New(fault.Denied, "not_yours", "operators renew their own certificates only")
	}
	if caller.certificate.SHA256 == "" {
		return nil, fault.New(fault.Denied, "certificate_needed", "a certificate is renewed by who holds it, not by a session")
	}
	return r.certified(ctx, p, policy.RenewOperator,
		Change{Name: caller.operator.Name, From: []State{Active}, Holding: caller.certificate.SHA256}, pub)
}

// certified is a change that adds a certificate.
func (r *Register) certified(ctx context.Context, p policy.Permit, a policy.Action, c Change, pub crypto.PublicKey) (*x509.Certificate, error) {
	if err := p.Covers(a, c.Name); err != nil {
		return nil, err
	}
	signed, made, err := r.certify(c.Name, pub, r.now())
	if err != nil {
		return nil, err
	}
	c.Certify = made
	if err := r.change(ctx, p, a, c); err != nil {
		return nil, err
	}
	return signed, nil
}

// change redeems the permit for a change and makes it.
func (r *Register) change(ctx context.Context, p policy.Permit, a policy.Action, c Change) error {
	if err := p.Covers(a, c.Name); err != nil {
		return err
	}
	if err := checkReason(c.Reason); err != nil {
		return err
	}
	o, err := r.Find(ctx, c.Name)
	if err != nil {
		return err
	}
	if o.Breakglass != nil && (c.Certify != nil || c.Roles != nil || c.Bind != nil || c.To == Active) {
		return fault.New(fault.Conflict, "operator_breakglass", "a caller by break-glass gets no other certificate and no roles: the hour is all there is")
	}
	c.By, c.At = p.Actor(), r.now()
	event, err := p.Redeem(a, c.Name, c.fact())
	if err != nil {
		return err
	}
	return r.Store.ChangeOperator(ctx, c, event)
}

// Adopt takes the first operator into an empty register, with the certificate
// that they were founded with. It does nothing, and says so, if there is anybody in it.
func (r *Register) Adopt(ctx context.Context, c *x509.Certificate, roles ...Role) (bool, error) {
	now := r.now()
	o := Operator{Name: c.Subject.CommonName, Roles: roles, State: Active, Created: now, Changed: now}
	if err := o.Check(); err != nil {
		return false, err
	}
	kept := entryOf(c, now)
	err := r.Store.AddOperator(ctx, o, *kept, true, audit.Event{
		ID: audit.NewID(now), At: now, Action: string(policy.AddOperator), Outcome: audit.Done,
		Actor: audit.Party{Type: "service", ID: "hallmark"}, Object: audit.Party{Type: "operator", ID: o.Name},
		Fact: audit.AppendCanonical(nil, map[string]any(o.fact(kept))),
	})
	if fault.Is(err, fault.Conflict) {
		return false, nil
	}
	return err == nil, err
}

// Subjects returns everybody who is active, as rules see them when they ask
// for something; callers by break-glass are left out.
func (r *Register) Subjects(ctx context.Context) ([]policy.Entity, error) {
	var all []policy.Entity
	f := Filter{State: Active}
	for {
		found, err := r.Store.Operators(ctx, f)
		if err != nil || len(found) == 0 {
			return all, err
		}
		for _, o := range found {
			if o.Breakglass == nil {
				all = append(all, Caller{operator: o, method: "mtls"}.Subject())
			}
		}
		f.After = found[len(found)-1].Name
	}
}

func (r *Register) now() time.Time { return r.Now().UTC().Truncate(time.Millisecond) } // as it is kept

func (r *Register) certify(name string, pub crypto.PublicKey, now time.Time) (*x509.Certificate, *Certificate, error) {
	life := r.Life
	if life == 0 {
		life = DefaultLife
	}
	signed, err := r.Authority.Certify(name, pub, life, now)
	if err != nil {
		return nil, nil, err
	}
	return signed, entryOf(signed, now), nil
}

// entryOf is a certificate as the register keeps it.
func entryOf(c *x509.Certificate, issued time.Time) *Certificate {
	return &Certificate{SHA256: digest(c.Raw), Serial: hex.EncodeToString(c.SerialNumber.Bytes()), Issued: issued, NotAfter: c.NotAfter.UTC()}
}

func digest(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// fact is what the record keeps of a new operator.
func (o *Operator) fact(c *Certificate) policy.Properties {
	f := Describe(o.Roles)
	f["state"] = string(o.State)
	o.Binding.describe(f)
	all := policy.Properties{"operator": map[string]any(f)}
	if c.SHA256 != "" {
		all["certificate"] = c.fact()
	}
	return all
}

// describe adds the binding to what the record keeps.
func (b *Binding) describe(f policy.Properties) {
	for name, value := range map[string]string{"oidc_issuer": b.Issuer, "oidc_subject": b.Subject, "oidc_email": b.Email} {
		if value != "" {
			f[name] = value
		}
	}
}

func (c *Certificate) fact() map[string]any {
	return map[string]any{"serial": c.Serial, "sha256": c.SHA256, "not_after": c.NotAfter.Format(time.RFC3339)}
}

// fact is what the record keeps of a change.
func (c *Change) fact() policy.Properties {
	f := policy.Properties{}
	if c.To != "" {
		f["state"] = string(c.To)
	}
	if c.Roles != nil {
		f = Describe(c.Roles)
	}
	if c.Bind != nil {
		f["oidc_issuer"] = "" // of who is bound to nothing any more
		c.Bind.describe(f)
	}
	switch {
	case c.RevokeAll:
		f["revoked"] = "all"
	case c.Revoke != "":
		f["revoked"] = c.Revoke
	}
	if c.Reason != "" {
		f["reason"] = c.Reason
	}
	all := policy.Properties{"operator": map[string]any(f)}
	if c.Certify != nil {
		all["certificate"] = c.Certify.fact()
	}
	return all
}

// spki is how a key is known: the SHA-256 over its SubjectPublicKeyInfo.
func spki(pub crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return "", fmt.Errorf("encoding a public key: %w", err)
	}
	return digest(der), nil
}

package ca

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// Order says what a granted certificate is made from.
type Order struct {
	CSR     *CSR
	Device  fleet.Device
	Known   bool   // false: the device is admitted to the register along with the certificate
	Profile string // the one asked for; the grant may name another
	Token   string // id of the token that is used up by this; empty for none
	Shown   string // serial number of our own certificate that the request was made with; empty for none
	Request string // id of the held request that this settles; empty for none

	Attested attest.Result   // what the device proved of its key; the zero Result claims nothing
	Outcome  *attest.Outcome // what accepted evidence leaves behind; nil where there was none
}

// Issue makes one certificate of one grant and returns when it is durable.
// Errors of kind Malformed (key_not_allowed) and Denied (key_in_use, key_revoked, certificate_revoked,
// id_not_nameable, and those of Store.Issue) leave nothing behind.
func (a *Authority) Issue(ctx context.Context, g policy.Grant, o Order) (*Certificate, error) {
	m, lifetime, err := a.granted(g, o)
	if err != nil {
		return nil, err
	}
	if err := a.checkKey(ctx, m, o); err != nil {
		return nil, err
	}
	draft, err := m.draft(o, a.now(), lifetime)
	if err != nil {
		return nil, err
	}
	if err := m.lint.check(draft); err != nil {
		return nil, fmt.Errorf("before signing for device %q: %w", o.Device.ID, err)
	}
	parsed, err := a.sign(ctx, draft)
	if err != nil {
		return nil, err
	}
	c := describe(parsed, o.Device.ID, m.Name)
	event, err := g.Redeem(fact(c))
	if err != nil {
		return nil, err
	}
	if err := a.store.Issue(ctx, o.issuance(c, event)); err != nil {
		return nil, err
	}
	return c, nil
}

// sign has the issuer sign a draft that passed the linter, and reads back what came of it.
func (a *Authority) sign(ctx context.Context, f *Draft) (*x509.Certificate, error) {
	der, err := a.issuer.Issue(ctx, f)
	if err != nil {
		return nil, fault.Wrap(fault.Busy, "issuer_unavailable", "the issuer cannot sign at the moment", err)
	}
	parsed, err := a.accept(der, f)
	if err != nil {
		return nil, fmt.Errorf("after signing for device %q: %w", f.device, err)
	}
	return parsed, nil
}

// within is the lifetime, or what the issuing certificate has left of it.
func (a *Authority) within(lifetime time.Duration) (time.Duration, error) {
	lifetime = min(lifetime, a.issuer.Chain()[0].NotAfter.Sub(a.now()))
	if lifetime < time.Second {
		return 0, fault.New(fault.Busy, "issuer_expired", "the issuing certificate has expired; an operator has to rotate it")
	}
	return lifetime, nil
}

// granted resolves what the grant allows: which profile, and for how long at most.
func (a *Authority) granted(g policy.Grant, o Order) (*mould, time.Duration, error) {
	if g.Device() == "" || g.Device() != o.Device.ID {
		return nil, 0, fmt.Errorf("grant for device %q does not cover device %q", g.Device(), o.Device.ID)
	}
	if g.Spent() {
		return nil, 0, fmt.Errorf("grant for device %q was used already", g.Device())
	}
	if !o.Known && !g.Admits() {
		return nil, 0, fault.New(fault.Denied, "device_unknown", "the device is not in the register, and policy did not say to admit it")
	}
	if o.CSR == nil {
		return nil, 0, fmt.Errorf("order for device %q has no request", o.Device.ID)
	}
	name := g.Profile()
	if name == "" {
		name = o.Profile
	}
	m := a.moulds[name]
	if m == nil {
		return nil, 0, fault.New(fault.Denied, "profile_unknown", fmt.Sprintf("there is no profile %q", name))
	}
	lifetime := m.Lifetime
	if g.Lifetime() > 0 { // policy may choose less than the profile's default, or more up to its maximum
		lifetime = min(g.Lifetime(), m.MaxLifetime)
	}
	lifetime, err := a.within(lifetime)
	return m, lifetime, err
}

// checkKey refuses keys that the profile does not take, and keys that belong to somebody else.
func (a *Authority) checkKey(ctx context.Context, m *mould, o Order) error {
	if !m.allows(o.CSR.KeyType, o.CSR.KeyBits) {
		return fault.New(fault.Malformed, "key_not_allowed",
			fmt.Sprintf("profile %s does not take %s keys of %d bits", m.Name, o.CSR.KeyType, o.CSR.KeyBits))
	}
	for _, c := range a.issuer.Chain() {
		if sameKey(c.PublicKey, o.CSR.PublicKey) {
			return fault.New(fault.Denied, "key_in_use", "the key in the request belongs to an authority")
		}
	}
	if _, local := a.issuer.(*Local); local {
		return nil // Store.Issue looks in its transaction; a signature of our own that is thrown away leaves nothing behind
	}
	holder, err := a.store.KeyHolder(ctx, o.CSR.SPKI)
	if err != nil {
		return fmt.Errorf("looking up the holder of a key: %w", err)
	}
	if holder != "" && holder != o.Device.ID {
		return fault.New(fault.Denied, "key_in_use", "the key in the request is certified for another device; make a new key")
	}
	return nil
}

// describe is the certificate as the store keeps it.
func describe(parsed *x509.Certificate, device, profile string) *Certificate {
	return &Certificate{
		Serial: SerialText(parsed.SerialNumber), Device: device, Profile: profile,
		NotBefore: parsed.NotBefore.UTC(), NotAfter: parsed.NotAfter.UTC(),
		KeySHA256: sha256.Sum256(parsed.RawSubjectPublicKeyInfo), DER: parsed.Raw, Parsed: parsed,
	}
}

// fact is what the record says of a certificate.
func fact(c *Certificate) policy.Properties {
	sum := sha256.Sum256(c.DER)
	return policy.Properties{"certificate": map[string]any{
		"serial":     c.Serial,
		"sha256":     hex.EncodeToString(sum[:]),
		"profile":    c.Profile,
		"not_before": c.NotBefore.Format(time.RFC3339),
		"not_after":  c.NotAfter.Format(time.RFC3339),
		"key_sha256": hex.EncodeToString(c.KeySHA256[:]),
	}}
}

// issuance is everything that commits together.
func (o *Order) issuance(c *Certificate, e audit.Event) Issuance {
	i := Issuance{Certificate: c, Event: e, Presented: o.Shown, Token: o.Token, Request: o.Request, Attested: o.Outcome}
	if o.Known {
		i.Activate = o.Device.State == fleet.Expected
		return i
	}
	admitted := o.Device
	i.Admit, i.Activate = &admitted, true
	return i
}

// Package ca is the certificate authority: it signs on a policy.Grant and on
// nothing else. Names and lifetime come from the register, the profile and the
// grant; from the request comes only the key. Every certificate is linted
// before it is signed, read back and compared after, and committed together
// with its entry in the record before anybody sees it.
package ca

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// Config is what an Authority is made of.
type Config struct {
	Issuer   Issuer
	Profiles []Profile // at least one; defaults are filled in

	// AttestationKeys shapes the certificates of attestation keys: Lifetime (default 24 h),
	// Backdate, the kinds of Keys, and where status and issuer are found. The rest is given.
	AttestationKeys Profile

	Store  Store
	Ledger Ledger           // needed to revoke
	Now    func() time.Time // nil means time.Now

	Revoked func(reason RevocationReason, n int) // told of each revocation once it is durable, and how many certificates it took; may be nil
}

// Authority issues certificates. It is safe for concurrent use.
type Authority struct {
	issuer Issuer
	moulds map[string]*mould
	ak     *mould  // of attestation keys
	lint   *linter // all rules, for certificates that others wrote
	signed atomic.Uint64
	store  Store
	ledger Ledger
	now    func() time.Time

	revoked func(RevocationReason, int)
}

// New returns an authority, or an error that names the part of the
// configuration that is wrong.
func New(c Config) (*Authority, error) {
	if c.Issuer == nil || c.Store == nil || len(c.Profiles) == 0 {
		return nil, errors.New("an authority needs an issuer, a store and a profile")
	}
	chain := c.Issuer.Chain()
	if err := checkChain(chain); err != nil {
		return nil, err
	}
	l, err := newLinter()
	if err != nil {
		return nil, err
	}
	a := &Authority{issuer: c.Issuer, moulds: map[string]*mould{}, lint: l, store: c.Store, ledger: c.Ledger, now: c.Now, revoked: c.Revoked}
	if a.now == nil {
		a.now = time.Now
	}
	if a.ak, err = c.akMould(chain[0]); err != nil {
		return nil, err
	}
	for _, p := range c.Profiles {
		p = p.WithDefaults()
		if err := p.Check(); err != nil {
			return nil, err
		}
		if p.Name == AttestationKeys {
			return nil, fmt.Errorf("profile %q: the name is taken by the certificates of attestation keys", p.Name)
		}
		if a.moulds[p.Name] != nil {
			return nil, fmt.Errorf("profile %q stands twice", p.Name)
		}
		m, err := newMould(p, chain[0])
		if err != nil {
			return nil, err
		}
		if m.lint, err = l.fit(m); err != nil {
			return nil, err
		}
		a.moulds[p.Name] = m
	}
	return a, nil
}

// Chain returns the issuing certificate first and the root last.
func (a *Authority) Chain() []*x509.Certificate { return a.issuer.Chain() }

// Issued returns our own certificate of a device that a client presented, or an
// error of kind NotFound. It compares the whole certificate with the one stored, byte for
// byte, which proves more than a signature would: that we issued it and still
// stand by it. It does not look at the validity period or the device's state.
// The certificate of an attestation key is Denied: that key speaks for a TPM, in
// statements, and never for a client (code attestation_key_certificate). One that was
// revoked comes with Revoked set: it is for the caller to say what that means.
func (a *Authority) Issued(ctx context.Context, leaf *x509.Certificate) (*Certificate, error) {
	c, err := a.stored(ctx, leaf)
	if err == nil && c.Profile == AttestationKeys {
		return nil, fault.New(fault.Denied, "attestation_key_certificate", "this is the certificate of an attestation key; it identifies no client")
	}
	return c, err
}

// IssuedAK is Issued for certificates of attestation keys, and for no others. One that was revoked is Denied (certificate_revoked).
func (a *Authority) IssuedAK(ctx context.Context, leaf *x509.Certificate) (*Certificate, error) {
	c, err := a.stored(ctx, leaf)
	if err == nil && c.Profile != AttestationKeys {
		return nil, fault.New(fault.NotFound, "certificate_unknown", "this authority did not certify that attestation key")
	}
	if err == nil && c.Revoked != nil {
		return nil, fault.New(fault.Denied, "certificate_revoked", "the certificate of the attestation key was revoked")
	}
	return c, err
}

func (a *Authority) stored(ctx context.Context, leaf *x509.Certificate) (*Certificate, error) {
	c, err := a.store.Certificate(ctx, SerialText(leaf.SerialNumber))
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(c.DER, leaf.Raw) {
		return nil, fault.New(fault.NotFound, "certificate_unknown", "this authority did not issue that certificate")
	}
	c.Parsed = leaf
	return c, nil
}

// List returns the certificates that the filter selects, newest first.
func (a *Authority) List(ctx context.Context, p policy.Permit, f Filter) ([]Listed, error) {
	if err := p.Covers(policy.ListCertificates, ""); err != nil {
		return nil, err
	}
	return a.store.Certificates(ctx, f)
}

// Show returns one certificate with Parsed set, or an error of kind NotFound.
// The permit is for the serial number as written in the call.
func (a *Authority) Show(ctx context.Context, p policy.Permit, serial string) (*Certificate, error) {
	if err := p.Covers(policy.ShowCertificate, serial); err != nil {
		return nil, err
	}
	return a.Find(ctx, serial)
}

// Find returns one certificate, or an error of kind NotFound. It is for asking
// policy about it, and answers no operator.
func (a *Authority) Find(ctx context.Context, serial string) (*Certificate, error) {
	c, err := a.store.Certificate(ctx, strings.ToLower(strings.ReplaceAll(serial, ":", "")))
	if err != nil {
		return nil, err
	}
	if c.Parsed, err = x509.ParseCertificate(c.DER); err != nil {
		return nil, fmt.Errorf("reading stored certificate %s: %w", c.Serial, err)
	}
	return c, nil
}

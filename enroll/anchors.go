package enroll

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// Anchors are the certificates that profiles trust to vouch for devices.
type Anchors struct {
	Store AnchorStore
	Own   []*x509.Certificate // our own authorities, which never vouch for a factory certificate
	Now   func() time.Time

	mu      sync.Mutex
	known   map[vouching]*trusted
	changes int // how often this process has changed anchors
}

// Parse reads the certificates of a PEM or DER file as anchors of one profile
// and kind. Each must be a certificate authority and none of our own.
func (a *Anchors) Parse(profile string, kind AnchorKind, file []byte) ([]Anchor, error) {
	if kind != IDevID && kind != EK && kind != AK {
		return nil, fault.New(fault.Malformed, "anchor_kind", fmt.Sprintf("unknown kind %q: there are %q, %q and %q", kind, IDevID, EK, AK))
	}
	var anchors []Anchor
	for _, der := range certificatesIn(file) {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fault.Wrap(fault.Malformed, "anchor_unreadable", "the file holds a certificate that cannot be read", err)
		}
		if !c.BasicConstraintsValid || !c.IsCA {
			return nil, fault.New(fault.Malformed, "anchor_not_ca", fmt.Sprintf("%q is not a certificate authority", c.Subject))
		}
		for _, own := range a.Own { // what we certify ourselves is known by the certificate, whoever vouched for it; but we may certify attestation keys
			if kind != AK && bytes.Equal(own.RawSubjectPublicKeyInfo, c.RawSubjectPublicKeyInfo) {
				return nil, fault.New(fault.Malformed, "anchor_own", "this is our own authority: its certificates are known without an anchor")
			}
		}
		id := sha256.Sum256(der)
		anchors = append(anchors, Anchor{ID: hex.EncodeToString(id[:]), Profile: profile, Kind: kind, Subject: c.Subject.String(), DER: der})
	}
	if len(anchors) == 0 {
		return nil, fault.New(fault.Malformed, "anchor_unreadable", "the file holds no certificate, neither PEM nor DER")
	}
	return anchors, nil
}

func certificatesIn(file []byte) [][]byte {
	if block, _ := pem.Decode(file); block == nil {
		if len(file) == 0 || file[0] != 0x30 { // a DER SEQUENCE
			return nil
		}
		return [][]byte{file}
	}
	var ders [][]byte
	for block, rest := pem.Decode(file); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			ders = append(ders, block.Bytes)
		}
	}
	return ders
}

// Add trusts an anchor that Parse read. The permit must be for the anchor's ID.
func (a *Anchors) Add(ctx context.Context, p policy.Permit, anchor Anchor) (Anchor, error) {
	anchor.Added, anchor.By = a.Now(), p.Actor()
	event, err := p.Redeem(policy.AddAnchor, anchor.ID, policy.Properties{"anchor": map[string]any{
		"profile": anchor.Profile, "kind": string(anchor.Kind), "subject": anchor.Subject,
	}})
	if err != nil {
		return Anchor{}, err
	}
	defer a.forget()
	return anchor, a.Store.AddAnchor(ctx, anchor, event)
}

// List returns the anchors of a profile and kind; empty strings select all.
func (a *Anchors) List(ctx context.Context, p policy.Permit, profile string, kind AnchorKind) ([]Anchor, error) {
	if err := p.Covers(policy.ListAnchors, ""); err != nil {
		return nil, err
	}
	return a.Store.Anchors(ctx, profile, kind)
}

// Remove ends the trust in an anchor, for one profile or, if profile is empty, for all.
func (a *Anchors) Remove(ctx context.Context, p policy.Permit, id, profile string) error {
	event, err := p.Redeem(policy.RemoveAnchor, id, policy.Properties{"anchor": map[string]any{"profile": profile}})
	if err != nil {
		return err
	}
	defer a.forget()
	return a.Store.RemoveAnchor(ctx, id, profile, event)
}

// verify checks that a factory certificate chains to an anchor of the profile,
// now, and returns that anchor's id. Extended key usage is not looked at:
// IEEE 802.1AR, Section 8.10 does not ask for any.
func (a *Anchors) verify(ctx context.Context, profile string, chain []*x509.Certificate, at time.Time) (string, error) {
	leaf := chain[0]
	if err := checkValidity(leaf.NotBefore, leaf.NotAfter, at); err != nil {
		return "", err
	}
	if leaf.IsCA {
		return "", fault.New(fault.Denied, "certificate_is_ca", "the client certificate is a certificate authority's, not a device's")
	}
	trusted, err := a.trusted(ctx, vouching{profile, IDevID}, at)
	if err != nil {
		return "", err
	}
	intermediates := x509.NewCertPool()
	for _, c := range chain[1:] {
		if trusted.ids[string(c.Raw)] == "" { // else the same signature would be checked twice
			intermediates.AddCert(c)
		}
	}
	verified, err := withoutHandled(leaf).Verify(x509.VerifyOptions{
		Roots: trusted.pool, Intermediates: intermediates, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return "", untrusted(err)
	}
	top := verified[0][len(verified[0])-1]
	return trusted.ids[string(top.Raw)], nil
}

func untrusted(err error) error {
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		return fault.Wrap(fault.Denied, "certificate_expired", "a certificate in the client's chain has expired or is not valid yet", err)
	}
	return fault.Wrap(fault.Unauthenticated, "certificate_untrusted",
		"the client certificate is neither one of ours nor does it chain to a trust anchor of this profile", err)
}

// withoutHandled returns leaf as crypto/x509 verifies it. A critical subject
// alternative name that holds only kinds Go does not know (hardwareModuleName,
// directoryName) counts as unhandled there; we do not rely on it at all.
func withoutHandled(leaf *x509.Certificate) *x509.Certificate {
	if len(leaf.UnhandledCriticalExtensions) == 0 {
		return leaf
	}
	c := *leaf
	c.UnhandledCriticalExtensions = nil
	for _, oid := range leaf.UnhandledCriticalExtensions {
		if oid.String() != "2.5.29.17" {
			c.UnhandledCriticalExtensions = append(c.UnhandledCriticalExtensions, oid)
		}
	}
	return &c
}

package enroll

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"sync"
	"time"

	"github.com/hallmark-pki/hallmark/attest/idevid"
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
// now, and returns what it claims.
func (a *Anchors) verify(ctx context.Context, profile string, chain []*x509.Certificate, at time.Time) (idevid.Claims, error) {
	trusted, err := a.trusted(ctx, vouching{profile, IDevID}, at)
	if err != nil {
		return idevid.Claims{}, err
	}
	return trusted.factories.Verify(chain, at)
}

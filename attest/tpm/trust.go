package tpm

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hallmark-pki/hallmark/attest"
)

// The kinds of anchor that Trust asks for.
const (
	ekAnchors = "ek"
	akAnchors = "ak"
)

// Anchors are the certificates that an operator trusts to vouch for TPMs.
type Anchors interface {
	// Roots returns the certificates that a profile trusts for one kind (ek, ak). They
	// may be intermediate authorities. The caller does not change them.
	Roots(ctx context.Context, profile, kind string) ([]*x509.Certificate, error)
}

// Trust decides which TPMs and which attestation keys are believed. It never
// asks the network.
type Trust struct {
	Anchors Anchors
	Makers  *Makers                 // whose roots count for every profile; nil: nobody's
	Dossier atomic.Pointer[Dossier] // what the operator keeps on file; nil is nothing. Replaced whole.

	// Own returns the SHA-256 (lower-case hex) of the authority of ours that issued a certificate
	// of an attestation key, byte for byte, and "" for any other certificate; nil: we issue none. Such an
	// authority needs no anchor.
	Own func(ctx context.Context, leaf *x509.Certificate) (string, error)

	nothing  Dossier
	vouchers vouchers
}

func (t *Trust) data() *Dossier {
	if d := t.Dossier.Load(); d != nil {
		return d
	}
	return &t.nothing
}

// EK appraises an endorsement key and the certificate chain that came with it,
// leaf first, DER, as read from the TPM (NV padding is cut off). Without certificates only the
// key's digest is known, and whether it is revoked: whether such a key is trusted is the register's to say.
//
// A chain that leads to no root that the profile trusts is a claim: Trusted stays
// false, Untrusted says why, and the reasons say ek_untrusted. Errors are of code ek_revoked,
// ek_mismatch (the certificate is of another key), algorithm_not_allowed, and malformed_evidence (not a
// certificate, or not one of an endorsement key). The advisories are those known from the certificate; see Advisories.
func (t *Trust) EK(ctx context.Context, profile string, public crypto.PublicKey, certs [][]byte, at time.Time) (attest.EndorsementKey, []attest.Reason, []attest.Advisory, error) {
	digest, err := spkiDigest(public)
	if err != nil {
		return attest.EndorsementKey{}, nil, nil, attest.RefuseBecause(attest.AlgorithmNotAllowed, "the endorsement key is of a type that is not known here", err)
	}
	ek := attest.EndorsementKey{SHA256: digest}
	if err := t.Revoked(digest, ""); err != nil {
		return attest.EndorsementKey{}, nil, nil, err
	}
	if len(certs) == 0 {
		return ek, nil, nil, nil
	}
	leaf, n, err := readEK(certs, public)
	if err != nil {
		return attest.EndorsementKey{}, nil, nil, err
	}
	ek.Manufacturer, ek.Model, ek.Version = n.manufacturer, n.model, n.version
	ek.Certificate = digestOf(leaf.Raw)
	var reasons []attest.Reason
	var why *unvouched
	top, err := t.endorser(ctx, profile, leaf, &n, certs[1:], at)
	switch {
	case err == nil:
		ek.Trusted, ek.Anchor = true, digestOf(top.Raw)
	case errors.As(err, &why):
		ek.Untrusted = why.says
		reasons = append(reasons, attest.EKUntrusted)
	case errors.Is(err, errRevoked):
		return attest.EndorsementKey{}, nil, nil, attest.RefuseBecause(attest.EKRevoked, "the certificate of the endorsement key, or of an authority above it, is revoked", err)
	default:
		return attest.EndorsementKey{}, nil, nil, err
	}
	return ek, reasons, t.Advisories(ek, 0), nil
}

// endorser finds the root that vouches for an endorsement key; its errors are those of chain.
func (t *Trust) endorser(ctx context.Context, profile string, leaf *x509.Certificate, n *names, sent [][]byte, at time.Time) (*x509.Certificate, error) {
	if !saysEK(leaf, n) {
		return nil, &unvouched{says: "it does not say that it is one of an endorsement key: neither the extended key usage 2.23.133.8.1 nor the names of a TPM are in it"}
	}
	return t.chain(ctx, profile, ekAnchors, leaf, sent, at)
}

// Revoked refuses (ek_revoked, ak_revoked) a TPM whose endorsement key or
// attestation key is on file as revoked. The keys are named by the SHA-256 over their
// SubjectPublicKeyInfo, lower-case hex; an empty one is nobody's.
func (t *Trust) Revoked(ek, ak string) error {
	switch d := t.data(); {
	case ek != "" && d.revokedKey(ek):
		return attest.Refuse(attest.EKRevoked, "the endorsement key is on this server's list of revoked keys")
	case ak != "" && d.revokedKey(ak):
		return attest.Refuse(attest.AKRevoked, "the attestation key is on this server's list of revoked keys")
	}
	return nil
}

// Advisories are the warnings of makers that apply to this TPM. firmware is the
// firmwareVersion of its quote; 0 is unknown, and then the version in the certificate
// counts, with which the TPM left its maker.
func (t *Trust) Advisories(ek attest.EndorsementKey, firmware uint64) []attest.Advisory {
	return t.data().advisories.matching(ek, firmware)
}

// spkiDigest is the SHA-256 over a key's SubjectPublicKeyInfo, lower-case hex.
func spkiDigest(public crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", fmt.Errorf("encoding a public key: %w", err)
	}
	return digestOf(der), nil
}

func digestOf(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

package tpm

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
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
	Data    atomic.Pointer[Data] // what the operator keeps on file; nil is none. Replaced whole.
}

// EK appraises an endorsement key and the certificate chain that came with it,
// leaf first, DER, as read from the TPM (NV padding is cut off). Without certificates only the
// key's digest is known, and whether it is revoked.
//
// A chain that leads to no root that profile trusts is a claim: Trusted stays
// false, and the reasons say ek_untrusted. Errors are of code ek_revoked, ek_mismatch (the
// certificate is of another key), and malformed_evidence (not a certificate, or not one of an
// endorsement key). The advisories are those known from the certificate; see Advisories.
func (t *Trust) EK(ctx context.Context, profile string, public crypto.PublicKey, certs [][]byte, at time.Time) (attest.EndorsementKey, []attest.Reason, []attest.Advisory, error) {
	return attest.EndorsementKey{}, nil, nil, attest.Refuse(attest.EKUntrusted, "no maker of TPMs is trusted")
}

// AKCertificate is what a certificate of an attestation key says, after it
// was verified.
type AKCertificate struct {
	Public   crypto.PublicKey
	SPKI     []byte   // DER SubjectPublicKeyInfo
	Anchor   string   // SHA-256 of the anchor that it chains to, lower-case hex
	Names    []string // of the device: permanentIdentifier, then subject serialNumber
	EKSHA256 string   // of the endorsement key it names (urn:ek:sha256), lower-case hex; empty if none
}

// AK verifies the certificate of an attestation key, leaf first, DER, against
// the ak anchors of the profile. Errors are of code ak_untrusted, ak_revoked, and
// malformed_evidence (a certificate that cannot be read).
func (t *Trust) AK(ctx context.Context, profile string, certs [][]byte, at time.Time) (AKCertificate, error) {
	return AKCertificate{}, attest.Refuse(attest.AKUntrusted, "no issuer of attestation keys is trusted")
}

// Advisories are the warnings of makers that apply to this TPM. firmware is the
// firmwareVersion of its quote; 0 is unknown, and then the version in the certificate counts.
func (t *Trust) Advisories(ek attest.EndorsementKey, firmware uint64) []attest.Advisory {
	return nil
}

// spkiDigest is the SHA-256 over a key's SubjectPublicKeyInfo, lower-case hex.
func spkiDigest(public crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", fmt.Errorf("encoding a public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

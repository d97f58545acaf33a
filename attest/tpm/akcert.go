package tpm

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hallmark-pki/hallmark/attest"
)

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
// the ak anchors of the profile. Errors are of code ak_untrusted, ak_revoked, ek_revoked,
// algorithm_not_allowed, and malformed_evidence (a certificate that cannot be read).
func (t *Trust) AK(ctx context.Context, profile string, certs [][]byte, at time.Time) (AKCertificate, error) {
	leaf, ak, err := readAK(certs)
	if err != nil {
		return AKCertificate{}, err
	}
	if err := t.Revoked(ak.EKSHA256, digestOf(ak.SPKI)); err != nil {
		return AKCertificate{}, err
	}
	if err := checkAKCertificate(leaf); err != nil {
		return AKCertificate{}, err
	}
	if ak.Anchor, err = t.own(ctx, leaf, at); err != nil || ak.Anchor != "" {
		return ak, err
	}
	var why *unvouched
	top, err := t.chain(ctx, profile, akAnchors, leaf, certs[1:], at)
	switch {
	case errors.As(err, &why):
		return AKCertificate{}, attest.RefuseBecause(attest.AKUntrusted, "the attestation key certificate is not trusted: "+why.says, why.err)
	case errors.Is(err, errRevoked):
		return AKCertificate{}, attest.RefuseBecause(attest.AKRevoked, "the certificate of the attestation key, or of an authority above it, is revoked", err)
	case err != nil:
		return AKCertificate{}, err
	}
	ak.Anchor = digestOf(top.Raw)
	return ak, nil
}

// own returns the authority of ours that issued a certificate, if it is one of ours and valid now.
func (t *Trust) own(ctx context.Context, leaf *x509.Certificate, at time.Time) (string, error) {
	if t.Own == nil {
		return "", nil
	}
	anchor, err := t.Own(ctx, leaf)
	if err != nil {
		return "", fmt.Errorf("looking up the certificate of an attestation key: %w", err)
	}
	if anchor != "" && (at.Before(leaf.NotBefore) || at.After(leaf.NotAfter)) {
		return "", attest.Refuse(attest.AKUntrusted, "the certificate of the attestation key has expired, or is not valid yet; have the key certified again")
	}
	return anchor, nil
}

// readAK reads the leaf of an attestation key's chain.
func readAK(certs [][]byte) (*x509.Certificate, AKCertificate, error) {
	if len(certs) == 0 || len(certs) > maxChain {
		return nil, AKCertificate{}, attest.Refuse(attest.MalformedEvidence, fmt.Sprintf("send 1 to %d certificates with the attestation key", maxChain))
	}
	leaf, err := parseCertificate(certs[0])
	if err != nil {
		return nil, AKCertificate{}, attest.RefuseBecause(attest.MalformedEvidence, "the first certificate sent with the attestation key cannot be read", err)
	}
	ak := AKCertificate{}
	if ak.Public, err = publicKey(leaf); err == nil {
		ak.SPKI, err = x509.MarshalPKIXPublicKey(ak.Public)
	}
	if err != nil {
		return nil, AKCertificate{}, attest.RefuseBecause(attest.AlgorithmNotAllowed, "the attestation key certificate is of a key of an unknown type", err)
	}
	n, err := readNames(leaf)
	if err == nil {
		ak.EKSHA256, err = endorsementKeyIn(n.uris)
	}
	if err != nil {
		return nil, AKCertificate{}, attest.RefuseBecause(attest.MalformedEvidence, "the attestation key certificate has names that cannot be read", err)
	}
	ak.Names = n.permanent
	if s := printable(leaf.Subject.SerialNumber); s != "" && !slices.Contains(ak.Names, s) {
		ak.Names = append(ak.Names, s)
	}
	return leaf, ak, nil
}

// checkAKCertificate refuses what is not the certificate of an attestation key. Its
// extended key usage is what its issuer vouches with for a restricted key of a TPM: one without is refused.
func checkAKCertificate(leaf *x509.Certificate) error {
	switch {
	case leaf.BasicConstraintsValid && leaf.IsCA:
		return attest.Refuse(attest.AKUntrusted, "the certificate sent with the attestation key is an authority's; send the key's own certificate first")
	case !slices.ContainsFunc(leaf.UnknownExtKeyUsage, oidAIKCertificate.Equal):
		return attest.Refuse(attest.AKUntrusted, "the certificate is not one of an attestation key: its extended key usage lacks 2.23.133.8.3")
	case leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return attest.Refuse(attest.AKUntrusted, "the certificate is not one of an attestation key: its key usage lacks digitalSignature")
	}
	return nil
}

// endorsementKeyIn finds urn:ek:sha256:BASE64 among a certificate's URIs, and
// returns the digest in lower-case hex, or "".
func endorsementKeyIn(uris []string) (string, error) {
	for _, uri := range uris {
		encoded, found := strings.CutPrefix(uri, "urn:ek:sha256:")
		if !found {
			continue
		}
		digest, err := base64.StdEncoding.Strict().DecodeString(encoded)
		if err != nil || len(digest) != 32 {
			return "", errNames
		}
		return hex.EncodeToString(digest), nil
	}
	return "", nil
}

package tpm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"

	"github.com/hallmark-pki/hallmark/attest"
)

// Extended key usages of the TCG OID registry, and where they stand.
var (
	oidExtKeyUsage    = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidEKCertificate  = asn1.ObjectIdentifier{2, 23, 133, 8, 1}
	oidAIKCertificate = asn1.ObjectIdentifier{2, 23, 133, 8, 3}
)

// readEK reads the leaf of an endorsement key's chain, which must be of this
// key, and what it says of the TPM.
func readEK(certs [][]byte, public crypto.PublicKey) (*x509.Certificate, names, error) {
	if len(certs) > maxChain {
		return nil, names{}, attest.Refuse(attest.MalformedEvidence, fmt.Sprintf("more than %d certificates came with the endorsement key", maxChain))
	}
	leaf, err := parseCertificate(certs[0])
	if err != nil {
		return nil, names{}, attest.RefuseBecause(attest.MalformedEvidence, "the first certificate sent with the endorsement key cannot be read", err)
	}
	n, err := readNames(leaf)
	if err != nil {
		return nil, names{}, attest.RefuseBecause(attest.MalformedEvidence, "the endorsement key certificate has names that cannot be read", err)
	}
	key, err := publicKey(leaf)
	if err != nil {
		return nil, names{}, attest.RefuseBecause(attest.AlgorithmNotAllowed, "the endorsement key certificate is of a key of an unknown type", err)
	}
	if !sameKey(key, public) {
		return nil, names{}, attest.Refuse(attest.EKMismatch, "the endorsement key certificate is of another key than the endorsement key sent with it")
	}
	if err := checkEKCertificate(leaf, key); err != nil {
		return nil, names{}, err
	}
	return leaf, n, nil
}

// checkEKCertificate refuses what is meant for something else than an endorsement key.
func checkEKCertificate(leaf *x509.Certificate, key crypto.PublicKey) error {
	switch {
	case leaf.BasicConstraintsValid && leaf.IsCA:
		return attest.Refuse(attest.MalformedEvidence, "the certificate sent with the endorsement key is an authority's; send the key's own certificate first")
	case hasEKU(leaf) && !slices.ContainsFunc(leaf.UnknownExtKeyUsage, oidEKCertificate.Equal):
		return attest.Refuse(attest.MalformedEvidence, "the certificate is not one of an endorsement key: its extended key usage lacks 2.23.133.8.1")
	}
	return checkEKUsage(leaf, key)
}

// checkEKUsage holds the key usage against the kind of key: an endorsement key decrypts. A
// certificate without key usage restricts nothing (RFC 5280, Section 4.2.1.3).
func checkEKUsage(leaf *x509.Certificate, key crypto.PublicKey) error {
	want, name := x509.KeyUsageKeyEncipherment, "keyEncipherment"
	if _, isECDSA := key.(*ecdsa.PublicKey); isECDSA {
		want, name = x509.KeyUsageKeyAgreement, "keyAgreement"
	}
	if leaf.KeyUsage != 0 && leaf.KeyUsage&want == 0 {
		return attest.Refuse(attest.MalformedEvidence, "the certificate is not one of an endorsement key: its key usage lacks "+name)
	}
	return nil
}

// saysEK reports whether a certificate is meant for an endorsement key. The TCG
// EK Credential Profile asks for the extended key usage tcg-kp-EKCertificate. Early certificates lack it:
// such a one is taken for what it is if it names a TPM in full, which an authority writes into nothing else.
// One that does neither (Google issues such) may be any certificate, and a person has to look.
func saysEK(leaf *x509.Certificate, n *names) bool { return hasEKU(leaf) || n.ofTPM() }

func hasEKU(c *x509.Certificate) bool {
	return slices.ContainsFunc(c.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidExtKeyUsage) })
}

// sameKey compares two public keys of any type.
func sameKey(a, b crypto.PublicKey) bool {
	switch a := a.(type) {
	case *rsa.PublicKey:
		return a.Equal(b)
	case *ecdsa.PublicKey:
		return a.Equal(b)
	}
	return false
}

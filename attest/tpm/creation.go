package tpm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"

	"github.com/hallmark-pki/hallmark/attest"
)

// Creation is how an attestation key is introduced by clients that follow
// go-attestation: its public area, and the TPM's word on how it was made. The key signs that
// itself, so it proves nothing before a credential was activated for it.
type Creation struct {
	Public      []byte // TPMT_PUBLIC
	Data        []byte // TPMS_CREATION_DATA
	Attestation []byte // TPMS_ATTEST of type creation
	Signature   []byte // TPMT_SIGNATURE over it
}

// Key checks what the creation says of itself, and returns the attestation key
// and its DER SubjectPublicKeyInfo. Errors are refusals as those of Verifier.Verify.
func (c *Creation) Key() (attest.AttestationKey, []byte, error) {
	const what = "creation statement"
	a, err := parseArea(c.Public, theAK)
	if err != nil {
		return attest.AttestationKey{}, nil, err
	}
	if err := checkAK(a); err != nil {
		return attest.AttestationKey{}, nil, err
	}
	public, spki, err := a.spki(theAK)
	if err != nil {
		return attest.AttestationKey{}, nil, err
	}
	s, err := parseStatement(c.Attestation, attestCreation, what)
	if err != nil {
		return attest.AttestationKey{}, nil, err
	}
	sig, err := parseSignature(c.Signature, what)
	if err != nil {
		return attest.AttestationKey{}, nil, err
	}
	if err := (&signer{public: public, scheme: a.scheme}).verify(s, sig, what); err != nil {
		return attest.AttestationKey{}, nil, err
	}
	name := a.name()
	if !bytes.Equal(s.name, name) {
		return attest.AttestationKey{}, nil, refuse(attest.KeyNotCertified, "the creation statement is about another key (%x, want %x)", s.name, name)
	}
	h := a.nameAlg.hash().New() // Part 3, Section 12.1: the creation hash uses the nameAlg of the new object
	h.Write(bare(c.Data))
	if !bytes.Equal(h.Sum(nil), s.digest) {
		return attest.AttestationKey{}, nil, refuse(attest.KeyNotCertified, "the creation statement does not cover the creation data sent with it")
	}
	sum := sha256.Sum256(spki)
	return attest.AttestationKey{Name: name, Public: a.bytes, SHA256: hex.EncodeToString(sum[:])}, spki, nil
}

// ParseEndorsementKey reads a DER SubjectPublicKeyInfo of the kinds that
// endorsement keys are: RSA 2048, 3072 or 4096, ECC P-256 or P-384. Errors are malformed_evidence
// and algorithm_not_allowed.
func ParseEndorsementKey(spki []byte) (crypto.PublicKey, error) {
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, attest.RefuseBecause(attest.MalformedEvidence, "the endorsement key is not a DER SubjectPublicKeyInfo", err)
	}
	_, err = fromTemplate(public)
	return public, err
}

// MakeCredentialFor is MakeCredential where only the endorsement key itself is
// known, and not its public area: it has to be made from one of the TCG's default templates.
func MakeCredentialFor(ek crypto.PublicKey, akName, secret []byte) (*Activation, error) {
	a, err := fromTemplate(ek)
	if err != nil {
		return nil, err
	}
	return makeCredential(a, akName, secret)
}

// fromTemplate is what the default templates say of an endorsement key (TCG EK
// Credential Profile, Annex B): SHA-256 and AES-128 for the small ones, L-1 and L-2, SHA-384 and
// AES-256 for the larger.
func fromTemplate(ek crypto.PublicKey) (*area, error) {
	a := &area{nameAlg: algSHA256, symmetric: algAES, symBits: 128, symMode: algCFB}
	switch ek := ek.(type) {
	case *rsa.PublicKey:
		a.kind, a.bits, a.modulus = algRSA, ek.N.BitLen(), ek.N.Bytes()
		if a.bits != 2048 && a.bits != 3072 && a.bits != 4096 || ek.E != 65537 {
			return nil, notAllowed("the endorsement key is an RSA key of %d bits with exponent %d; use 2048, 3072 or 4096, and 65537", a.bits, ek.E)
		}
	case *ecdsa.PublicKey:
		a.kind, a.curve, a.bits = algECC, ek.Curve, ek.Curve.Params().BitSize
		point, err := ek.Bytes()
		if err != nil || a.bits != 256 && a.bits != 384 {
			return nil, notAllowed("the endorsement key is on curve %s; use P-256 or P-384", ek.Curve.Params().Name)
		}
		a.x, a.y = point[1:1+a.bits/8], point[1+a.bits/8:]
	default:
		return nil, notAllowed("the endorsement key is neither an RSA nor an ECC key")
	}
	if a.bits != 2048 && a.bits != 256 {
		a.nameAlg, a.symBits = algSHA384, 256
	}
	return a, nil
}

package tpm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"math/big"

	"golang.org/x/crypto/cryptobyte"

	"github.com/hallmark-pki/hallmark/attest"
)

// signature is a TPMT_SIGNATURE (Part 2, Section 11.3.4).
type signature struct {
	scheme scheme
	rsa    []byte
	r, s   []byte
}

// parseSignature reads a TPMT_SIGNATURE, which a TPM2B may hold. Schemes and hashes that
// no attestation key should use are algorithm_not_allowed: SHA-1, HMAC, ECDAA, Schnorr.
func parseSignature(b []byte, what string) (*signature, error) {
	in := cryptobyte.String(bare(b))
	s := new(signature)
	if !readAlgorithm(&in, &s.scheme.id) || !readAlgorithm(&in, &s.scheme.hash) {
		return nil, malformed("the signature of the %s is not a TPMT_SIGNATURE", what)
	}
	if s.scheme.hash.hash() == 0 {
		return nil, notAllowed("the %s is signed with hash algorithm %s; use SHA-256 or SHA-384", what, s.scheme.hash)
	}
	var first, second cryptobyte.String
	ok := in.ReadUint16LengthPrefixed(&first)
	switch s.scheme.id {
	case algRSASSA, algRSAPSS:
		s.rsa = first
	case algECDSA:
		ok = ok && in.ReadUint16LengthPrefixed(&second)
		s.r, s.s = first, second
	default:
		return nil, notAllowed("the %s is signed with scheme %s; use RSASSA, RSAPSS or ECDSA", what, s.scheme.id)
	}
	if !ok || !in.Empty() {
		return nil, malformed("the signature of the %s is not a TPMT_SIGNATURE from its first byte to its last", what)
	}
	return s, nil
}

// signer is an attestation key as verification needs it.
type signer struct {
	public crypto.PublicKey
	scheme scheme // the only one that it signs with; zero where its certificate does not say
}

// verify checks that the key signed the statement, and notes with which hash.
// Which algorithm counts is a matter of the key alone: a signature of another one is
// algorithm_not_allowed.
func (k *signer) verify(s *statement, sig *signature, what string) error {
	if k.scheme.id != 0 && sig.scheme != k.scheme {
		return notAllowed("the %s is signed with %s, the attestation key is for %s", what, sig.scheme, k.scheme)
	}
	hash := sig.scheme.hash.hash()
	h := hash.New()
	h.Write(s.bytes)
	digest := h.Sum(nil)
	valid := false
	switch public := k.public.(type) {
	case *ecdsa.PublicKey:
		if sig.scheme.id != algECDSA {
			return notAllowed("the %s has an RSA signature, and the attestation key is an ECC key", what)
		}
		valid = verifyECDSA(public, digest, sig)
	case *rsa.PublicKey:
		switch sig.scheme.id {
		case algRSASSA:
			valid = rsa.VerifyPKCS1v15(public, hash, digest, sig.rsa) == nil
		case algRSAPSS:
			valid = rsa.VerifyPSS(public, hash, digest, sig.rsa, nil) == nil
		default:
			return notAllowed("the %s has an ECDSA signature, and the attestation key is an RSA key", what)
		}
	default:
		return notAllowed("the attestation key is neither an RSA nor an ECC key")
	}
	if !valid {
		return attest.Refuse(attest.SignatureInvalid, "the "+what+" is not signed by this device's attestation key; sign certify and quote with the same key, the one named in the nonce exchange or certified")
	}
	s.hash = hash
	return nil
}

func verifyECDSA(public *ecdsa.PublicKey, digest []byte, sig *signature) bool {
	size := (public.Curve.Params().BitSize + 7) / 8
	if len(sig.r) > size || len(sig.s) > size {
		return false
	}
	return ecdsa.Verify(public, digest, new(big.Int).SetBytes(sig.r), new(big.Int).SetBytes(sig.s))
}

package tpmdevice

import (
	"crypto"
	"crypto/rsa"
	"crypto/tls"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"

	"github.com/google/go-tpm/tpm2"
)

// Sign implements crypto.Signer: ECDSA in ASN.1, RSA as PKCS #1 v1.5, or as PSS
// with a salt of the digest's length. The randomness is the TPM's own.
func (k *Key) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) (signature []byte, err error) {
	scheme, err := k.scheme(digest, opts)
	if err != nil {
		return nil, err
	}
	err = k.tpm.visit(func(v *visit) error {
		key, err := v.load(k)
		if err != nil {
			return err
		}
		answer, err := tpm2.Sign{KeyHandle: key, Digest: tpm2.TPM2BDigest{Buffer: digest}, InScheme: scheme,
			Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull}}.Execute(v)
		if err != nil {
			return fmt.Errorf("signing: %w", err)
		}
		signature, err = encodeSignature(&answer.Signature)
		return err
	})
	if pss, ok := opts.(*rsa.PSSOptions); ok && err == nil {
		// TPMs before revision 1.38 take the longest salt there is, which TLS 1.3 does not accept.
		strict := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: pss.HashFunc()}
		if rsa.VerifyPSS(k.verify.(*rsa.PublicKey), pss.HashFunc(), digest, signature, strict) != nil {
			return nil, errors.New("this TPM is too old for RSA-PSS as TLS asks for it; use a P-256 key")
		}
	}
	return signature, err
}

// scheme is how to sign a digest.
func (k *Key) scheme(digest []byte, opts crypto.SignerOpts) (tpm2.TPMTSigScheme, error) {
	hash := map[crypto.Hash]tpm2.TPMAlgID{
		crypto.SHA256: tpm2.TPMAlgSHA256, crypto.SHA384: tpm2.TPMAlgSHA384, crypto.SHA512: tpm2.TPMAlgSHA512,
	}[opts.HashFunc()]
	if hash == 0 || len(digest) != opts.HashFunc().Size() {
		return tpm2.TPMTSigScheme{}, errors.New("a TPM key signs a digest of SHA-256, SHA-384 or SHA-512")
	}
	algorithm := tpm2.TPMAlgECDSA
	if _, isRSA := k.verify.(*rsa.PublicKey); isRSA {
		algorithm = tpm2.TPMAlgRSASSA
		if pss, ok := opts.(*rsa.PSSOptions); ok {
			if pss.SaltLength != rsa.PSSSaltLengthEqualsHash && pss.SaltLength != rsa.PSSSaltLengthAuto && pss.SaltLength != len(digest) {
				return tpm2.TPMTSigScheme{}, errors.New("a TPM chooses the length of the salt itself")
			}
			algorithm = tpm2.TPMAlgRSAPSS
		}
	}
	return tpm2.TPMTSigScheme{Scheme: algorithm, Details: tpm2.NewTPMUSigScheme(algorithm, &tpm2.TPMSSchemeHash{HashAlg: hash})}, nil
}

// encodeSignature is a TPMT_SIGNATURE as the rest of the world writes it.
func encodeSignature(s *tpm2.TPMTSignature) ([]byte, error) {
	switch s.SigAlg {
	case tpm2.TPMAlgECDSA:
		e, err := s.Signature.ECDSA()
		if err != nil {
			return nil, err
		}
		return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(e.SignatureR.Buffer), new(big.Int).SetBytes(e.SignatureS.Buffer)})
	case tpm2.TPMAlgRSASSA:
		r, err := s.Signature.RSASSA()
		if err != nil {
			return nil, err
		}
		return r.Sig.Buffer, nil
	case tpm2.TPMAlgRSAPSS:
		r, err := s.Signature.RSAPSS()
		if err != nil {
			return nil, err
		}
		return r.Sig.Buffer, nil
	}
	return nil, fmt.Errorf("the TPM signed with %#x", uint16(s.SigAlg))
}

// TLS is the key with a certificate chain (DER, leaf first) as a TLS peer uses
// it, limited to what every TPM can sign.
func (k *Key) TLS(chain [][]byte) tls.Certificate {
	c := tls.Certificate{Certificate: chain, PrivateKey: k}
	switch k.Algorithm() {
	case P256:
		c.SupportedSignatureAlgorithms = []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}
	case P384:
		c.SupportedSignatureAlgorithms = []tls.SignatureScheme{tls.ECDSAWithP384AndSHA384}
	default:
		c.SupportedSignatureAlgorithms = []tls.SignatureScheme{tls.PSSWithSHA256, tls.PKCS1WithSHA256}
	}
	return c
}

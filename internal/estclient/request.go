package estclient

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Request is a certification request to be (PKCS#10, RFC 2986). crypto/x509
// cannot write its attributes, so it is written here.
type Request struct {
	Key         crypto.Signer // ECDSA P-256 or P-384, Ed25519, or RSA
	Subject     []byte        // DER of the subject; nil for an empty one, which leaves the name to the server
	Challenge   string        // challengePassword; empty for none
	Attestation []byte        // DER of an AttestationBundle about Key; nil for none
}

var (
	oidChallengePassword = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}
	oidAttestation       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 59} // id-aa-attestation (draft-ietf-lamps-csr-attestation)
	oidECDSAWithSHA256   = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
	oidECDSAWithSHA384   = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}
	oidRSAWithSHA256     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}
	oidEd25519           = asn1.ObjectIdentifier{1, 3, 101, 112}
)

// DER signs the request.
func (r *Request) DER() ([]byte, error) {
	info, err := r.info()
	if err != nil {
		return nil, fmt.Errorf("making a certification request: %w", err)
	}
	algorithm, signature, err := sign(r.Key, info)
	if err != nil {
		return nil, fmt.Errorf("signing a certification request: %w", err)
	}
	var b cryptobyte.Builder
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(info)
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(algorithm)
			if algorithm.Equal(oidRSAWithSHA256) {
				b.AddASN1NULL() // RFC 4055, Section 5
			}
		})
		b.AddASN1BitString(signature)
	})
	return b.Bytes()
}

// info is the CertificationRequestInfo of RFC 2986, Section 4.1.
func (r *Request) info() ([]byte, error) {
	spki, err := x509.MarshalPKIXPublicKey(r.Key.Public())
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(0)
		if r.Subject != nil {
			b.AddBytes(r.Subject)
		} else {
			b.AddASN1(casn1.SEQUENCE, func(*cryptobyte.Builder) {})
		}
		b.AddBytes(spki)
		b.AddASN1(casn1.Tag(0).ContextSpecific().Constructed(), r.addAttributes)
	})
	return b.Bytes()
}

// addAttributes writes them as a SET OF, which DER sorts (X.690, Section 11.6).
func (r *Request) addAttributes(b *cryptobyte.Builder) {
	var attributes [][]byte
	if r.Challenge != "" {
		attributes = append(attributes, attribute(oidChallengePassword, func(b *cryptobyte.Builder) {
			b.AddASN1(casn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(r.Challenge)) })
		}))
	}
	if r.Attestation != nil {
		attributes = append(attributes, attribute(oidAttestation, func(b *cryptobyte.Builder) { b.AddBytes(r.Attestation) }))
	}
	slices.SortFunc(attributes, bytes.Compare)
	for _, one := range attributes {
		b.AddBytes(one)
	}
}

// attribute is one with a single value.
func attribute(kind asn1.ObjectIdentifier, value func(*cryptobyte.Builder)) []byte {
	var b cryptobyte.Builder
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(kind)
		b.AddASN1(casn1.SET, value)
	})
	return b.BytesOrPanic()
}

// sign signs with the digest that suits the key.
func sign(key crypto.Signer, message []byte) (asn1.ObjectIdentifier, []byte, error) {
	algorithm, hash, digest := oidECDSAWithSHA256, crypto.SHA256, message
	switch public := key.Public().(type) {
	case *ecdsa.PublicKey:
		if public.Curve == elliptic.P384() {
			algorithm, hash = oidECDSAWithSHA384, crypto.SHA384
		}
	case *rsa.PublicKey:
		algorithm = oidRSAWithSHA256
	case ed25519.PublicKey:
		algorithm, hash = oidEd25519, crypto.Hash(0)
	default:
		return nil, nil, errors.New("the key's type is not supported")
	}
	switch hash {
	case crypto.SHA256:
		sum := sha256.Sum256(message)
		digest = sum[:]
	case crypto.SHA384:
		sum := sha512.Sum384(message)
		digest = sum[:]
	}
	signature, err := key.Sign(rand.Reader, digest, hash)
	return algorithm, signature, err
}

// WantsBinding reports whether CsrAttrs ask for the channel binding as
// challengePassword (RFC 7030, Section 4.5.2).
func WantsBinding(csrAttrs []byte) bool {
	input := cryptobyte.String(csrAttrs)
	var list cryptobyte.String
	if !input.ReadASN1(&list, casn1.SEQUENCE) {
		return false
	}
	for !list.Empty() {
		var one cryptobyte.String
		var tag casn1.Tag
		if !list.ReadAnyASN1Element(&one, &tag) {
			return false
		}
		var oid asn1.ObjectIdentifier
		if tag == casn1.OBJECT_IDENTIFIER && one.ReadASN1ObjectIdentifier(&oid) && oid.Equal(oidChallengePassword) {
			return true
		}
	}
	return false
}

package status

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" // of the responder's key, in its name (RFC 6960, Section 4.2.1: KeyHash)
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/hallmark-pki/hallmark/ca"
)

// Verdict is what is said of one certificate (RFC 6960, Section 2.2).
type Verdict int

// The verdicts.
const (
	Good    Verdict = iota // issued, and not revoked; it may have expired
	Revoked                // for good
	Unknown                // not issued here, as far as is known
)

// Standing is how one certificate stands.
type Standing struct {
	Verdict Verdict
	At      time.Time           // of the revocation
	Reason  ca.RevocationReason // of the revocation
}

// Failure is an answer without a status (RFC 6960, Section 4.2.1: OCSPResponseStatus).
type Failure int

// The failures.
const (
	MalformedRequest Failure = 1
	InternalError    Failure = 2
	TryLater         Failure = 3
	Unauthorized     Failure = 6 // nobody here speaks for that issuer
)

// Response is the failure as it is sent, DER.
func (f Failure) Response() []byte {
	return []byte{0x30, 0x03, 0x0a, 0x01, byte(f)}
}

// Responder signs answers in an issuer's name, with a key and a certificate of
// its own (RFC 6960, Section 4.2.2.2). It may be used by many goroutines.
type Responder struct {
	certificate *x509.Certificate
	signer      crypto.Signer
	hash        crypto.Hash // 0 signs the message itself
	algorithm   []byte      // DER AlgorithmIdentifier
	keyHash     []byte
}

// NewResponder returns a responder whose certificate the issuer has signed for that.
func NewResponder(certificate *x509.Certificate, signer crypto.Signer) (*Responder, error) {
	public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(certificate.PublicKey) {
		return nil, fmt.Errorf("the key does not belong to the responder's certificate")
	}
	r := &Responder{certificate: certificate, signer: signer}
	var err error
	if r.hash, r.algorithm, err = signatureOf(signer.Public()); err != nil {
		return nil, err
	}
	r.keyHash, err = keyHash(certificate, crypto.SHA1)
	return r, err
}

// Certificate is the responder's own.
func (r *Responder) Certificate() *x509.Certificate { return r.certificate }

// keyHash is over the key's bits alone, without tag, length and unused bits (RFC 6960, Section 4.1.1).
func keyHash(c *x509.Certificate, hash crypto.Hash) ([]byte, error) {
	var spki struct {
		Algorithm asn1.RawValue
		Key       asn1.BitString
	}
	if rest, err := asn1.Unmarshal(c.RawSubjectPublicKeyInfo, &spki); err != nil || len(rest) > 0 {
		return nil, errors.New("reading the key of a certificate")
	}
	h := hash.New()
	h.Write(spki.Key.Bytes)
	return h.Sum(nil), nil
}

// signatureOf returns how a key signs (RFC 4055, 5758, 8410).
func signatureOf(key crypto.PublicKey) (crypto.Hash, []byte, error) {
	hash, oid, null := crypto.SHA256, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}, false
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P384() {
			hash, oid = crypto.SHA384, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}
		}
	case *rsa.PublicKey:
		oid, null = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, true
	case ed25519.PublicKey:
		hash, oid = 0, asn1.ObjectIdentifier{1, 3, 101, 112}
	default:
		return 0, nil, fmt.Errorf("a responder's key is ECDSA, RSA or Ed25519, not %T", key)
	}
	var b cryptobyte.Builder
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		if null {
			b.AddASN1NULL()
		}
	})
	identifier, err := b.Bytes()
	return hash, identifier, err
}

// Answer is what a responder is to sign.
type Answer struct {
	Asked      []CertID
	Standings  []Standing // one for each of Asked
	Nonce      []byte     // of the request; nil: none
	ProducedAt time.Time
	ThisUpdate time.Time // when this was known to be right
	NextUpdate time.Time // until when it may be kept
}

// Sign returns the answer as it is sent, DER (RFC 6960, Section 4.2.1).
func (r *Responder) Sign(a *Answer) ([]byte, error) {
	if len(a.Asked) != len(a.Standings) || len(a.Asked) == 0 {
		return nil, fmt.Errorf("%d answers to %d questions", len(a.Standings), len(a.Asked))
	}
	data, err := r.encode(a)
	if err != nil {
		return nil, fmt.Errorf("encoding an OCSP answer: %w", err)
	}
	digest := data
	if r.hash != 0 {
		h := r.hash.New()
		h.Write(data)
		digest = h.Sum(nil)
	}
	signature, err := r.signer.Sign(rand.Reader, digest, r.hash)
	if err != nil {
		return nil, fmt.Errorf("signing an OCSP answer: %w", err)
	}
	return r.wrap(data, signature)
}

// wrap puts what was signed into a BasicOCSPResponse and that into an OCSPResponse.
func (r *Responder) wrap(data, signature []byte) ([]byte, error) {
	b := cryptobyte.NewBuilder(make([]byte, 0, len(data)+len(r.certificate.Raw)+256))
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Enum(0) // successful
		b.AddASN1(explicit(0), func(b *cryptobyte.Builder) {
			b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(oidBasic)
				b.AddASN1(casn1.OCTET_STRING, func(b *cryptobyte.Builder) {
					b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddBytes(data)
						b.AddBytes(r.algorithm)
						b.AddASN1BitString(signature)
						b.AddASN1(explicit(0), func(b *cryptobyte.Builder) {
							b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(r.certificate.Raw) })
						})
					})
				})
			})
		})
	})
	return b.Bytes()
}

// encode is the ResponseData.
func (r *Responder) encode(a *Answer) ([]byte, error) {
	b := cryptobyte.NewBuilder(make([]byte, 0, 512))
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(explicit(2), func(b *cryptobyte.Builder) { b.AddASN1OctetString(r.keyHash) }) // byKey
		b.AddASN1GeneralizedTime(a.ProducedAt.UTC())
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for i := range a.Asked {
				a.addSingle(b, &a.Asked[i], a.Standings[i])
			}
		})
		if a.Nonce != nil {
			b.AddASN1(explicit(1), func(b *cryptobyte.Builder) {
				b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) { addNonce(b, a.Nonce) })
			})
		}
	})
	return b.Bytes()
}

// addSingle is one SingleResponse.
func (a *Answer) addSingle(b *cryptobyte.Builder, id *CertID, s Standing) {
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(id.raw)
		s.add(b)
		b.AddASN1GeneralizedTime(a.ThisUpdate.UTC())
		b.AddASN1(explicit(0), func(b *cryptobyte.Builder) { b.AddASN1GeneralizedTime(a.NextUpdate.UTC()) })
	})
}

// add is the CertStatus.
func (s Standing) add(b *cryptobyte.Builder) {
	switch s.Verdict {
	case Good:
		b.AddASN1(casn1.Tag(0).ContextSpecific(), func(*cryptobyte.Builder) {})
	case Revoked:
		b.AddASN1(explicit(1), func(b *cryptobyte.Builder) {
			b.AddASN1GeneralizedTime(s.At.UTC())
			if code := s.Reason.Code(); code > 0 {
				b.AddASN1(explicit(0), func(b *cryptobyte.Builder) { b.AddASN1Enum(int64(code)) })
			}
		})
	default:
		b.AddASN1(casn1.Tag(2).ContextSpecific(), func(*cryptobyte.Builder) {})
	}
}

func addNonce(b *cryptobyte.Builder, nonce []byte) {
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidNonce)
		b.AddASN1(casn1.OCTET_STRING, func(b *cryptobyte.Builder) { b.AddASN1OctetString(nonce) })
	})
}

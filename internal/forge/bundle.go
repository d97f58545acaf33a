package forge

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Types of what a bundle holds, and of the attribute that holds it.
var (
	CertifyStatement = asn1.ObjectIdentifier{2, 23, 133, 20, 1}
	QuoteStatement   = asn1.ObjectIdentifier{2, 23, 133, 20, 2}
	WrappedStatement = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 35}
	Attestation59    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 59}
)

// EventLogType is the media type of a TCG2 event log.
const EventLogType = "application/vnd.hallmark.tcg2-eventlog"

// Statement is TcgAttestCertify or TcgAttestQuote: the third part is the public
// area, or the register values, and may be missing.
type Statement struct{ Attest, Signature, Third []byte }

// Bundle is an AttestationBundle before it is encoded.
type Bundle struct {
	Certify, Quote *Statement
	EventLog       []byte
	Packed         bool     // the event log goes compressed
	Further        [][]byte // statements in DER, see Wrap
	Certs          [][]byte
}

// DER encodes the bundle.
func (b *Bundle) DER() []byte {
	out := cryptobyte.NewBuilder(make([]byte, 0, 2048+4*len(b.EventLog)/3))
	out.AddASN1(casn1.SEQUENCE, func(out *cryptobyte.Builder) {
		out.AddASN1(casn1.SEQUENCE, func(out *cryptobyte.Builder) {
			addStatement(out, CertifyStatement, b.Certify)
			addStatement(out, QuoteStatement, b.Quote)
			if b.EventLog != nil {
				out.AddBytes(Wrap(WrappedStatement, casn1.UTF8String, []byte(wrapLog(b.EventLog, b.Packed))))
			}
			for _, further := range b.Further {
				out.AddBytes(further)
			}
		})
		if len(b.Certs) > 0 {
			out.AddASN1(casn1.SEQUENCE, func(out *cryptobyte.Builder) {
				for _, c := range b.Certs {
					out.AddBytes(c)
				}
			})
		}
	})
	return out.BytesOrPanic()
}

func addStatement(out *cryptobyte.Builder, kind asn1.ObjectIdentifier, s *Statement) {
	if s == nil {
		return
	}
	out.AddASN1(casn1.SEQUENCE, func(out *cryptobyte.Builder) {
		out.AddASN1ObjectIdentifier(kind)
		out.AddASN1(casn1.SEQUENCE, func(out *cryptobyte.Builder) {
			out.AddASN1OctetString(s.Attest)
			out.AddASN1OctetString(s.Signature)
			if s.Third != nil {
				out.AddASN1OctetString(s.Third)
			}
		})
	})
}

// Wrap is a statement of any type with one element as its value.
func Wrap(kind asn1.ObjectIdentifier, tag casn1.Tag, value []byte) []byte {
	b := cryptobyte.NewBuilder(nil)
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(kind)
		b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes(value) })
	})
	return b.BytesOrPanic()
}

// wrapLog is a conceptual message wrapper in JSON.
func wrapLog(log []byte, packed bool) string {
	kind := EventLogType
	if packed {
		var out bytes.Buffer
		w := gzip.NewWriter(&out)
		w.Write(log) // to memory: cannot fail
		w.Close()
		kind, log = kind+"+gzip", out.Bytes()
	}
	return `["` + kind + `","` + base64.RawURLEncoding.EncodeToString(log) + `",4]`
}

// CSR is a certification request (PKCS #10) for t.Key with a common name and,
// where bundle is not nil, an attestation attribute.
func (t *TPM) CSR(commonName string, bundle []byte) ([]byte, error) {
	subject, err := asn1.Marshal(pkix.Name{CommonName: commonName}.ToRDNSequence())
	if err != nil {
		return nil, fmt.Errorf("forge: %w", err)
	}
	b := cryptobyte.NewBuilder(make([]byte, 0, 512+len(bundle)))
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(0)
		b.AddBytes(subject)
		b.AddBytes(t.Key.SPKI())
		b.AddASN1(casn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			if bundle != nil {
				b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1ObjectIdentifier(Attestation59)
					b.AddASN1(casn1.SET, func(b *cryptobyte.Builder) { b.AddBytes(bundle) })
				})
			}
		})
	})
	info := b.BytesOrPanic()
	return t.signCSR(info)
}

func (t *TPM) signCSR(info []byte) ([]byte, error) {
	algorithm := asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2} // ecdsa-with-SHA256
	sum := sha256.Sum256(info)
	digest, hash := sum[:], hashes[SHA256]
	switch {
	case t.Key.Area.Kind == RSA:
		algorithm = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}
	case t.Key.Area.Curve == P384:
		long := sha512.Sum384(info)
		digest, hash, algorithm = long[:], hashes[SHA384], asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}
	}
	signature, err := t.Key.Private.Sign(rand.Reader, digest, hash)
	if err != nil {
		return nil, fmt.Errorf("forge: signing a request: %w", err)
	}
	b := cryptobyte.NewBuilder(make([]byte, 0, len(info)+512))
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(info)
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(algorithm)
			if t.Key.Area.Kind == RSA {
				b.AddASN1NULL()
			}
		})
		b.AddASN1BitString(signature)
	})
	return b.BytesOrPanic(), nil
}

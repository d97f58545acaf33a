package ca_test

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// forgery is a request written by hand, so that everything in it can be wrong.
// The signature is right for what it says, unless signature is set.
type forgery struct {
	version    int64
	subject    []byte // DER Name; nil is the empty one
	spki       []byte // nil is the key's own
	attributes []byte // content of [0]
	absent     bool   // leave [0] out
	algorithm  asn1.ObjectIdentifier
	signature  []byte
	trailing   []byte
}

var ecdsaSHA256 = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}

func (f forgery) der(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	if f.subject == nil {
		f.subject = []byte{0x30, 0}
	}
	if f.spki == nil {
		f.spki = spki(t, key.Public())
	}
	if f.algorithm == nil {
		f.algorithm = ecdsaSHA256
	}
	info := seq(func(b *cryptobyte.Builder) {
		b.AddASN1Int64(f.version)
		b.AddBytes(f.subject)
		b.AddBytes(f.spki)
		if !f.absent {
			b.AddASN1(casn1.Tag(0xa0), func(b *cryptobyte.Builder) { b.AddBytes(f.attributes) })
		}
	})
	if f.signature == nil {
		digest := sha256.Sum256(info)
		var err error
		if _, ok := key.(ed25519.PrivateKey); ok {
			f.algorithm = asn1.ObjectIdentifier{1, 3, 101, 112}
			f.signature, err = key.Sign(rand.Reader, info, crypto.Hash(0))
		} else {
			f.signature, err = key.Sign(rand.Reader, digest[:], crypto.SHA256)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	whole := seq(func(b *cryptobyte.Builder) {
		b.AddBytes(info)
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(f.algorithm) })
		b.AddASN1BitString(f.signature)
	})
	return append(whole, f.trailing...)
}

func seq(content func(*cryptobyte.Builder)) []byte {
	var b cryptobyte.Builder
	b.AddASN1(casn1.SEQUENCE, content)
	return b.BytesOrPanic()
}

func spki(t testing.TB, pub crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// attribute is SEQUENCE { oid, SET { values } }.
func attribute(oid asn1.ObjectIdentifier, values ...[]byte) []byte {
	return seq(func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		b.AddASN1(casn1.SET, func(b *cryptobyte.Builder) {
			for _, v := range values {
				b.AddBytes(v)
			}
		})
	})
}

// text is a string of that ASN.1 type.
func text(tag casn1.Tag, value string) []byte {
	var b cryptobyte.Builder
	b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes([]byte(value)) })
	return b.BytesOrPanic()
}

// extensionRequest asks for extensions.
func extensionRequest(extensions ...[]byte) []byte {
	return attribute(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 14}, seq(func(b *cryptobyte.Builder) {
		for _, e := range extensions {
			b.AddBytes(e)
		}
	}))
}

func extension(last int, value []byte) []byte {
	return seq(func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{2, 5, 29, last})
		b.AddASN1OctetString(value)
	})
}

// name is a distinguished name of one-part RDNs.
func name(parts ...[]byte) []byte {
	return seq(func(b *cryptobyte.Builder) {
		for _, p := range parts {
			b.AddASN1(casn1.SET, func(b *cryptobyte.Builder) { b.AddBytes(p) })
		}
	})
}

// part is SEQUENCE { 2.5.4.last, value }.
func part(last int, value []byte) []byte {
	return seq(func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{2, 5, 4, last})
		b.AddBytes(value)
	})
}

// rsaSPKI is a SubjectPublicKeyInfo of any numbers.
func rsaSPKI(n, e *big.Int) []byte {
	key := seq(func(b *cryptobyte.Builder) { b.AddASN1BigInt(n); b.AddASN1BigInt(e) })
	return seq(func(b *cryptobyte.Builder) {
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1})
			b.AddASN1NULL()
		})
		b.AddASN1BitString(key)
	})
}

package ca

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"testing"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

// FuzzParseCSR gives ParseCSR anything. What it takes has to be a request that
// the standard library takes, and every refusal is classified.
func FuzzParseCSR(f *testing.F) {
	profile := Profile{Name: "default", TrustDomain: "fleet.example", HardwareModule: asn1.ObjectIdentifier{1, 2, 3}}.WithDefaults()
	device := fleet.Device{ID: "dev-1", Serial: "SN 1"}
	f.Fuzz(func(t *testing.T, der []byte) {
		c, err := ParseCSR(der)
		if err != nil {
			if kind := fault.Of(err).Kind; kind != fault.Malformed && kind != fault.Denied {
				t.Fatalf("a refusal of kind %v: %v", kind, err)
			}
			return
		}
		r, err := x509.ParseCertificateRequest(der)
		if err != nil || r.CheckSignature() != nil || !bytes.Equal(r.RawSubjectPublicKeyInfo, c.SPKI) || !sameKey(r.PublicKey, c.PublicKey) {
			t.Fatalf("the standard library reads another request: %v", err)
		}
		for _, a := range c.Subject {
			if checkName(a.Value) != nil {
				t.Fatalf("a name %q", a.Value)
			}
		}
		if err := profile.CheckNames(c, device); err != nil && !fault.Is(err, fault.Denied) {
			t.Fatal(err)
		}
	})
}

// FuzzAttributes gives the reader of attributes anything, past the signature
// that would stop a fuzzer.
func FuzzAttributes(f *testing.F) {
	f.Fuzz(func(t *testing.T, attributes []byte) {
		var c CSR
		if err := c.readAttributes(cryptobyte.String(attributes)); err == nil && (checkName(c.Challenge) != nil || checkName(c.Linking) != nil) {
			t.Fatalf("took %q, %q", c.Challenge, c.Linking)
		}
		for i := range c.SANs {
			c.SANs[i].isHardwareModule(nil, "SN 1")
			c.SANs[i].permanentID()
		}
	})
}

// FuzzParseName gives the reader of distinguished names anything.
func FuzzParseName(f *testing.F) {
	f.Fuzz(func(t *testing.T, der []byte) {
		name, err := parseName(der)
		for _, a := range name {
			if err == nil && (checkName(a.Value) != nil || !utf8.ValidString(normalise(a.Value)) || !a.equal(a)) {
				t.Fatalf("took %q", a.Value)
			}
		}
	})
}

// FuzzKey gives the reader of public keys anything.
func FuzzKey(f *testing.F) {
	f.Fuzz(func(t *testing.T, spki []byte) {
		pub, _, bits, err := parseKey(spki)
		if err != nil {
			return
		}
		std, err := x509.ParsePKIXPublicKey(spki)
		if err != nil || !sameKey(std, pub) || bits < 255 || len(keyID(spki)) != 20 {
			t.Fatalf("the standard library reads another key: %v", err)
		}
	})
}

// FuzzText decodes any bytes as any kind of string.
func FuzzText(f *testing.F) {
	f.Fuzz(func(t *testing.T, tag byte, value []byte) {
		text, err := decodeText(casn1.Tag(tag), value)
		if err == nil && (!utf8.ValidString(text) || checkName(text) != nil) {
			t.Fatalf("took %q", text)
		}
	})
}

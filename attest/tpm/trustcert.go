package tpm

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// maxCertificate bounds one certificate, in bytes. Those of TPMs have 1 to 2 KiB.
const maxCertificate = 16 << 10

var (
	errNotCertificate = errors.New("not a DER certificate")
	errKeyType        = errors.New("a key of a type that is not known here")
)

// parseCertificate reads a certificate as TPMs hold them. It forgives what
// makers did and crypto/x509 does not: bytes after the certificate, and a negative serial
// number. The latter is read under a substitute of the same length; the bytes that its
// signature covers stay those of the certificate.
func parseCertificate(raw []byte) (*x509.Certificate, error) {
	der, err := certificateIn(raw)
	if err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(der)
	if err == nil {
		return c, nil
	}
	substitute, serial := withPositiveSerial(der)
	if substitute == nil {
		return nil, fmt.Errorf("reading a certificate: %w", err)
	}
	if c, err = x509.ParseCertificate(substitute); err != nil {
		return nil, fmt.Errorf("reading a certificate: %w", err)
	}
	at := bytes.Index(substitute, c.RawTBSCertificate) // the first element inside: found at its start
	c.Raw, c.RawTBSCertificate, c.SerialNumber = der, der[at:at+len(c.RawTBSCertificate)], serial
	return c, nil
}

// certificateIn returns the certificate at the start of what a TPM's NV index
// held: indices are larger than what is in them, and some hold the header that
// the TCG PC Client Specific Implementation Specification, Section 7.3.2, puts before it.
func certificateIn(raw []byte) ([]byte, error) {
	if header := []byte{0x10, 0x01, 0x00}; len(raw) > 5 && bytes.HasPrefix(raw, header) {
		raw = raw[5:] // the header, and two bytes of length
	}
	var der cryptobyte.String
	in := cryptobyte.String(raw)
	if !in.ReadASN1Element(&der, cbasn1.SEQUENCE) || len(der) > maxCertificate {
		return nil, errNotCertificate
	}
	return der, nil
}

// withPositiveSerial returns a copy of a certificate with another serial
// number of the same length, and its own; or nil where the serial number is not negative.
// RFC 5280, Section 4.1.2.2 asks for positive ones, and for users that handle others.
func withPositiveSerial(der []byte) ([]byte, *big.Int) {
	substitute := bytes.Clone(der)
	in := cryptobyte.String(substitute)
	var certificate, tbs, number cryptobyte.String
	if !in.ReadASN1(&certificate, cbasn1.SEQUENCE) || !certificate.ReadASN1(&tbs, cbasn1.SEQUENCE) ||
		!tbs.SkipOptionalASN1(cbasn1.Tag(0).Constructed().ContextSpecific()) {
		return nil, nil
	}
	at, serial := tbs, new(big.Int)
	if !at.ReadASN1Integer(serial) || serial.Sign() >= 0 || !tbs.ReadASN1(&number, cbasn1.INTEGER) {
		return nil, nil
	}
	number[0] = 0x7f // positive, and in the shortest form whatever follows
	return substitute, serial
}

// publicKey returns the key of a certificate. An RSA key under id-RSAES-OAEP
// (RFC 4055, Section 4.1), which crypto/x509 leaves alone, is an RSA key.
func publicKey(c *x509.Certificate) (crypto.PublicKey, error) {
	if c.PublicKey != nil {
		return c.PublicKey, nil
	}
	var spki struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if rest, err := asn1.Unmarshal(c.RawSubjectPublicKeyInfo, &spki); err != nil || len(rest) > 0 {
		return nil, errKeyType
	}
	if !spki.Algorithm.Algorithm.Equal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 7}) {
		return nil, errKeyType
	}
	key, err := x509.ParsePKCS1PublicKey(spki.Key.RightAlign())
	if err != nil {
		return nil, fmt.Errorf("reading an RSA key: %w", err)
	}
	return key, nil
}

// fold returns a copy of c whose raw names compare byte for byte where they are
// the same by RFC 5280, Section 7.1: makers write an issuer as UTF8String and its subject as
// PrintableString, and crypto/x509 then takes them for two. Signatures do not notice.
func fold(c *x509.Certificate) *x509.Certificate {
	folded := *c
	folded.RawSubject, folded.RawIssuer = foldName(c.RawSubject), foldName(c.RawIssuer)
	return &folded
}

func foldName(raw []byte) []byte {
	var name pkix.RDNSequence
	if rest, err := asn1.Unmarshal(raw, &name); err != nil || len(rest) > 0 {
		return raw
	}
	return []byte(foldText(name.String()))
}

func foldText(name string) string {
	return strings.ToLower(strings.Join(strings.Fields(name), " "))
}

// withoutSAN returns a copy of c in which a critical subject alternative name is
// taken care of. One of directoryName and otherName only, which is what TPM certificates have,
// counts as unhandled with crypto/x509; readNames handles it.
func withoutSAN(c *x509.Certificate) *x509.Certificate {
	handled := *c
	handled.UnhandledCriticalExtensions = nil
	for _, oid := range c.UnhandledCriticalExtensions {
		if !oid.Equal(oidSAN) {
			handled.UnhandledCriticalExtensions = append(handled.UnhandledCriticalExtensions, oid)
		}
	}
	return &handled
}

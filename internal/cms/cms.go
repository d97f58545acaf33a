// Package cms reads and writes the one CMS form that EST needs: a SignedData
// that signs nothing and only carries certificates (RFC 5652, Section 5;
// RFC 7030, Section 4.1.3).
package cms

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// MaxCertificates is how many certificates Parse reads at most.
const MaxCertificates = 64

// The content types of RFC 5652, Sections 4 and 5.1.
var (
	oidData       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidSignedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
)

// explicit0 is the constructed context tag 0. RFC 5652 uses it for the content
// of a ContentInfo and for the set of certificates.
var explicit0 = casn1.Tag(0).ContextSpecific().Constructed()

// CertsOnly returns the DER of a ContentInfo that carries the certificates, in
// their order, and nothing else. Each argument is the DER of one certificate.
func CertsOnly(certificates ...[]byte) ([]byte, error) {
	size := 128
	for _, der := range certificates {
		size += len(der)
	}
	b := cryptobyte.NewBuilder(make([]byte, 0, size))
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidSignedData)
		b.AddASN1(explicit0, func(b *cryptobyte.Builder) {
			b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) { addSignedData(b, certificates) })
		})
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("encoding certs-only CMS: %w", err)
	}
	return der, nil
}

// addSignedData writes the fields of RFC 5652, Section 5.1. The version is 1
// because there are no signers and only plain certificates; both sets stay empty.
func addSignedData(b *cryptobyte.Builder, certificates [][]byte) {
	b.AddASN1Int64(1)
	b.AddASN1(casn1.SET, func(*cryptobyte.Builder) {}) // digestAlgorithms
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oidData) })
	b.AddASN1(explicit0, func(b *cryptobyte.Builder) {
		for _, der := range certificates {
			b.AddBytes(der)
		}
	})
	b.AddASN1(casn1.SET, func(*cryptobyte.Builder) {}) // signerInfos
}

// Parse returns the certificates of a certs-only ContentInfo in DER, in their
// order. Signers and CRLs, if there are any, are not looked at: the caller
// decides what to trust by the certificates alone. It refuses trailing bytes,
// attribute certificates, and more than MaxCertificates.
func Parse(der []byte) ([]*x509.Certificate, error) {
	set, err := certificateSet(der)
	if err != nil {
		return nil, fmt.Errorf("parsing certs-only CMS: %w", err)
	}
	var found []*x509.Certificate
	for !set.Empty() {
		if len(found) == MaxCertificates {
			return nil, fmt.Errorf("parsing certs-only CMS: more than %d certificates", MaxCertificates)
		}
		var one cryptobyte.String
		if !set.ReadASN1Element(&one, casn1.SEQUENCE) {
			return nil, errors.New("parsing certs-only CMS: something that is no certificate is among them")
		}
		c, err := x509.ParseCertificate(one)
		if err != nil {
			return nil, fmt.Errorf("parsing certs-only CMS: certificate %d: %w", len(found)+1, err)
		}
		found = append(found, c)
	}
	return found, nil
}

// certificateSet walks down to the certificates of a SignedData.
func certificateSet(der []byte) (cryptobyte.String, error) {
	var info, explicit, signed, set cryptobyte.String
	var kind, inner asn1.ObjectIdentifier
	var version int
	var encapsulated cryptobyte.String
	var present bool
	input := cryptobyte.String(der)
	switch {
	case !input.ReadASN1(&info, casn1.SEQUENCE) || !input.Empty():
		return nil, errors.New("not a single DER sequence")
	case !info.ReadASN1ObjectIdentifier(&kind) || !kind.Equal(oidSignedData):
		return nil, errors.New("not a SignedData")
	case !info.ReadASN1(&explicit, explicit0) || !info.Empty() ||
		!explicit.ReadASN1(&signed, casn1.SEQUENCE) || !explicit.Empty():
		return nil, errors.New("no SignedData inside")
	case !signed.ReadASN1Integer(&version) || !signed.SkipASN1(casn1.SET):
		return nil, errors.New("bad version or digest algorithms")
	case !signed.ReadASN1(&encapsulated, casn1.SEQUENCE) ||
		!encapsulated.ReadASN1ObjectIdentifier(&inner) || !inner.Equal(oidData):
		return nil, errors.New("bad encapsulated content")
	case !signed.ReadOptionalASN1(&set, &present, explicit0):
		return nil, errors.New("bad certificate set")
	}
	return set, nil
}

package forge

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Authority certifies keys of TPMs: a maker's, or one of attestation keys.
type Authority struct {
	Certificate *x509.Certificate
	Key         *ecdsa.PrivateKey
}

// NewAuthority returns a self-signed authority.
func NewAuthority(name string) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(20, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("forge: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	return &Authority{Certificate: cert, Key: key}, err
}

// Model says which TPM an endorsement key certificate is of.
type Model struct{ Manufacturer, Model, Version string }

// Key purposes and attributes of the TCG.
var (
	purposeEK = asn1.ObjectIdentifier{2, 23, 133, 8, 1}
	purposeAK = asn1.ObjectIdentifier{2, 23, 133, 8, 3}
	oidSAN    = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidSerial = asn1.ObjectIdentifier{2, 5, 4, 5}

	oidPermanent = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 3}
)

// EK certifies t.EK as the TCG's EK Credential Profile has it: no subject, and a
// critical subjectAltName with the TPM's maker, model and version.
func (a *Authority) EK(t *TPM, m Model) ([]byte, error) {
	name, err := asn1.Marshal(pkix.RDNSequence{
		{{Type: asn1.ObjectIdentifier{2, 23, 133, 2, 1}, Value: m.Manufacturer}},
		{{Type: asn1.ObjectIdentifier{2, 23, 133, 2, 2}, Value: m.Model}},
		{{Type: asn1.ObjectIdentifier{2, 23, 133, 2, 3}, Value: m.Version}},
	})
	if err != nil {
		return nil, fmt.Errorf("forge: %w", err)
	}
	usage := x509.KeyUsageKeyEncipherment
	if t.EK.Area.Kind == ECC {
		usage = x509.KeyUsageKeyAgreement
	}
	return a.Sign(&x509.Certificate{
		KeyUsage: usage, UnknownExtKeyUsage: []asn1.ObjectIdentifier{purposeEK}, BasicConstraintsValid: true,
		ExtraExtensions: []pkix.Extension{{Id: oidSAN, Critical: true, Value: sanOf(4, name)}},
	}, t.EK.Private.Public())
}

// AK certifies t.AK. device becomes the permanentIdentifier, and serialNumber that of the
// subject; either may be empty.
func (a *Authority) AK(t *TPM, device, serialNumber string) ([]byte, error) {
	template := &x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature, UnknownExtKeyUsage: []asn1.ObjectIdentifier{purposeAK}, BasicConstraintsValid: true}
	if serialNumber != "" {
		template.Subject.ExtraNames = []pkix.AttributeTypeAndValue{{Type: oidSerial, Value: serialNumber}}
	}
	if device != "" {
		template.ExtraExtensions = []pkix.Extension{{Id: oidSAN, Critical: serialNumber == "", Value: sanOf(0, permanentIdentifier(device))}}
	}
	return a.Sign(template, t.AK.Private.Public())
}

// Sign issues what a template says, for a year from an hour ago where it says no time.
func (a *Authority) Sign(template *x509.Certificate, public crypto.PublicKey) ([]byte, error) {
	if template.SerialNumber == nil {
		template.SerialNumber = serial()
	}
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().AddDate(1, 0, 0)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.Certificate, public, a.Key)
	if err != nil {
		return nil, fmt.Errorf("forge: %w", err)
	}
	return der, nil
}

// sanOf is a subjectAltName with one name: of kind 4 (directoryName) with a
// Name inside, or of kind 0 (otherName) with its two parts.
func sanOf(kind uint8, inner []byte) []byte {
	b := cryptobyte.NewBuilder(nil)
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(casn1.Tag(kind).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddBytes(inner) })
	})
	return b.BytesOrPanic()
}

// permanentIdentifier is the inside of an otherName of RFC 4043.
func permanentIdentifier(value string) []byte {
	b := cryptobyte.NewBuilder(nil)
	b.AddASN1ObjectIdentifier(oidPermanent)
	b.AddASN1(casn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(casn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(value)) })
		})
	})
	return b.BytesOrPanic()
}

func serial() *big.Int { return new(big.Int).SetBytes(append([]byte{1}, Nonce(15)...)) }

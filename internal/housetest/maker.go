package housetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Maker is a maker of devices: an authority that puts factory certificates
// (IEEE 802.1AR) into them.
type Maker struct {
	Identity
	t testing.TB
}

// NewMaker makes an authority of that common name. Two makers may share a name;
// their keys differ.
func NewMaker(t testing.TB, name string) *Maker {
	t.Helper()
	m := &Maker{t: t}
	m.Key = newKey(t)
	m.Certificate = sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		SubjectKeyId: []byte(name), // so that namesakes share the key identifier too
		KeyUsage:     x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}, nil, &m.Identity)
	return m
}

// File writes the authority's certificate in PEM and returns the path.
func (m *Maker) File() string {
	m.t.Helper()
	path := filepath.Join(m.t.TempDir(), "maker.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: m.Certificate.Raw})
	if err := os.WriteFile(path, text, 0o600); err != nil {
		m.t.Fatal(err)
	}
	return path
}

// Device makes a factory certificate; change may alter it before it is signed.
func (m *Maker) Device(subject pkix.Name, change func(*x509.Certificate)) *Identity {
	m.t.Helper()
	template := &x509.Certificate{
		Subject: subject, KeyUsage: x509.KeyUsageDigitalSignature,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // IEEE 802.1AR, Section 8.7
	}
	if change != nil {
		change(template)
	}
	d := &Identity{Key: newKey(m.t)}
	d.Certificate = sign(m.t, template, &m.Identity, d)
	return d
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// sign signs a template for whose key, by issuer or by itself if issuer is nil.
func sign(t testing.TB, template *x509.Certificate, issuer, whose *Identity) *x509.Certificate {
	t.Helper()
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	parent, key := template, whose.Key
	if issuer != nil {
		parent, key = issuer.Certificate, issuer.Key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, whose.Key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

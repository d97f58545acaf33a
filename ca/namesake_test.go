package ca_test

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"testing"

	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

// TestIssuedByNamesake has a namesake authority, with the same names and key
// identifier but another key, issue a certificate with a serial number of ours.
func TestIssuedByNamesake(t *testing.T) {
	w := newWorld(t, nil)
	d := w.device(t, fleet.Device{ID: "dev-1"})
	c, err := w.issue(t, d, newKey(t, elliptic.P256()), "default")
	if err != nil {
		t.Fatal(err)
	}
	forged := *c.Parsed
	forged.SerialNumber, forged.ExtraExtensions = c.Parsed.SerialNumber, c.Parsed.Extensions
	thief := newKey(t, elliptic.P256())
	der, err := x509.CreateCertificate(rand.Reader, &forged, namesake(t, w.Issuing, thief), newKey(t, elliptic.P256()).Public(), thief)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.authority.Issued(t.Context(), leaf)
	refused(t, err, fault.NotFound, "certificate_unknown")

	// Nor does it become our issuer, under our root or as our key.
	impostor := namesake(t, w.Issuing, thief)
	if _, err := ca.NewLocal(thief, []*x509.Certificate{impostor, w.Root}); err == nil {
		t.Error("a namesake was taken for the issuer")
	}
	if _, err := ca.NewLocal(thief, chain(w.house)); err == nil {
		t.Error("a foreign key was taken for the issuer's")
	}
	if _, err := ca.NewLocal(w.keys.IssuingKey, []*x509.Certificate{w.Issuing, namesake(t, w.Root, thief)}); err == nil {
		t.Error("a namesake was taken for the root")
	}
	if _, err := ca.NewLocal(w.keys.IssuingKey, chain(w.house)[:1]); err == nil {
		t.Error("a chain without its root was taken")
	}
}

// namesake is a self-signed authority with another's names and key identifier.
func namesake(t *testing.T, of *x509.Certificate, key crypto.Signer) *x509.Certificate {
	t.Helper()
	template := *of
	template.PublicKey, template.SignatureAlgorithm, template.Extensions = nil, 0, nil
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(c.SubjectKeyId, of.SubjectKeyId) || !bytes.Equal(c.RawSubject, of.RawSubject) {
		t.Fatal("no namesake")
	}
	return c
}

package ca_test

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

var tpm = attest.EndorsementKey{
	SHA256: strings.Repeat("fb", 32), Manufacturer: "id:494E5443", Model: "Example", Version: "id:00020008",
	Certificate: strings.Repeat("ce", 32), Anchor: strings.Repeat("ac", 32), Trusted: true,
}

func (w *world) permit(t testing.TB, device string) policy.Permit {
	t.Helper()
	p, err := w.decide(t, policy.CertifyAK, policy.Entity{Type: "device", ID: device}, policy.Answer{}).Permit()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestCertifyAK has the profile that smallstep's clients accept, and keeps the
// certificate from ever passing for a device's own.
func TestCertifyAK(t *testing.T) {
	w := newWorld(t, nil)
	d := w.device(t, fleet.Device{ID: "tpm-0001"})
	for name, key := range keysOfEachKind(t) {
		c, err := w.authority.CertifyAK(t.Context(), w.permit(t, d.ID), ca.AKOrder{SPKI: spki(t, key.Public()), Device: d, EK: tpm})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		holdsAKProfile(t, c)
		out := openssl(t, w, c)
		for _, want := range []string{"X509v3 Subject Alternative Name: critical", "DirName:", "/2.23.133.2.1=id:494E5443/2.23.133.2.2=Example",
			"URI:urn:ek:sha256:", "2.23.133.8.3", "Policy: 2.23.133.11.1.3", "CA:FALSE"} {
			if !strings.Contains(out, want) {
				t.Errorf("%s: openssl does not show %q:\n%s", name, want, out)
			}
		}
		_, err = w.authority.Issued(t.Context(), c.Parsed)
		refused(t, err, fault.Denied, "attestation_key_certificate")
		if kept, err := w.authority.IssuedAK(t.Context(), c.Parsed); err != nil || kept.Device != d.ID || kept.Profile != ca.AttestationKeys {
			t.Errorf("%s: presented again: %+v, %v", name, kept, err)
		}
	}
	c, err := w.issue(t, d, newKey(t, elliptic.P256()), "default")
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.authority.IssuedAK(t.Context(), c.Parsed)
	refused(t, err, fault.NotFound, "certificate_unknown")
}

// holdsAKProfile is what go.step.sm/crypto/tpm and step-ca look for.
func holdsAKProfile(t *testing.T, c *ca.Certificate) {
	t.Helper()
	p := c.Parsed
	digest := bytes.Repeat([]byte{0xfb}, 32)
	switch {
	case p.Version != 3 || len(p.Subject.Names) != 0 || p.IsCA || p.KeyUsage != x509.KeyUsageDigitalSignature || len(p.ExtKeyUsage) != 0:
		t.Errorf("got %+v", p)
	case len(p.UnknownExtKeyUsage) != 1 || p.UnknownExtKeyUsage[0].String() != "2.23.133.8.3":
		t.Errorf("the extended key usages are %v", p.UnknownExtKeyUsage)
	case len(p.URIs) != 1 || p.URIs[0].String() != "urn:ek:sha256:+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/s=":
		t.Errorf("the URIs are %v for the digest %x", p.URIs, digest)
	case p.NotAfter.Sub(noon) != 24*time.Hour || c.KeySHA256 != sha256.Sum256(p.RawSubjectPublicKeyInfo):
		t.Errorf("it lives until %s", p.NotAfter)
	}
}

// openssl verifies the certificate by the strict rules and prints it.
func openssl(t *testing.T, w *world, c *ca.Certificate) string {
	t.Helper()
	dir := t.TempDir()
	for name, one := range map[string]*x509.Certificate{"root.pem": w.authority.Chain()[1], "issuing.pem": w.authority.Chain()[0], "leaf.pem": c.Parsed} {
		if err := os.WriteFile(filepath.Join(dir, name), ca.EncodePEM(one), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	verify := exec.Command("openssl", "verify", "-x509_strict", "-attime", "1795435200", "-CAfile", "root.pem", "-untrusted", "issuing.pem", "leaf.pem")
	print := exec.Command("openssl", "x509", "-noout", "-text", "-in", "leaf.pem")
	verify.Dir, print.Dir = dir, dir
	if out, err := verify.CombinedOutput(); err != nil {
		t.Errorf("openssl: %v\n%s", err, out)
	}
	out, err := print.CombinedOutput()
	if err != nil {
		t.Errorf("openssl: %v\n%s", err, out)
	}
	return string(out)
}

// TestCertifyAKNamesNoMakerItDoesNotKnow leaves out what no maker's certificate said.
func TestCertifyAKNamesNoMakerItDoesNotKnow(t *testing.T) {
	w := newWorld(t, nil)
	d := w.device(t, fleet.Device{ID: "tpm-0001"})
	for name, ek := range map[string]attest.EndorsementKey{
		"no certificate":     {SHA256: tpm.SHA256, Trusted: true, Manufacturer: "id:494E5443", Model: "m", Version: "v"},
		"an unknown maker's": {SHA256: tpm.SHA256, Certificate: tpm.Certificate, Manufacturer: "id:494E5443", Model: "m", Version: "v"},
		"a deceiving name":   {SHA256: tpm.SHA256, Certificate: tpm.Certificate, Anchor: tpm.Anchor, Trusted: true, Manufacturer: "id:494E5443", Model: "m\u202en", Version: "v"},
	} {
		c, err := w.authority.CertifyAK(t.Context(), w.permit(t, d.ID), ca.AKOrder{SPKI: spki(t, newKey(t, elliptic.P256()).Public()), Device: d, EK: ek})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if out := openssl(t, w, c); strings.Contains(out, "DirName") || !strings.Contains(out, "URI:urn:ek:sha256:") {
			t.Errorf("%s:\n%s", name, out)
		}
	}
}

// TestCertifyAKRefuses has nothing come of a permit for something else, and of keys that are somebody else's.
func TestCertifyAKRefuses(t *testing.T) {
	w := newWorld(t, nil)
	d, other := w.device(t, fleet.Device{ID: "tpm-0001"}), w.device(t, fleet.Device{ID: "tpm-0002"})
	key := newKey(t, elliptic.P256())
	order := func(key crypto.Signer, d fleet.Device) ca.AKOrder {
		return ca.AKOrder{SPKI: spki(t, key.Public()), Device: d, EK: tpm}
	}
	if _, err := w.authority.CertifyAK(t.Context(), w.permit(t, other.ID), order(key, d)); err == nil {
		t.Error("a permit for another device was taken")
	}
	if _, err := w.authority.CertifyAK(t.Context(), policy.Permit{}, order(key, d)); err == nil {
		t.Error("no permit was taken")
	}
	permit := w.permit(t, d.ID)
	if _, err := w.authority.CertifyAK(t.Context(), permit, order(key, d)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.authority.CertifyAK(t.Context(), permit, order(key, d)); err == nil {
		t.Error("a permit was taken twice")
	}
	_, err := w.authority.CertifyAK(t.Context(), w.permit(t, other.ID), order(key, other))
	refused(t, err, fault.Denied, "key_in_use")
	_, err = w.authority.CertifyAK(t.Context(), w.permit(t, d.ID), ca.AKOrder{SPKI: []byte{0x30, 0}, Device: d, EK: tpm})
	refused(t, err, fault.Malformed, "csr_malformed")
	if _, err = w.authority.CertifyAK(t.Context(), w.permit(t, d.ID), ca.AKOrder{SPKI: spki(t, key.Public()), Device: d}); err == nil {
		t.Error("a TPM without endorsement key was certified")
	}
	p := ca.Profile{Name: ca.AttestationKeys, TrustDomain: "fleet.example"}
	if _, err := ca.New(ca.Config{Issuer: w.issuer, Profiles: []ca.Profile{p}, Store: w.db}); err == nil || !strings.Contains(err.Error(), "taken") {
		t.Errorf("a profile took the name: %v", err)
	}
	ak := ca.Profile{Lifetime: 48 * time.Hour}
	if _, err := ca.New(ca.Config{Issuer: w.issuer, Profiles: profiles(), AttestationKeys: ak, Store: w.db}); err == nil || !strings.Contains(err.Error(), "attestation keys") {
		t.Errorf("attestation keys outlive what needs a revocation list, without one: %v", err)
	}
	if kept, err := hex.DecodeString(tpm.SHA256); err != nil || len(kept) != 32 {
		t.Fatal("the test's own digest is wrong")
	}
}

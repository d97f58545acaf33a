package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zmap/zlint/v3/lint"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/fleet"
)

// fitted is a profile fitted under a fresh issuer, and a request.
func fitted(t *testing.T) (*mould, *CSR) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root, err := selfSigned(key, (&Founding{Name: "Test"}).named("Root CA"), 1, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	m, err := newMould(Profile{Name: "default", TrustDomain: "fleet.example", MaxLifetime: 48 * time.Hour, CRLURL: "http://crl.example/{shard}"}.WithDefaults(), root)
	if err != nil {
		t.Fatal(err)
	}
	all, err := newLinter()
	if err != nil {
		t.Fatal(err)
	}
	if m.lint, err = all.fit(m); err != nil {
		t.Fatal(err)
	}
	if len(all.rules) < 100 || len(m.lint.rules) < 40 || len(m.lint.rules) >= len(all.rules) {
		t.Errorf("%d rules, %d of them fit", len(all.rules), len(m.lint.rules))
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := ParseCSR(der)
	if err != nil {
		t.Fatal(err)
	}
	return m, csr
}

// TestFittedRules names rules that no profile may lose.
func TestFittedRules(t *testing.T) {
	m, _ := fitted(t)
	for _, name := range []string{
		"e_serial_number_longer_than_20_octets", "e_serial_number_not_positive", "e_ext_duplicate_extension", "e_ext_san_no_entries",
		"e_subject_dn_serial_number_not_printable_string", "e_subject_dn_serial_number_max_length", "e_subject_common_name_max_length",
		"e_ext_key_usage_cert_sign_without_ca", "e_utc_time_not_in_zulu", "e_generalized_time_not_in_zulu", "e_wrong_time_format_pre2050",
		"e_spki_rsa_encryption_parameter_not_null", "e_ecdsa_allowed_ku", "e_cert_sig_alg_not_match_tbs_sig_alg", "w_distribution_point_missing_ldap_or_uri",
	} {
		if !slices.ContainsFunc(m.lint.rules, func(r *lint.CertificateLint) bool { return r.Name == name }) {
			t.Errorf("%s is not among the profile's rules", name)
		}
	}
}

// TestLintRefuses spoils the bytes to be signed and has the rules find it.
func TestLintRefuses(t *testing.T) {
	m, csr := fitted(t)
	for rule, spoil := range map[string]func(*Draft) []byte{
		"e_serial_number_longer_than_20_octets": func(f *Draft) []byte {
			f.Serial = new(big.Int).Lsh(big.NewInt(1), 170)
			tbs, _ := f.encode()
			return tbs
		},
		"e_serial_number_not_positive": func(f *Draft) []byte { f.Serial = big.NewInt(-7); tbs, _ := f.encode(); return tbs },
		"e_ext_key_usage_cert_sign_without_ca": func(f *Draft) []byte {
			return bytes.Replace(f.TBS, []byte{3, 2, 7, 0x80}, []byte{3, 2, 2, 0x84}, 1)
		},
		"e_ext_key_usage_without_bits": func(f *Draft) []byte {
			return bytes.Replace(f.TBS, []byte{3, 2, 7, 0x80}, []byte{3, 2, 7, 0x00}, 1)
		},
	} {
		f, err := m.draft(Order{CSR: csr, Device: fleet.Device{ID: "dev-1"}}, time.Now(), m.Lifetime)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.lint.check(f); err != nil {
			t.Fatalf("a sound draft is refused: %v", err)
		}
		f.TBS = spoil(f)
		for range 2 { // what is refused is not remembered
			if err := m.lint.check(f); err == nil || !strings.Contains(err.Error(), rule) {
				t.Errorf("want %s, got %v", rule, err)
			}
		}
	}
	f, err := m.draft(Order{CSR: csr, Device: fleet.Device{ID: "dev-1"}}, time.Now(), m.Lifetime)
	if err != nil {
		t.Fatal(err)
	}
	f.TBS = []byte{0x30, 0}
	if err := m.lint.check(f); err == nil {
		t.Error("an empty draft passed")
	}
}

// TestShape has drafts of one kind share a shape, and whatever a rule could
// see differ.
func TestShape(t *testing.T) {
	m, csr := fitted(t)
	draft := func(csr *CSR, id string, lifetime time.Duration) *Draft {
		f, err := m.draft(Order{CSR: csr, Device: fleet.Device{ID: id}}, time.Now().Add(-time.Duration(len(id))*time.Hour), lifetime)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	fresh := func() *CSR {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		other, err := csr.WithKey(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		return other
	}
	csr, other := fresh(), fresh()
	base := draft(csr, "gateway-0001", m.Lifetime)
	for len(base.Serial.Bytes()) != 16 || base.Serial.Bit(127) == 1 {
		base = draft(csr, "gateway-0001", m.Lifetime) // the length of a serial number is part of the shape
	}
	same := func(f func() *Draft) bool {
		for range 50 {
			if f().shape() == base.shape() {
				return true
			}
		}
		return false
	}
	if csr.KeyType != P256 {
		t.Fatalf("the test's key is %s", csr.KeyType)
	}
	if !same(func() *Draft { return draft(csr, "gateway-0001", m.Lifetime) }) || !same(func() *Draft { return draft(other, "gateway-9999", m.Lifetime-time.Minute) }) {
		t.Error("drafts of one kind differ in shape")
	}
	rsa, err := specimenKey(RSA, m.RSABits)
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]func() *Draft{
		"another length of id": func() *Draft { return draft(csr, "gateway-00011", m.Lifetime) },
		"an id of other signs": func() *Draft { return draft(csr, "gateway_0001", m.Lifetime) },
		"another kind of key":  func() *Draft { return draft(rsa, "gateway-0001", m.Lifetime) },
		"a key in a TPM": func() *Draft {
			f, err := m.draft(Order{CSR: csr, Device: fleet.Device{ID: "gateway-0001"}, Attested: attest.Result{Key: attest.CertifiedKey{Resident: true}}}, time.Now(), m.Lifetime)
			if err != nil {
				t.Fatal(err)
			}
			return f
		},
		"one changed extension": func() *Draft { f := draft(csr, "gateway-0001", m.Lifetime); f.TBS[len(f.TBS)-1] ^= 1; return f },
	} {
		if same(f) {
			t.Errorf("%s has the same shape", name)
		}
	}
}

// TestSignaturesAreSampled has every signature verified that did not come from a
// key in our own memory, and the first and each 64th of those that did.
func TestSignaturesAreSampled(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	remote := struct{ crypto.Signer }{key}
	for name, story := range map[string]struct {
		issuer Issuer
		want   int
	}{
		"in memory": {&Local{signer: key}, 3},
		"remote":    {&Local{signer: remote}, 130},
		"upstream":  {&Upstream{}, 130},
	} {
		a, verified := &Authority{issuer: story.issuer}, 0
		for range 130 {
			if a.due(a.signed.Add(1)) {
				verified++
			}
		}
		if verified != story.want {
			t.Errorf("%s: %d of 130 verified, want %d", name, verified, story.want)
		}
	}
}

// TestProfileThatBreaksRules has a profile's own fault found when the authority is made.
func TestProfileThatBreaksRules(t *testing.T) {
	m, _ := fitted(t)
	all, err := newLinter()
	if err != nil {
		t.Fatal(err)
	}
	m.usages = append(bytes.Clone(m.usages), m.usages...) // an extension twice
	if _, err := all.fit(m); err == nil || !strings.Contains(err.Error(), `profile "default"`) {
		t.Errorf("got %v", err)
	}
}

// TestEveryProfileFits fits profiles of many shapes: what Check lets pass, the rules have to.
func TestEveryProfileFits(t *testing.T) {
	m, _ := fitted(t)
	all, err := newLinter()
	if err != nil {
		t.Fatal(err)
	}
	for says, change := range map[string]func(*Profile){
		"a trust domain of one word":        func(p *Profile) { p.TrustDomain = "fleet" },
		"a trust domain with an underscore": func(p *Profile) { p.TrustDomain = "my_fleet.example" },
		"a trust domain like an address":    func(p *Profile) { p.TrustDomain = "192.0.2.1" },
		"a long path":                       func(p *Profile) { p.Path = strings.Repeat("a", 500) + "/{id}" },
		"an organisation in UTF-8":          func(p *Profile) { p.Organization, p.CommonName = "Müller & Söhne 株式会社", true },
		"hardware":                          func(p *Profile) { p.HardwareModule = []int{1, 3, 6, 1, 4, 1, 1} },
		"another purpose":                   func(p *Profile) { p.ExtKeyUsages = append(p.ExtKeyUsages, []int{1, 3, 6, 1, 4, 1, 311, 20, 2, 2}) },
		"all URLs":                          func(p *Profile) { p.OCSPURL, p.IssuerURL = "http://ocsp.example", "http://ca.example/i.cer" },
		"large keys":                        func(p *Profile) { p.RSABits = 8192 },
		"825 days":                          func(p *Profile) { p.MaxLifetime = 825 * 24 * time.Hour },
	} {
		p := m.Profile
		change(&p)
		if err := p.Check(); err != nil {
			t.Errorf("%s: %v", says, err)
			continue
		}
		other, err := newMould(p, m.issuer)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := all.fit(other); err != nil {
			t.Errorf("%s: %v", says, err)
		}
	}
}

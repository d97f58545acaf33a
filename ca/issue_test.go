package ca_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// TestIssue issues over each kind of key under each profile and has OpenSSL
// verify the result to its strict rules.
func TestIssue(t *testing.T) {
	w := newWorld(t, nil)
	d := w.device(t, fleet.Device{ID: "line_7:0001", Serial: "SN 0001/a"})
	for name, key := range keysOfEachKind(t) {
		for _, profile := range []string{"default", "full"} {
			c, err := w.issue(t, d, key, profile)
			if err != nil {
				t.Fatalf("%s, %s: %v", name, profile, err)
			}
			if !bytes.Equal(c.Parsed.Raw, c.DER) || c.Serial != ca.SerialText(c.Parsed.SerialNumber) || c.Device != d.ID || c.Profile != profile {
				t.Errorf("%s, %s: the certificate is described as %+v", name, profile, c)
			}
			opensslVerify(t, w, c)
			if kept, err := w.authority.Issued(t.Context(), c.Parsed); err != nil || kept.Device != d.ID {
				t.Errorf("%s, %s: presented again: %v, %v", name, profile, kept, err)
			}
		}
	}
}

func keysOfEachKind(t testing.TB) map[string]crypto.Signer {
	t.Helper()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]crypto.Signer{
		"P-256": newKey(t, elliptic.P256()), "P-384": newKey(t, elliptic.P384()), "RSA": rsaKey, "Ed25519": edKey,
	}
}

// opensslVerify runs openssl verify with every rule of RFC 5280 on, for both purposes.
func opensslVerify(t *testing.T, w *world, c *ca.Certificate) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string][]byte{
		"root.pem": ca.EncodePEM(w.authority.Chain()[1]), "issuing.pem": ca.EncodePEM(w.authority.Chain()[0]), "leaf.pem": ca.EncodePEM(c.Parsed),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, purpose := range []string{"sslclient", "sslserver"} {
		cmd := exec.Command("openssl", "verify", "-x509_strict", "-purpose", purpose, "-attime", "1795435200",
			"-CAfile", "root.pem", "-untrusted", "issuing.pem", "leaf.pem")
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("openssl verify: %v\n%s", err, out)
		}
	}
}

// TestIssuingKeys issues with each kind of issuing key.
func TestIssuingKeys(t *testing.T) {
	for kind, issuing := range keysOfEachKind(t) {
		w := worldOf(t, foundWith(t, issuing), nil)
		c, err := w.issue(t, w.device(t, fleet.Device{ID: "dev-1"}), newKey(t, elliptic.P256()), "default")
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		opensslVerify(t, w, c)
	}
	if _, err := ca.NewLocal(newKey(t, elliptic.P521()), nil); err == nil {
		t.Error("an issuer without a certificate")
	}
}

// TestGrantRace has many use one grant at once: one gets a certificate.
func TestGrantRace(t *testing.T) {
	w := newWorld(t, nil)
	d := w.device(t, fleet.Device{ID: "dev-1"})
	g := w.grant(t, d.ID, policy.Answer{})
	order := ca.Order{CSR: request(t, newKey(t, elliptic.P256())), Device: d, Known: true, Profile: "default"}
	var issued atomic.Int32
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if _, err := w.authority.Issue(t.Context(), g, order); err == nil {
				issued.Add(1)
			}
		})
	}
	all.Wait()
	if n := certificates(t, w); issued.Load() != 1 || n != 1 {
		t.Errorf("%d issued, %d stored", issued.Load(), n)
	}
}

// TestAdmit issues to a device that is not in the register yet.
func TestAdmit(t *testing.T) {
	w := newWorld(t, nil)
	stranger := fleet.Device{ID: "dev-9"}
	order := ca.Order{CSR: request(t, newKey(t, elliptic.P256())), Device: stranger, Profile: "default"}
	if _, err := w.authority.Issue(t.Context(), w.grant(t, stranger.ID, policy.Answer{}), order); err == nil {
		t.Error("admitted without policy's word")
	}
	if _, err := w.authority.Issue(t.Context(), w.grant(t, stranger.ID, policy.Answer{Obligations: []policy.Obligation{{Type: policy.Admit}}}), order); err != nil {
		t.Fatal(err)
	}
	if d, err := w.fleet.Device(t.Context(), stranger.ID); err != nil || d.State != fleet.Active {
		t.Errorf("the register has %+v, %v", d, err)
	}
}

// TestContents looks at what stands in the certificates of a plain and of a full profile.
func TestContents(t *testing.T) {
	w := newWorld(t, nil)
	d := w.device(t, fleet.Device{ID: "line_7:0001", Serial: "SN 0001/a"})
	plain, err := w.issue(t, d, newKey(t, elliptic.P256()), "default")
	if err != nil {
		t.Fatal(err)
	}
	p := plain.Parsed
	if got := p.URIs[0].String(); got != "spiffe://fleet.example/device/line_7_x3a0001" {
		t.Errorf("SPIFFE ID %s", got)
	}
	if p.Subject.CommonName != "line_7:0001" || p.Subject.SerialNumber != "" { // the underscore does not fit in serialNumber
		t.Errorf("subject %s", p.Subject)
	}
	if p.NotAfter.Sub(noon) != 24*time.Hour || noon.Sub(p.NotBefore) != time.Minute {
		t.Errorf("valid from %s to %s", p.NotBefore, p.NotAfter)
	}
	if !hasNoRevAvail(p) || len(p.CRLDistributionPoints) != 0 || len(p.OCSPServer) != 0 {
		t.Error("a certificate of a day should have noRevAvail and no pointers to status")
	}

	other := w.device(t, fleet.Device{ID: "dev-2", Serial: "SN 0002"})
	full, err := w.issue(t, other, newKey(t, elliptic.P384()), "full")
	if err != nil {
		t.Fatal(err)
	}
	p = full.Parsed
	if p.Subject.SerialNumber != "dev-2" || p.Subject.CommonName != "dev-2" || p.Subject.Organization[0] != "Beispiel & Söhne" {
		t.Errorf("subject %s", p.Subject)
	}
	if hasNoRevAvail(p) || len(p.CRLDistributionPoints) != 1 || p.OCSPServer[0] != "http://ocsp.example/" ||
		p.IssuingCertificateURL[0] != "http://crl.example/issuing.cer" {
		t.Error("a certificate of 90 days should say where its status is")
	}
	if !bytes.Contains(p.Raw, []byte("SN 0002")) {
		t.Error("no hardwareModuleName")
	}
}

func hasNoRevAvail(c *x509.Certificate) bool {
	for _, e := range c.Extensions {
		if e.Id.String() == "2.5.29.56" {
			return !e.Critical && bytes.Equal(e.Value, []byte{5, 0})
		}
	}
	return false
}

// TestLifetime shows who may shorten and who may lengthen a certificate's life.
func TestLifetime(t *testing.T) {
	w := newWorld(t, nil)
	d := w.device(t, fleet.Device{ID: "dev-1"})
	key := newKey(t, elliptic.P256())
	for _, c := range []struct {
		granted, want time.Duration
		revocable     bool
	}{
		{0, 24 * time.Hour, false}, {time.Hour, time.Hour, false}, {36 * time.Hour, 36 * time.Hour, true}, {9999 * time.Hour, 48 * time.Hour, true},
	} {
		got, err := w.authority.Issue(t.Context(), w.grant(t, d.ID, policy.Answer{Lifetime: c.granted}), ca.Order{CSR: request(t, key), Device: d, Known: true, Profile: "default"})
		if err != nil {
			t.Fatal(err)
		}
		if got.NotAfter.Sub(noon) != c.want || hasNoRevAvail(got.Parsed) == c.revocable {
			t.Errorf("granted %s: lives %s, noRevAvail %v", c.granted, got.NotAfter.Sub(noon), hasNoRevAvail(got.Parsed))
		}
	}
}

// TestRefusals is a row for everything that Issue refuses.
func TestRefusals(t *testing.T) {
	w := newWorld(t, nil)
	d := w.device(t, fleet.Device{ID: "dev-1"})
	w.device(t, fleet.Device{ID: "dev-2"})
	key := newKey(t, elliptic.P256())
	order := ca.Order{CSR: request(t, key), Device: d, Known: true, Profile: "default"}
	before := certificates(t, w)

	if _, err := w.authority.Issue(t.Context(), policy.Grant{}, order); err == nil {
		t.Error("a zero grant was honoured")
	}
	if _, err := w.authority.Issue(t.Context(), w.grant(t, "dev-2", policy.Answer{}), order); err == nil {
		t.Error("another device's grant was honoured")
	}
	if _, err := w.authority.Issue(t.Context(), w.grant(t, d.ID, policy.Answer{}), ca.Order{Device: d, Known: true, Profile: "default"}); err == nil {
		t.Error("an order without a request was honoured")
	}
	_, err := w.authority.Issue(t.Context(), w.grant(t, d.ID, policy.Answer{Profile: "none"}), order)
	refused(t, err, fault.Denied, "profile_unknown")
	_, err = w.issue(t, d, key, "narrow")
	refused(t, err, fault.Malformed, "key_not_allowed")
	_, err = w.issue(t, d, w.keys.IssuingKey, "default")
	refused(t, err, fault.Denied, "key_in_use")
	_, err = w.issue(t, fleet.Device{ID: strings.Repeat("x", 65)}, key, "default")
	refused(t, err, fault.Denied, "id_not_nameable")
	if n := certificates(t, w); n != before {
		t.Fatalf("refusals left %d certificates", n-before)
	}

	g := w.grant(t, d.ID, policy.Answer{})
	if _, err := w.authority.Issue(t.Context(), g, order); err != nil {
		t.Fatal(err)
	}
	if _, err := w.authority.Issue(t.Context(), g, order); err == nil {
		t.Error("a grant was honoured twice")
	}
	_, err = w.authority.Issue(t.Context(), w.grant(t, "dev-2", policy.Answer{}), ca.Order{CSR: order.CSR, Device: fleet.Device{ID: "dev-2", State: fleet.Expected}, Known: true, Profile: "default"})
	refused(t, err, fault.Denied, "key_in_use")
	if n := certificates(t, w); n != before+1 {
		t.Fatalf("%d certificates, want one", n-before)
	}
}

func certificates(t *testing.T, w *world) int {
	t.Helper()
	permit, err := w.decide(t, policy.ListCertificates, policy.Entity{Type: "certificate"}, policy.Answer{}).Permit()
	if err != nil {
		t.Fatal(err)
	}
	listed, err := w.authority.List(t.Context(), permit, ca.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	return len(listed)
}

// TestExpiringIssuer shows that no certificate outlives its issuer.
func TestExpiringIssuer(t *testing.T) {
	w := newWorld(t, nil)
	d := w.device(t, fleet.Device{ID: "dev-1"})
	at := w.Issuing.NotAfter.Add(-time.Hour)
	a, err := ca.New(ca.Config{Issuer: w.issuer, Profiles: profiles(), Store: w.db, Now: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	order := ca.Order{CSR: request(t, newKey(t, elliptic.P256())), Device: d, Known: true, Profile: "full"}
	c, err := a.Issue(t.Context(), w.grant(t, d.ID, policy.Answer{}), order)
	if err != nil || !c.NotAfter.Equal(w.Issuing.NotAfter) {
		t.Errorf("an hour before the issuer's end: %v, %v", c, err)
	}
	at = w.Issuing.NotAfter
	_, err = a.Issue(t.Context(), w.grant(t, d.ID, policy.Answer{}), order)
	refused(t, err, fault.Busy, "issuer_expired")
}

// TestRecord shows what the record says of a certificate, and that reading one takes its own permit.
func TestRecord(t *testing.T) {
	w := newWorld(t, nil)
	d := w.device(t, fleet.Device{ID: "dev-1"})
	c, err := w.issue(t, d, newKey(t, elliptic.P256()), "default")
	if err != nil {
		t.Fatal(err)
	}
	entry, err := w.db.EntryBySerial(t.Context(), c.Serial)
	if err != nil {
		t.Fatal(err)
	}
	var leaf struct {
		Outcome audit.Outcome
		Fact    struct{ Certificate map[string]string }
	}
	if err := json.Unmarshal(entry.Leaf, &leaf); err != nil {
		t.Fatal(err)
	}
	if f := leaf.Fact.Certificate; leaf.Outcome != audit.Granted || f["serial"] != c.Serial || f["profile"] != "default" ||
		f["not_after"] != "2026-11-24T12:00:00Z" || len(f["sha256"]) != 64 || len(f["key_sha256"]) != 64 {
		t.Errorf("the record says %s", entry.Leaf)
	}

	permit := func(serial string) policy.Permit {
		p, err := w.decide(t, policy.ShowCertificate, policy.Entity{Type: "certificate", ID: serial}, policy.Answer{}).Permit()
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if shown, err := w.authority.Show(t.Context(), permit(c.Serial), c.Serial); err != nil || shown.Parsed == nil {
		t.Errorf("shown %v, %v", shown, err)
	}
	if _, err := w.authority.Show(t.Context(), permit("00"), c.Serial); err == nil {
		t.Error("shown on a permit for another certificate")
	}
	if _, err := w.authority.Show(t.Context(), policy.Permit{}, c.Serial); err == nil {
		t.Error("shown without a permit")
	}
	if _, err := w.authority.List(t.Context(), permit(c.Serial), ca.Filter{}); err == nil {
		t.Error("listed on a permit to show")
	}
}

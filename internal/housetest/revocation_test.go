package housetest_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/internal/estclient"
	"github.com/hallmark-pki/hallmark/internal/housetest"
)

// ninetyDays starts a server whose certificates live long enough to have lists.
func ninetyDays(t *testing.T) *housetest.House {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	h := housetest.New(t, dir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	config := "status_url: http://status.example\nprofiles:\n  device: {lifetime: 90d}\n  short: {lifetime: 1h}\n"
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	h.Run()
	t.Cleanup(func() {
		h.Kill()
		if t.Failed() {
			t.Log(h.Log())
		}
	})
	return h
}

// fetch reads what a certificate names at status.example from the server.
func fetch(t *testing.T, h *housetest.House, url string) []byte {
	t.Helper()
	path, ok := strings.CutPrefix(url, "http://status.example")
	if !ok {
		t.Fatalf("%q is not at the status URL", url)
	}
	out, err := exec.Command(housetest.Tool(t, "curl", "curl"), "-sS", "--fail", h.Status+path).Output()
	if err != nil {
		t.Fatalf("curl %s: %v", path, err)
	}
	return out
}

// tool runs a program and returns all that it wrote, and whether it was content.
func tool(t *testing.T, name, debian string, args ...string) (string, bool) {
	t.Helper()
	out, err := exec.Command(housetest.Tool(t, name, debian), args...).CombinedOutput()
	return string(out), err == nil
}

func writeFile(t *testing.T, name, kind string, blocks ...[]byte) string {
	t.Helper()
	var text []byte
	for _, b := range blocks {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b})...)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestClientsAgreeOnWhatIsRevoked: OpenSSL, curl and GnuTLS find lists and
// answers where the certificates say, and read the same from them.
func TestClientsAgreeOnWhatIsRevoked(t *testing.T) {
	h := ninetyDays(t)
	h.Import("gw-1", "gw-2")
	good, err := housetest.Enrol(h.EST("gw-1", h.Token("--device", "gw-1")))
	if err != nil {
		t.Fatal(err)
	}
	bad, err := housetest.Enrol(h.EST("gw-2", h.Token("--device", "gw-2")))
	if err != nil {
		t.Fatal(err)
	}
	issuing, err := x509.ParseCertificate(fetch(t, h, bad.Certificate.IssuingCertificateURL[0]))
	if err != nil {
		t.Fatal(err)
	}
	issuer := writeFile(t, "issuing.pem", "CERTIFICATE", issuing.Raw)
	list := func(c *x509.Certificate) []byte { return fetch(t, h, c.CRLDistributionPoints[0]) }
	list(bad.Certificate) // one from before the revocation

	h.Hallmark("cert", "revoke", bad.Serial(), "--reason", "keyCompromise")
	number := bad.Certificate.SerialNumber
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		l, err := x509.ParseRevocationList(list(bad.Certificate))
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("the list does not tell of the revocation: %v", err)
		}
		if len(l.RevokedCertificateEntries) == 1 && l.RevokedCertificateEntries[0].SerialNumber.Cmp(number) == 0 && l.RevokedCertificateEntries[0].ReasonCode == 1 {
			break
		}
	}
	rootList := fetch(t, h, issuing.CRLDistributionPoints[0])
	for _, story := range []struct {
		of   *housetest.Identity
		good bool
	}{{good, true}, {bad, false}} {
		der := list(story.of.Certificate)
		crl := writeFile(t, "list.pem", "X509 CRL", der)
		leaf := writeFile(t, "leaf.pem", "CERTIFICATE", story.of.Certificate.Raw)
		if out, ok := tool(t, "openssl", "openssl", "crl", "-in", crl, "-CAfile", issuer, "-noout", "-text"); !ok || !strings.Contains(out, "verify OK") || !strings.Contains(out, story.of.Certificate.CRLDistributionPoints[0]) {
			t.Errorf("openssl crl: %s", out)
		}
		out, ok := tool(t, "openssl", "openssl", "verify", "-crl_check", "-partial_chain", "-trusted", issuer, "-CRLfile", crl, leaf)
		if ok != story.good || !ok && !strings.Contains(out, "certificate revoked") {
			t.Errorf("openssl verify: %s", out)
		}
		both := writeFile(t, "both.pem", "X509 CRL", der, rootList)
		out, ok = tool(t, "openssl", "openssl", "verify", "-crl_check_all", "-CAfile", h.CAFile(), "-untrusted", issuer, "-CRLfile", both, leaf)
		if ok != story.good {
			t.Errorf("openssl verify -crl_check_all: %s", out)
		}
		out, ok = tool(t, "certtool", "gnutls-bin", "--verify-crl", "--load-ca-certificate", issuer, "--infile", crl)
		if !ok || !strings.Contains(out, "Verified") {
			t.Errorf("certtool --verify-crl: %s", out)
		}
		out, ok = tool(t, "certtool", "gnutls-bin", "--verify", "--load-ca-certificate", h.CAFile(), "--load-crl", crl, "--infile",
			writeFile(t, "chain.pem", "CERTIFICATE", story.of.Certificate.Raw, issuing.Raw))
		if strings.Contains(out, "revoked") == story.good || ok != story.good {
			t.Errorf("certtool --verify: %s", out)
		}
		want := ": good"
		if !story.good {
			want = ": revoked"
		}
		for _, more := range [][]string{{"-sha1"}, {"-sha256"}, {"-sha384", "-no_nonce"}} {
			out, ok := tool(t, "openssl", "openssl", append(append([]string{"ocsp", "-issuer", issuer}, more...), "-cert", leaf, "-CAfile", h.CAFile(), "-verify_other", issuer, "-url", h.Status+"/ocsp")...)
			if !ok || !strings.Contains(out, want) || !strings.Contains(out, "verify OK") || !story.good && !strings.Contains(out, "Reason: keyCompromise") {
				t.Errorf("openssl ocsp %v: %s", more, out)
			}
		}
	}
	out, _ := tool(t, "openssl", "openssl", "ocsp", "-issuer", issuer, "-serial", "0x4711", "-CAfile", h.CAFile(), "-verify_other", issuer, "-url", h.Status+"/ocsp")
	if !strings.Contains(out, ": unknown") {
		t.Errorf("openssl ocsp of what was never issued: %s", out)
	}
	if bad.Certificate.OCSPServer[0] != "http://status.example/ocsp" {
		t.Errorf("the certificate names %v", bad.Certificate.OCSPServer)
	}
	for _, name := range []string{"hallmark_revoked_certificates_total{reason=\"keyCompromise\"} 1", "hallmark_crl_overdue 0", "hallmark_crl_entries 1", "hallmark_ocsp_responses_total{answer=\"revoked\"}"} {
		out, err := exec.Command(housetest.Tool(t, "curl", "curl"), "-sS", h.Status+"/metrics").Output()
		if err != nil || !strings.Contains(string(out), name) {
			t.Errorf("the metrics lack %s (%v)", name, err)
		}
	}
	if out := h.Hallmark("cert", "show", bad.Serial()); !strings.Contains(out, "by admin: keyCompromise") {
		t.Errorf("cert show: %s", out)
	}
	if out := h.Hallmark("cert", "list", "--revoked"); !strings.Contains(out, bad.Serial()) || strings.Contains(out, good.Serial()) {
		t.Errorf("cert list --revoked: %s", out)
	}
}

// TestARevokedCertificateOpensNoDoor: neither on a connection that stays open, nor by a session that is resumed, nor anywhere else.
func TestARevokedCertificateOpensNoDoor(t *testing.T) {
	h := ninetyDays(t)
	h.Import("gw-1")
	held, err := housetest.Enrol(h.EST("gw-1", h.Token("--device", "gw-1")))
	if err != nil {
		t.Fatal(err)
	}
	client, config := h.Client()
	config.Certificates, config.ClientSessionCache = []tls.Certificate{*held.TLS()}, tls.NewLRUClientSessionCache(4)
	ask := func(operation string, key crypto.Signer) (*http.Response, string) {
		t.Helper()
		csr, err := (&estclient.Request{Key: key}).DER()
		if err != nil {
			t.Fatal(err)
		}
		body, kind := []byte(base64.StdEncoding.EncodeToString(csr)), "application/pkcs10"
		if operation == "nonce" {
			body, kind = []byte("{}"), "application/est-attestation-freshness+json"
		}
		answer, err := client.Post(h.URL+"/.well-known/est/"+operation, kind, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer, string(text)
	}
	if answer, text := ask("simplereenroll", newKeyOf(t)); answer.StatusCode != 200 {
		t.Fatalf("%d: %s", answer.StatusCode, text)
	}
	h.Hallmark("cert", "revoke", held.Serial(), "--reason", "superseded")
	resumed := false
	for range 2 { // on the connection that is open; then on another that resumes its session
		for _, operation := range []string{"simplereenroll", "simpleenroll", "nonce"} {
			answer, text := ask(operation, newKeyOf(t))
			resumed = resumed || answer.TLS.DidResume
			if answer.StatusCode != 403 || !strings.Contains(text, "certificate_revoked") {
				t.Errorf("%s: %d: %s", operation, answer.StatusCode, text)
			}
		}
		client.CloseIdleConnections()
	}
	if !resumed {
		t.Error("no session was resumed")
	}
	e := refused(t, housetest.RenewWith(h.EST("", ""), held), 403, "certificate_revoked")
	if d := showDecision(t, h, e.Ref); d.Outcome != "refused" {
		t.Errorf("the record says %+v", d)
	}
}

func newKeyOf(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestRevokingADeviceAndAKey: by device all of them, and it is stopped; by key that key for ever. Again is the same.
func TestRevokingADeviceAndAKey(t *testing.T) {
	h := ninetyDays(t)
	h.Import("gw-1", "gw-2")
	client := h.EST("gw-1", h.Token("--device", "gw-1", "--uses", "9"))
	first, err := housetest.Enrol(client)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = housetest.Renew(client, first); err != nil {
		t.Fatal(err)
	}
	var done struct {
		Revoked, Standing []struct{ Serial, Reason string }
		Quarantined       []string
	}
	revoke := func(args ...string) {
		t.Helper()
		done.Revoked, done.Standing, done.Quarantined = nil, nil, nil
		if err := json.Unmarshal([]byte(h.Hallmark(append([]string{"cert", "revoke", "-o", "json"}, args...)...)), &done); err != nil {
			t.Fatal(err)
		}
	}
	revoke("--device", "gw-1", "--reason", "privilegeWithdrawn")
	if len(done.Revoked) != 2 || len(done.Quarantined) != 1 {
		t.Errorf("got %+v", done)
	}
	refused(t, housetest.RenewWith(h.EST("", ""), first), 403, "certificate_revoked")
	refused(t, enrolAgain(client), 403, "device_quarantined")
	revoke("--device", "gw-1", "--reason", "superseded")
	if len(done.Revoked) != 0 || len(done.Standing) != 2 || done.Standing[0].Reason != "privilegeWithdrawn" {
		t.Errorf("got %+v", done)
	}

	key := newKeyOf(t)
	client = h.EST("gw-2", h.Token("--device", "gw-2", "--uses", "9"))
	over, err := housetest.EnrolWithKey(client, key)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(over.Certificate.RawSubjectPublicKeyInfo)
	revoke("--key", hex.EncodeToString(sum[:]), "--reason", "keyCompromise")
	if len(done.Revoked) != 1 || len(done.Quarantined) != 0 {
		t.Errorf("got %+v", done)
	}
	_, err = housetest.EnrolWithKey(client, key)
	refused(t, err, 403, "key_revoked")
	if _, err = housetest.Enrol(client); err != nil {
		t.Errorf("over another key: %v", err)
	}
	for _, args := range [][]string{{"4711", "--reason", "superseded"}, {over.Certificate.SerialNumber.Text(16), "--reason", "certificateHold"},
		{"--device", "nobody", "--reason", "superseded"}, {"--key", "00", "--reason", "superseded"}} {
		if _, errs, code := h.Try(append([]string{"cert", "revoke"}, args...)...); code != 1 {
			t.Errorf("%v: exit %d: %s", args, code, errs)
		}
	}
	for _, args := range [][]string{{}, {"4711"}, {"4711", "--device", "gw-1", "--reason", "superseded"}, {"4711", "--keep-device", "--reason", "superseded"}} {
		if _, errs, code := h.Try(append([]string{"cert", "revoke"}, args...)...); code != 2 {
			t.Errorf("%v: exit %d: %s", args, code, errs)
		}
	}
}

func enrolAgain(client *estclient.Client) error {
	_, err := housetest.Enrol(client)
	return err
}

package housetest_test

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hallmark-pki/hallmark/internal/estclient"
	"github.com/hallmark-pki/hallmark/internal/forge"
	"github.com/hallmark-pki/hallmark/internal/housetest"
)

// oldRules know nothing of TPMs, and say yes to every certificate.
const oldRules = `package hallmark

decision := {"verdict": "allow"} if {
	input.subject.type == "user"
} else := {"verdict": "allow"} if {
	input.action.name in {"certificate.issue", "certificate.renew"}
} else := {"verdict": "deny", "reasons": [{"code": "no_rule", "detail": "no rule allows this"}]}
`

// evidence is a CSR of the forged TPM's key with honest evidence, for the session that it is made in.
func evidence(t testing.TB, s *estclient.Session, f *forge.TPM, ekCerts ...[]byte) (csr, bundle []byte) {
	t.Helper()
	c, err := s.Nonce(t.Context(), estclient.Freshness{AKPublic: f.AK.Area.Bytes(), EKPublic: f.EK.Area.Bytes(), EKCerts: ekCerts})
	if err != nil {
		t.Fatal(err)
	}
	secret, err := f.Activate(c.CredentialBlob, c.EncryptedSecret)
	if err != nil {
		t.Fatal(err)
	}
	b, err := f.Evidence(forge.ExtraData(c.Nonce, secret), c.Bank, c.PCRs)
	if err != nil {
		t.Fatal(err)
	}
	bundle = b.DER()
	if csr, err = (&estclient.Request{Key: f.Key.Private, Attestation: bundle}).DER(); err != nil {
		t.Fatal(err)
	}
	return csr, bundle
}

// TestRulesThatKnowNoTPMs runs a server on a policy directory from before there
// were rules about TPMs: what is dangerous is refused without them.
func TestRulesThatKnowNoTPMs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.MkdirAll(filepath.Join(dir, "policy"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "policy", "hallmark.rego"), []byte(oldRules), 0o600); err != nil {
		t.Fatal(err)
	}
	h := housetest.StartIn(t, dir, "--rate-limits=off")
	maker, err := forge.NewAuthority("A maker")
	if err != nil {
		t.Fatal(err)
	}
	f := newForge(t, "p256", "p256")
	certificate, err := maker.EK(f, forge.Model{Manufacturer: "id:46524745", Model: "forge", Version: "id:1"})
	if err != nil {
		t.Fatal(err)
	}
	h.Import("gw-1")
	client := h.EST("gw-1", h.Token("--device", "gw-1", "--uses", "9"))
	enrol := func(attested bool) (*x509.Certificate, error) {
		session, err := client.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer session.Close()
		csr, err := (&estclient.Request{Key: f.Key.Private}).DER()
		if err != nil {
			t.Fatal(err)
		}
		if attested {
			csr, _ = evidence(t, session, f, certificate)
		}
		return session.Enroll(t.Context(), csr)
	}
	_, err = enrol(true)
	saysNo(t, "a TPM of an unknown maker", err, "ek_untrusted")

	h.Hallmark("anchor", "add", "--profile", "device", "--kind", "ek", writePEM(t, maker.Certificate))
	issued, err := enrol(true)
	if err != nil {
		t.Fatalf("%v\n%s", err, h.Log())
	}
	_, err = enrol(false)
	saysNo(t, "no evidence after there was some", err, "downgrade")

	client.User, client.Password = "", ""
	client.Certificate = &tls.Certificate{Certificate: [][]byte{issued.Raw}, PrivateKey: f.Key.Private}
	_, err = housetest.Renew(client, &housetest.Identity{Certificate: issued, Key: f.Key.Private})
	saysNo(t, "a renewal with another key and no evidence", err, "downgrade")

	session, err := client.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	_, bundle := evidence(t, session, f, certificate)
	_, err = session.Attest(t.Context(), bundle)
	saysNo(t, "evidence between renewals", err, "no_rule")

	status, answer := ask(t, h, "/attestation/attest", introduce(t, f, certificate))
	if status != 200 {
		t.Fatalf("%d %v", status, answer)
	}
	status, answer = ask(t, h, "/attestation/secret", map[string]any{"secret": open(t, f, answer)})
	refusedAs(t, "a certificate of the attestation key", status, answer, 403, "no_rule")
}

func saysNo(t testing.TB, what string, err error, code string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), "403 "+code) {
		t.Errorf("%s: got %v, want 403 %s", what, err, code)
	}
}

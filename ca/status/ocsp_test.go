package status_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/ca/status"
)

// desk is an issuer, its responder, and a directory with what openssl needs.
type desk struct {
	dir       string
	issuing   *x509.Certificate
	responder *status.Responder
}

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newDesk(t testing.TB) *desk {
	t.Helper()
	now := time.Now()
	f := ca.Founding{Name: "Example", Hosts: []string{"ca.example"}, Now: now,
		RootKey: newKey(t), IssuingKey: newKey(t), OperatorCAKey: newKey(t), ServerKey: newKey(t).Public(), AdminKey: newKey(t).Public()}
	h, err := ca.Found(f)
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := ca.NewLocal(f.IssuingKey, []*x509.Certificate{h.Issuing, h.Root})
	if err != nil {
		t.Fatal(err)
	}
	key := newKey(t)
	certificate, err := issuer.Responder(key.Public(), now)
	if err != nil {
		t.Fatal(err)
	}
	responder, err := status.NewResponder(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{dir: t.TempDir(), issuing: h.Issuing, responder: responder}
	for name, c := range map[string]*x509.Certificate{"issuing.pem": h.Issuing, "root.pem": h.Root} {
		block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
		if err := os.WriteFile(filepath.Join(d.dir, name), block, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// openssl runs it in the desk's directory.
func (d *desk) openssl(t testing.TB, args ...string) string {
	t.Helper()
	cmd := exec.Command("openssl", args...)
	cmd.Dir = d.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestOpenSSLAsks: OpenSSL asks about three certificates by both hashes, and
// understands and verifies the answer.
func TestOpenSSLAsks(t *testing.T) {
	d := newDesk(t)
	for _, hash := range []string{"sha1", "sha256", "sha384"} {
		d.openssl(t, "ocsp", "-issuer", "issuing.pem", "-"+hash, "-serial", "0x81", "-"+hash, "-serial", "0x1234", "-"+hash, "-serial", "0x77", "-reqout", "request.der")
		der, err := os.ReadFile(filepath.Join(d.dir, "request.der"))
		if err != nil {
			t.Fatal(err)
		}
		request, err := status.ParseRequest(der)
		if err != nil {
			t.Fatal(err)
		}
		if len(request.Asked) != 3 || request.Asked[0].Serial != "\x81" || request.Asked[1].Serial != "\x12\x34" || request.Nonce == nil {
			t.Fatalf("%s: read %+v", hash, request)
		}
		now := time.Now()
		revoked := now.Add(-time.Hour).Truncate(time.Second)
		answer, err := d.responder.Sign(&status.Answer{Asked: request.Asked, Nonce: request.Nonce,
			ProducedAt: now, ThisUpdate: now, NextUpdate: now.Add(time.Hour),
			Standings: []status.Standing{{}, {Verdict: status.Revoked, At: revoked, Reason: ca.KeyCompromise}, {Verdict: status.Unknown}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d.dir, "answer.der"), answer, 0o600); err != nil {
			t.Fatal(err)
		}
		verified := []string{"ocsp", "-issuer", "issuing.pem", "-CAfile", "root.pem", "-verify_other", "issuing.pem", "-respin", "answer.der"}
		d.openssl(t, append(verified, "-reqin", "request.der")...) // the nonce, too
		out := d.openssl(t, append(verified, "-no_nonce", "-text", "-"+hash, "-serial", "0x81", "-"+hash, "-serial", "0x1234", "-"+hash, "-serial", "0x77")...)
		for _, want := range []string{"Response verify OK", "0x81: good", "0x1234: revoked", "Reason: keyCompromise", "0x77: unknown", "Nonce"} {
			if !strings.Contains(out, want) {
				t.Errorf("%s: openssl does not say %q:\n%s", hash, want, out)
			}
		}
	}
}

// TestGoAsks: another implementation asks, and agrees.
func TestGoAsks(t *testing.T) {
	d := newDesk(t)
	asked := &x509.Certificate{SerialNumber: big.NewInt(0x1234)}
	der, err := ocsp.CreateRequest(asked, d.issuing, &ocsp.RequestOptions{Hash: crypto.SHA256})
	if err != nil {
		t.Fatal(err)
	}
	request, err := status.ParseRequest(der)
	if err != nil || len(request.Asked) != 1 || request.Nonce != nil {
		t.Fatalf("read %+v, %v", request, err)
	}
	now := time.Now().UTC().Truncate(time.Second)
	der, err = d.responder.Sign(&status.Answer{Asked: request.Asked, Standings: []status.Standing{{Verdict: status.Revoked, At: now.Add(-time.Minute), Reason: ca.Unspecified}},
		ProducedAt: now, ThisUpdate: now, NextUpdate: now.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := ocsp.ParseResponse(der, d.issuing)
	if err != nil {
		t.Fatal(err)
	}
	if answer.Status != ocsp.Revoked || answer.RevocationReason != 0 || !answer.RevokedAt.Equal(now.Add(-time.Minute)) ||
		!answer.ThisUpdate.Equal(now) || !answer.NextUpdate.Equal(now.Add(time.Hour)) || answer.SerialNumber.Int64() != 0x1234 {
		t.Errorf("read %+v", answer)
	}
	if _, err := ocsp.ParseResponse(status.TryLater.Response(), d.issuing); err != ocsp.ResponseError(ocsp.ResponseError{Status: ocsp.TryLater}) {
		t.Errorf("a failure was read as %v", err)
	}
}

// FuzzParseRequest: whatever comes, it is read or refused, and what was read can be answered.
func FuzzParseRequest(f *testing.F) {
	d := newDesk(f)
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
		der, err := ocsp.CreateRequest(&x509.Certificate{SerialNumber: big.NewInt(5)}, d.issuing, &ocsp.RequestOptions{Hash: hash})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der)
	}
	f.Add([]byte{0x30, 0})
	now := time.Now()
	f.Fuzz(func(t *testing.T, der []byte) {
		request, err := status.ParseRequest(der)
		if err != nil {
			return
		}
		answer, err := d.responder.Sign(&status.Answer{Asked: request.Asked, Standings: make([]status.Standing, len(request.Asked)),
			Nonce: request.Nonce, ProducedAt: now, ThisUpdate: now, NextUpdate: now.Add(time.Hour)})
		if err != nil || !bytes.Contains(answer, request.Nonce) {
			t.Fatalf("what was read could not be answered: %v", err)
		}
	})
}

// BenchmarkSign is an answer signed on demand.
func BenchmarkSign(b *testing.B) {
	d := newDesk(b)
	der, err := ocsp.CreateRequest(&x509.Certificate{SerialNumber: big.NewInt(5)}, d.issuing, nil)
	if err != nil {
		b.Fatal(err)
	}
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		request, err := status.ParseRequest(der)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := d.responder.Sign(&status.Answer{Asked: request.Asked, Standings: make([]status.Standing, 1),
			ProducedAt: now, ThisUpdate: now, NextUpdate: now.Add(time.Hour)}); err != nil {
			b.Fatal(err)
		}
	}
}

package estclient_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"os/exec"
	"strings"
	"testing"

	"github.com/hallmark-pki/hallmark/internal/estclient"
)

// Requests of every kind of key are what crypto/x509 and OpenSSL take for
// requests, signature included.
func TestRequest(t *testing.T) {
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	rsaKey, _ := rsa.GenerateKey(rand.Reader, 2048)
	subject, _ := base64.StdEncoding.DecodeString("MCgxFjAUBgNVBAoMDUV4YW1wbGUgRmxlZXQxDjAMBgNVBAUTBWRldi0x")
	for name, key := range map[string]crypto.Signer{"P-256": p256, "P-384": p384, "Ed25519": ed, "RSA": rsaKey} {
		for _, r := range []estclient.Request{{Key: key}, {Key: key, Subject: subject, Challenge: "QUFBQQ=="},
			{Key: key, Subject: subject, Challenge: "QUFBQQ==", Attestation: []byte{0x30, 2, 5, 0}}} {
			der, err := r.DER()
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			request, err := x509.ParseCertificateRequest(der)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if err := request.CheckSignature(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if want := map[bool]string{false: "", true: "dev-1"}[r.Subject != nil]; request.Subject.SerialNumber != want {
				t.Errorf("%s: subject %s", name, request.Subject)
			}
			openssl := exec.Command("openssl", "req", "-inform", "DER", "-verify", "-noout", "-text")
			openssl.Stdin = strings.NewReader(string(der))
			out, err := openssl.CombinedOutput()
			if err != nil || strings.Contains(string(out), "QUFBQQ==") != (r.Challenge != "") ||
				strings.Contains(string(out), "1.2.840.113549.1.9.16.2.59") != (r.Attestation != nil) {
				t.Errorf("%s: openssl: %v\n%s", name, err, out)
			}
		}
	}
}

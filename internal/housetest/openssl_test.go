package housetest_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hallmark-pki/hallmark/internal/housetest"
)

const longLived = `profiles:
  device: {}
  long:
    lifetime: 30d
    organization: Example Fleet
    common_name: true
    hardware_module: 1.3.6.1.4.1.99999.1
`

// openssl verify -x509_strict accepts every certificate, of each key type and
// of profiles with and without revocation.
func TestOpenSSLAcceptsEveryCertificate(t *testing.T) {
	openssl := housetest.Tool(t, "openssl", "openssl")
	dir := configured(t, longLived)
	h := housetest.StartIn(t, dir)
	h.Import("gw-1")
	token := h.Token("--uses", "100")
	for name, key := range keysOfEachType(t) {
		for _, profile := range []string{"", "long"} {
			t.Run(name+" "+profile, func(t *testing.T) {
				client := h.EST("gw-1", token)
				client.Label = profile
				got, err := housetest.EnrolWithKey(client, key)
				if err != nil {
					t.Fatal(err)
				}
				file := filepath.Join(t.TempDir(), "cert.pem")
				text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: got.Certificate.Raw})
				if err := os.WriteFile(file, text, 0o600); err != nil {
					t.Fatal(err)
				}
				out, err := exec.Command(openssl, "verify", "-x509_strict", "-purpose", "sslclient",
					"-CAfile", h.CAFile(), "-untrusted", filepath.Join(h.Dir, "ca", "issuing.crt"), file).CombinedOutput()
				if err != nil {
					t.Errorf("openssl verify: %v\n%s", err, out)
				}
				out, err = exec.Command(openssl, "x509", "-in", file, "-noout", "-text").CombinedOutput()
				if err != nil {
					t.Fatalf("openssl x509: %v\n%s", err, out)
				}
				pointer := strings.Contains(string(out), "CRL Distribution Points")
				if short := strings.Contains(string(out), "No Revocation Available"); short == pointer || pointer != (profile == "long") {
					t.Errorf("noRevAvail or a CRL pointer, and one of them:\n%s", out)
				}
			})
		}
	}
}

func keysOfEachType(t *testing.T) map[string]crypto.Signer {
	t.Helper()
	p256, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, err2 := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	_, ed, err3 := ed25519.GenerateKey(rand.Reader)
	rsa2048, err4 := rsa.GenerateKey(rand.Reader, 2048)
	for _, err := range []error{err1, err2, err3, err4} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return map[string]crypto.Signer{"P-256": p256, "P-384": p384, "Ed25519": ed, "RSA": rsa2048}
}

// configured returns a data directory that holds nothing but a configuration.
func configured(t *testing.T, yaml string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

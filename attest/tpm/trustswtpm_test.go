package tpm

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/attest"
)

// manufacture makes a software TPM with swtpm's tools, and returns the authority's
// certificates and the endorsement key certificates as they stand in the TPM: RSA, and ECC.
func manufacture(t *testing.T) (root, issuer *x509.Certificate, rsa, ecc []byte) {
	t.Helper()
	dir := t.TempDir()
	ca, state := filepath.Join(dir, "ca"), filepath.Join(dir, "tpm")
	localca, setup := filepath.Join(dir, "localca.conf"), filepath.Join(dir, "setup.conf")
	for path, content := range map[string]string{
		localca: fmt.Sprintf("statedir = %[1]s\nsigningkey = %[1]s/signkey.pem\nissuercert = %[1]s/issuercert.pem\ncertserial = %[1]s/certserial\n", ca),
		setup:   fmt.Sprintf("create_certs_tool = /usr/bin/swtpm_localca\ncreate_certs_tool_config = %s\ncreate_certs_tool_options = /etc/swtpm-localca.options\n", localca),
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{ca, state} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.CommandContext(t.Context(), "swtpm_setup", "--tpm2", "--tpm-state", state, "--create-ek-cert", "--config", setup, "--write-ek-cert-files", dir)
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("swtpm_setup (Debian: swtpm-tools): %v\n%s", err, out)
	}
	read := func(pattern string) []byte {
		t.Helper()
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(found) != 1 {
			t.Fatal(pattern, found, err)
		}
		content, err := os.ReadFile(found[0])
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	certificate := func(pattern string) *x509.Certificate {
		t.Helper()
		_, text, _ := bytes.Cut(read(pattern), []byte("-----BEGIN")) // certtool writes prose before it
		block, _ := pem.Decode(append([]byte("-----BEGIN"), text...))
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	return certificate("ca/swtpm-localca-rootca-cert.pem"), certificate("ca/issuercert.pem"), read("ek-rsa*.crt"), read("ek-secp*.crt")
}

func TestEndorsementKeysOfSoftwareTPMs(t *testing.T) {
	root, issuer, rsaCert, eccCert := manufacture(t)
	at := time.Now().Add(time.Minute)
	for name, der := range map[string][]byte{"RSA": rsaCert, "ECC": eccCert} {
		leaf, err := parseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		padded := append(bytes.Clone(der), bytes.Repeat([]byte{0xff}, 100)...)
		ek, reasons, _, err := trusting(ekAnchors, root).EK(t.Context(), "factory", leaf.PublicKey, [][]byte{padded, issuer.Raw}, at)
		if err != nil || !ek.Trusted || len(reasons) > 0 || ek.Anchor != digestOf(root.Raw) {
			t.Errorf("%s: %+v, %v, %v", name, ek, reasons, err)
		}
		if ek.Manufacturer != "id:00001014" || ek.Model != "swtpm" || ek.Version == "" {
			t.Errorf("%s: names %q %q %q", name, ek.Manufacturer, ek.Model, ek.Version)
		}
		ek, reasons, _, err = trusting(ekAnchors).EK(t.Context(), "factory", leaf.PublicKey, [][]byte{padded, issuer.Raw}, at)
		if err != nil || ek.Trusted || len(reasons) != 1 || reasons[0] != attest.EKUntrusted {
			t.Errorf("%s from an unknown maker: %+v, %v, %v", name, ek, reasons, err)
		}
	}
}

func BenchmarkEK(b *testing.B) {
	s, public := newShop(b, "Maker"), rsaKey(b).Public()
	trust := trusting(ekAnchors, s.root)
	leaf := s.ek(public, nil)
	b.Run("known", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if ek, _, _, err := trust.EK(b.Context(), "factory", public, [][]byte{leaf, s.intermediate.Raw}, noon); err != nil || !ek.Trusted {
				b.Fatal(err)
			}
		}
	})
	b.Run("unknown", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if ek, _, _, err := trusting(ekAnchors, s.root).EK(b.Context(), "factory", public, [][]byte{leaf, s.intermediate.Raw}, noon); err != nil || !ek.Trusted {
				b.Fatal(err)
			}
		}
	})
}

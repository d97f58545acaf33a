package tpm

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// realCertificate reads a certificate from a module's test data, PEM or DER.
func realCertificate(t *testing.T, path ...string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	if block, _ := pem.Decode(content); block != nil {
		return block.Bytes
	}
	return content
}

// The endorsement keys of Google's virtual TPMs, of both kinds that they have had.
func TestEndorsementKeysOfGoogle(t *testing.T) {
	dir := moduleDir(t, "github.com/google/go-tpm-tools")
	root, err := x509.ParseCertificate(realCertificate(t, dir, "server/ca-certs/tpm_ek_root_1.cer"))
	if err != nil {
		t.Fatal(err)
	}
	newer, err := x509.ParseCertificate(realCertificate(t, dir, "server/ca-certs/gcp_ek_ak_ca_root.crt"))
	if err != nil {
		t.Fatal(err)
	}
	trust := trusting(ekAnchors, root, newer)
	for name, authority := range map[string]string{
		"uca_tpm_rsa_enc_cert.pem": "tpm_ek_intermediate_3.crt", "uca_tpm_ecc_enc_cert.pem": "tpm_ek_intermediate_3.crt",
		"pca_tpm_rsa_enc_cert.pem": "gcp_ek_ak_ca_intermediate_v3.crt", "pca_tpm_ecc_enc_cert.pem": "gcp_ek_ak_ca_intermediate_v3.crt",
	} {
		der := realCertificate(t, dir, "internal/test/certificates", name)
		leaf, err := parseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		ek, _, _, err := trust.EK(t.Context(), "factory", leaf.PublicKey, [][]byte{der, realCertificate(t, dir, "server/ca-certs", authority)}, noon)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		says := strings.HasPrefix(name, "uca_") // the newer ones say of nothing that they are of a TPM
		if ek.Trusted != says || says && (ek.Manufacturer != "id:474F4F47" || ek.Model != "vTPM") || !says && !strings.Contains(ek.Untrusted, "does not say") {
			t.Errorf("%s: %+v", name, ek)
		}
	}
	// Those of the same TPMs' signing keys are none of endorsement keys.
	for _, name := range []string{"uca_tpm_rsa_sign_cert.pem", "uca_tpm_ecc_sign_cert.pem", "pca_tpm_rsa_sign_cert.pem", "pca_tpm_ecc_sign_cert.pem"} {
		der := realCertificate(t, dir, "internal/test/certificates", name)
		leaf, err := parseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if ek, _, _, err := trust.EK(t.Context(), "factory", leaf.PublicKey, [][]byte{der}, noon); ek.Trusted || code(err) != "malformed_evidence" {
			t.Errorf("%s: %+v, %v", name, ek, err)
		}
	}
}

// An endorsement key of a 2015 Intel processor: its maker names no root of the bundle.
func TestAnEndorsementKeyOfIntel(t *testing.T) {
	source, err := os.ReadFile(filepath.Join(moduleDir(t, "go.step.sm/crypto"), "tpm/ek_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`"certificate":"([^"]+)"`).FindSubmatch(source)
	if found == nil {
		t.Fatal("the certificate has moved")
	}
	text, err := url.PathUnescape(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	der, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := parseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	ek, reasons, _, err := trusting(ekAnchors).EK(t.Context(), "factory", leaf.PublicKey, [][]byte{der}, noon)
	if err != nil || ek.Trusted || len(reasons) != 1 || ek.Manufacturer != "id:494E5443" || ek.Model != "SPT" || ek.Version != "id:00020000" ||
		!strings.Contains(ek.Untrusted, "SPTH_EPID_PROD") {
		t.Errorf("%+v, %v, %v", ek, reasons, err)
	}
}

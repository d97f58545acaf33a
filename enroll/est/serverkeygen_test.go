package est

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/hallmark-pki/hallmark/ca"
)

// requestInfo is a CertificationRequestInfo with these attributes, each with an
// OCTET STRING for its value.
func requestInfo(kinds ...asn1.ObjectIdentifier) *x509.CertificateRequest {
	var b cryptobyte.Builder
	empty := func(*cryptobyte.Builder) {}
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(0)
		b.AddASN1(casn1.SEQUENCE, empty)
		b.AddASN1(casn1.SEQUENCE, empty)
		b.AddASN1(casn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			for _, kind := range kinds {
				addAttribute(b, kind, func(b *cryptobyte.Builder) { b.AddASN1OctetString([]byte("key-1")) })
			}
		})
	})
	return &x509.CertificateRequest{RawTBSCertificateRequest: b.BytesOrPanic()}
}

// A key is never sent bare to a client that asked for it to be encrypted.
func TestWantsEncryptedKey(t *testing.T) {
	for name, c := range map[string]struct {
		kinds []asn1.ObjectIdentifier
		want  bool
	}{
		"nothing":    {nil, false},
		"others":     {[]asn1.ObjectIdentifier{oidChallengePassword, oidExtensionRequest}, false},
		"symmetric":  {[]asn1.ObjectIdentifier{oidChallengePassword, oidDecryptKeyID}, true},
		"asymmetric": {[]asn1.ObjectIdentifier{oidAsymmetricDecryptKeyID, oidExtensionRequest}, true},
	} {
		if got := wantsEncryptedKey(&ca.CSR{Request: requestInfo(c.kinds...)}); got != c.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestAEAD(t *testing.T) {
	for _, suite := range tls.CipherSuites() {
		for _, version := range suite.SupportedVersions {
			state := &tls.ConnectionState{Version: version, CipherSuite: suite.ID}
			cbc := suite.ID == tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA || suite.ID == tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA ||
				suite.ID == tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA || suite.ID == tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA
			if got, want := aead(state), !cbc && version >= tls.VersionTLS12; got != want {
				t.Errorf("%s in %s: got %v", suite.Name, tls.VersionName(version), got)
			}
		}
	}
	for _, suite := range tls.InsecureCipherSuites() {
		if name := suite.Name; aead(&tls.ConnectionState{Version: tls.VersionTLS12, CipherSuite: suite.ID}) &&
			name != "TLS_RSA_WITH_AES_128_GCM_SHA256" && name != "TLS_RSA_WITH_AES_256_GCM_SHA384" {
			t.Errorf("%s is taken for authenticated encryption", name)
		}
	}
}

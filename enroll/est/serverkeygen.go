package est

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/enroll"
	"github.com/hallmark-pki/hallmark/internal/cms"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Attributes by which a CSR asks for the key to be encrypted beyond TLS (RFC
// 7030, Sections 4.4.1.1 and 4.4.1.2).
var (
	oidDecryptKeyID           = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 37}
	oidAsymmetricDecryptKeyID = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 54}
)

// serverKeygen makes a key for the device and certifies it (RFC 7030, Section
// 4.4). It is there only where a profile switches it on: a private key that
// travels is a private key less private. The key is kept nowhere.
func (d *Door) serverKeygen(c *call) error {
	if !c.profile.ServerKeygen {
		return fault.New(fault.NotFound, "serverkeygen_off", "this profile makes no keys for devices; send a CSR over the device's own key to simpleenroll")
	}
	// RFC 7030, Section 4.4: the connection must keep the key as secret as the key deserves.
	if !aead(c.r.TLS) {
		return fault.New(fault.Malformed, "cipher_weak", "a private key is sent only under an AEAD cipher suite")
	}
	request, err := d.request(c, enroll.ServerKeygen)
	if err != nil {
		return err
	}
	if wantsEncryptedKey(request.CSR) {
		return fault.New(fault.Malformed, "key_encryption", "keys are encrypted by TLS alone here; leave DecryptKeyIdentifier out of the CSR")
	}
	certificate, key, err := d.Enroller.ServerKeygen(c.r.Context(), request)
	if err != nil {
		return err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encoding a generated key: %w", err)
	}
	defer clear(pkcs8)
	certsOnly, err := cms.CertsOnly(certificate.DER)
	if err != nil {
		return err
	}
	d.issued(c, certificate)
	boundary, body := c.keyAndCertificate(pkcs8, certsOnly)
	defer clear(body)
	c.w.Header().Set("Cache-Control", "no-store")
	c.write(200, "multipart/mixed; boundary="+boundary, body)
	return nil
}

// aead reports whether the connection's cipher suite is authenticated
// encryption. All of TLS 1.3's are.
func aead(state *tls.ConnectionState) bool {
	name := tls.CipherSuiteName(state.CipherSuite)
	return state.Version >= tls.VersionTLS13 ||
		state.Version == tls.VersionTLS12 && (strings.Contains(name, "_GCM_") || strings.Contains(name, "_CHACHA20_POLY1305"))
}

// wantsEncryptedKey reports whether the CSR asks for more protection than TLS.
// A server that cannot give it refuses (RFC 7030, Sections 4.4.1.1 and
// 4.4.1.2): sending the key bare instead would betray the client.
func wantsEncryptedKey(csr *ca.CSR) bool {
	return hasAttribute(csr.Request, oidDecryptKeyID) || hasAttribute(csr.Request, oidAsymmetricDecryptKeyID)
}

// hasAttribute looks for an attribute in what was signed. The parsed form will
// not do: crypto/x509 leaves out attributes whose values are not names.
func hasAttribute(request *x509.CertificateRequest, wanted asn1.ObjectIdentifier) bool {
	input := cryptobyte.String(request.RawTBSCertificateRequest)
	var info, attributes, one cryptobyte.String
	if !input.ReadASN1(&info, casn1.SEQUENCE) || !info.SkipASN1(casn1.INTEGER) || !info.SkipASN1(casn1.SEQUENCE) ||
		!info.SkipASN1(casn1.SEQUENCE) || !info.ReadASN1(&attributes, casn1.Tag(0).ContextSpecific().Constructed()) {
		return false
	}
	for attributes.ReadASN1(&one, casn1.SEQUENCE) {
		var kind asn1.ObjectIdentifier
		if one.ReadASN1ObjectIdentifier(&kind) && kind.Equal(wanted) {
			return true
		}
	}
	return false
}

// keyAndCertificate is the multipart body of RFC 7030, Section 4.4.2: the key
// first, then the certificate, each in base64.
func (c *call) keyAndCertificate(pkcs8, certsOnly []byte) (boundary string, body []byte) {
	var random [16]byte
	rand.Read(random[:])
	boundary = "est-" + hex.EncodeToString(random[:])
	var b bytes.Buffer
	for _, part := range []struct {
		kind string
		der  []byte
	}{{typePKCS8, pkcs8}, {typeCert, certsOnly}} {
		fmt.Fprintf(&b, "--%s\r\nContent-Type: %s\r\nContent-Transfer-Encoding: base64\r\n\r\n", boundary, part.kind)
		text := encodeBody(part.der, c.wrapped())
		b.Write(text)
		clear(text)
		b.WriteString("\r\n")
	}
	fmt.Fprintf(&b, "--%s--\r\n", boundary)
	return boundary, b.Bytes()
}

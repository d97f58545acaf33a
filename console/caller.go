package console

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"slices"

	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// operator is a caller who has proved who they are. Only authenticate makes one.
type operator struct {
	name       string
	certSHA256 string // lower-case hex
}

// longestName bounds an operator's name, as X.520 bounds a common name (ub-common-name).
const longestName = 64

// longestChain bounds the certificates that a caller presents.
const longestChain = 5

// authenticate names the operator behind a connection. The TLS layer has seen
// proof of the private key, on this connection or the one that it resumes. What
// the certificate is worth is found out here, on every request, so that no
// connection outlives it.
func (c *Console) authenticate(state *tls.ConnectionState) (operator, error) {
	if state == nil || len(state.PeerCertificates) == 0 {
		return operator{}, fault.New(fault.Unauthenticated, "no_operator_certificate",
			"this API is for operators: present an operator certificate in the TLS handshake")
	}
	leaf := state.PeerCertificates[0]
	if len(state.PeerCertificates) > longestChain { // every link may cost a signature check
		return operator{}, fault.New(fault.Unauthenticated, "not_an_operator", "the certificate chain presented is too long")
	}
	between := x509.NewCertPool()
	for _, cert := range state.PeerCertificates[1:] {
		between.AddCert(cert)
	}
	// Only the operators' own authority is a root here: a device certificate or a
	// factory certificate has no path to it, whatever its names are.
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots:         c.Operators,
		Intermediates: between,
		CurrentTime:   c.Now(),
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return operator{}, fault.Wrap(fault.Unauthenticated, "not_an_operator",
			"the certificate presented is not a valid operator certificate of this server", err)
	}
	// Verify takes a certificate without the extension as good for every use.
	if !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth) || leaf.IsCA {
		return operator{}, fault.New(fault.Unauthenticated, "not_an_operator",
			"the certificate presented is not one for client authentication")
	}
	name := leaf.Subject.CommonName
	if name == "" || checkText("name", name, longestName) != nil {
		return operator{}, fault.New(fault.Unauthenticated, "not_an_operator",
			"the certificate presented does not name an operator in its common name")
	}
	sum := sha256.Sum256(leaf.Raw)
	return operator{name: name, certSHA256: hex.EncodeToString(sum[:])}, nil
}

// subject is the operator as policy sees them.
func (o operator) subject() policy.Entity {
	return policy.Entity{Type: "user", ID: o.name, Properties: policy.Properties{
		"auth": map[string]any{"method": "mtls", "cert_sha256": o.certSHA256},
	}}
}

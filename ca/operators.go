package ca

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"time"

	"github.com/hallmark-pki/hallmark/internal/fault"
)

// Operators certifies people. Its certificate is a root of its own (see Founded.OperatorCA).
type Operators struct {
	certificate *x509.Certificate
	signer      crypto.Signer
}

// NewOperators returns the operators' authority. Without a signer it certifies nobody.
func NewOperators(certificate *x509.Certificate, signer crypto.Signer) (*Operators, error) {
	if err := checkChain([]*x509.Certificate{certificate}); err != nil {
		return nil, err
	}
	if signer != nil && !sameKey(signer.Public(), certificate.PublicKey) {
		return nil, fmt.Errorf("the operators' key does not belong to the certificate of %q", certificate.Subject)
	}
	return &Operators{certificate: certificate, signer: signer}, nil
}

// Certify returns a client certificate for the operator of that name, good for 90 days.
func (o *Operators) Certify(name string, pub crypto.PublicKey, now time.Time) (*x509.Certificate, error) {
	if o.signer == nil {
		return nil, fmt.Errorf("the operators' key is not here")
	}
	if name == "" || len(name) > ubName || checkName(name) != nil {
		return nil, fault.New(fault.Malformed, "bad_name", fmt.Sprintf("an operator's name has 1 to %d characters and no control characters", ubName))
	}
	t := &x509.Certificate{
		Subject:   pkix.Name{Organization: o.certificate.Subject.Organization, CommonName: name},
		NotBefore: now.Add(-foundingSlow), NotAfter: now.Add(operatorLife),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	return certify(t, o.certificate, pub, o.signer)
}

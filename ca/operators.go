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

// operatorSlow is how far an operator's notBefore lies back, for the clocks of replicas.
const operatorSlow = time.Minute

// Certify returns a client certificate for the operator of that name. All in
// all it is valid for life, of which a minute is over already.
func (o *Operators) Certify(name string, pub crypto.PublicKey, life time.Duration, now time.Time) (*x509.Certificate, error) {
	if o.signer == nil {
		return nil, fault.New(fault.Conflict, "operator_key_absent", "this server does not hold the key that certifies operators")
	}
	if name == "" || len(name) > ubName || checkName(name) != nil {
		return nil, fault.New(fault.Malformed, "bad_name", fmt.Sprintf("an operator's name has 1 to %d characters and no control characters", ubName))
	}
	t := &x509.Certificate{
		Subject:   pkix.Name{Organization: o.certificate.Subject.Organization, CommonName: name},
		NotBefore: now.Add(-operatorSlow), NotAfter: now.Add(life - operatorSlow),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	return certify(t, o.certificate, pub, o.signer)
}

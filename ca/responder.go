package ca

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"time"
)

// responderLife is short because the certificate cannot be revoked: it says so itself.
const responderLife = 14 * 24 * time.Hour

// oidNoCheck is id-pkix-ocsp-nocheck; its value is NULL (RFC 6960, Section 4.2.2.2.1).
var oidNoCheck = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}

// Responder returns a certificate for a key that answers OCSP requests in the
// issuer's name (RFC 6960, Section 4.2.2.2), good for 14 days.
func (l *Local) Responder(pub crypto.PublicKey, now time.Time) (*x509.Certificate, error) {
	issuer := l.chain[0]
	return certify(&x509.Certificate{
		Subject:   pkix.Name{Organization: issuer.Subject.Organization, CommonName: issuer.Subject.CommonName + " OCSP Responder"},
		NotBefore: later(now.Add(-foundingSlow), issuer.NotBefore), NotAfter: now.Add(responderLife),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
		ExtraExtensions:       []pkix.Extension{{Id: oidNoCheck, Value: []byte{5, 0}}},
	}, issuer, pub, l.signer)
}

// ResponderDue reports whether a responder's certificate should be replaced:
// half of its life is over, which leaves answers signed with it time to be kept.
func ResponderDue(c *x509.Certificate, now time.Time) bool {
	return c.NotAfter.Sub(now) < c.NotAfter.Sub(c.NotBefore)/2
}

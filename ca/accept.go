package ca

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"
)

// accept reads a certificate back, with another parser than wrote it, and
// holds every field against what was granted. It trusts no issuer, our own
// neither: a wrong certificate must not leave the house.
func (a *Authority) accept(der []byte, f *Draft) (*x509.Certificate, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("the certificate does not parse: %w", err)
	}
	if err := f.matches(c); err != nil {
		return nil, err
	}
	if !bytes.Equal(c.RawTBSCertificate, f.TBS) { // not the bytes that were linted: another authority wrote them
		if _, err := a.lint.examineDER(der); err != nil {
			return nil, err
		}
	}
	if !a.due(a.signed.Add(1)) {
		return c, nil
	}
	issuer := f.profile.issuer
	if err := issuer.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature); err != nil {
		return nil, fmt.Errorf("the certificate's signature does not verify with the issuer's key: %w", err)
	}
	return c, nil
}

// sample is how many signatures of a key in our own memory pass for one that is verified.
const sample = 64

// due reports whether the nth signature is to be verified. One that came from
// elsewhere, over a wire or from an upstream authority, always is. A key in our
// own memory signs in this very process: its first signature and every 64th
// after show that it works, which is what there is to find out. A wrong one
// harms nobody but the device that is handed it, and it will ask again.
func (a *Authority) due(n uint64) bool {
	local, ok := a.issuer.(*Local)
	return !ok || !local.inMemory() || n%sample == 1
}

// matches holds the certificate against the draft, one reason a line.
func (f *Draft) matches(c *x509.Certificate) error {
	issuer := f.profile.issuer
	serial := c.SerialNumber
	switch {
	case c.Version != 3:
		return errors.New("the certificate is not of version 3")
	case serial.Sign() <= 0 || serial.BitLen() > 159 || serial.BitLen() < 64:
		// RFC 5280, Section 4.1.2.2. An upstream authority chooses its own; ours has 128 bits,
		// and one in 2^64 of them is refused here for being too small.
		return errors.New("the serial number is not a positive number of 64 to 159 bits")
	case !bytes.Equal(c.RawIssuer, issuer.RawSubject) || !bytes.Equal(c.AuthorityKeyId, issuer.SubjectKeyId):
		return errors.New("the certificate is not issued in the issuer's name and key identifier")
	case !bytes.Equal(c.RawSubject, f.names.subject):
		return errors.New("the subject is not the one granted")
	case !bytes.Equal(c.RawSubjectPublicKeyInfo, f.CSR.SPKI):
		return errors.New("the key is not the one in the request")
	case c.NotBefore.Before(f.NotBefore) || c.NotBefore.After(f.NotBefore.Add(f.profile.Backdate+time.Minute)):
		return errors.New("the certificate begins at another time than granted")
	case c.NotAfter.After(f.NotAfter) || c.NotAfter.Before(f.NotAfter.Add(-time.Minute)):
		return errors.New("the certificate ends at another time than granted")
	}
	return f.matchesExtensions(c)
}

// matchesExtensions holds what the extensions mean against the profile, and
// wants no extension beside those of the draft.
func (f *Draft) matchesExtensions(c *x509.Certificate) error {
	m := f.profile
	usages, err := extKeyUsages(c)
	if err != nil {
		return err
	}
	switch {
	case !c.BasicConstraintsValid || c.IsCA:
		return errors.New("the certificate is not marked as an end entity's")
	case c.KeyUsage != x509.KeyUsageDigitalSignature:
		return errors.New("the key usage is not digitalSignature alone")
	case !slices.EqualFunc(usages, m.ExtKeyUsages, asn1.ObjectIdentifier.Equal):
		return errors.New("the extended key usages are not those of the profile")
	case !bytes.Equal(c.SubjectKeyId, keyID(f.CSR.SPKI)):
		return errors.New("the subject key identifier is not that of the key")
	case len(c.URIs) != 1 || c.URIs[0].String() != f.names.URI:
		return errors.New("the subjectAltName has not exactly the one URI granted")
	case len(c.DNSNames) > 0 || len(c.EmailAddresses) > 0 || len(c.IPAddresses) > 0:
		return errors.New("the subjectAltName has names that were not granted")
	}
	if err := f.matchesStatus(c); err != nil {
		return err
	}
	return f.matchesSet(c)
}

// matchesStatus wants noRevAvail or the certificate's own CRL shard, never both
// (RFC 9608, Section 4).
func (f *Draft) matchesStatus(c *x509.Certificate) error {
	m := f.profile
	short := slices.ContainsFunc(c.Extensions, func(e pkix.Extension) bool {
		return e.Id.Equal(oidNoRevAvail) && !e.Critical && bytes.Equal(e.Value, []byte{5, 0})
	})
	switch {
	case short != f.shortLived:
		return errors.New("noRevAvail is where it should not be, or missing")
	case short && (len(c.CRLDistributionPoints) > 0 || len(c.OCSPServer) > 0):
		return errors.New("noRevAvail stands together with pointers to revocation status")
	case !short && (len(c.CRLDistributionPoints) != 1 || c.CRLDistributionPoints[0] != m.crlURL(c.SerialNumber)):
		return errors.New("the CRL distribution point is not that of the certificate's shard")
	case !short && m.OCSPURL != "" && !slices.Equal(c.OCSPServer, []string{m.OCSPURL}):
		return errors.New("the OCSP URL is not that of the profile")
	case m.IssuerURL != "" && !slices.Equal(c.IssuingCertificateURL, []string{m.IssuerURL}):
		return errors.New("the issuer URL is not that of the profile")
	}
	return nil
}

// matchesSet wants the extensions that a device certificate has, each once
// (the parser refuses duplicates) and as critical as it should be, and no other.
func (f *Draft) matchesSet(c *x509.Certificate) error {
	m := f.profile
	want := map[string]bool{ // and whether critical
		oidBasicConstraints.String(): true, oidKeyUsage.String(): true, oidExtKeyUsage.String(): false,
		oidSubjectKeyID.String(): false, oidAuthorityKeyID.String(): false, oidSubjectAltName.String(): f.names.nameless(),
	}
	if f.policies != nil {
		want[oidPolicies.String()] = false
	}
	if f.shortLived {
		want[oidNoRevAvail.String()] = false
	} else {
		want[oidCRLPoints.String()] = false
	}
	if m.IssuerURL != "" || m.OCSPURL != "" && !f.shortLived {
		want[oidInfoAccess.String()] = false
	}
	for _, e := range c.Extensions {
		critical, ok := want[e.Id.String()]
		if !ok || critical != e.Critical {
			return fmt.Errorf("the extension %s was not granted, or not as critical as it is", e.Id)
		}
		if e.Id.Equal(oidSubjectAltName) && !bytes.Equal(e.Value, f.names.san) {
			return errors.New("the subjectAltName is not the one granted")
		}
		if e.Id.Equal(oidPolicies) && !bytes.Equal(e.Value, f.policies) {
			return errors.New("the certificate policies are not those that follow from what was proven")
		}
	}
	if len(c.Extensions) != len(want) {
		return fmt.Errorf("the certificate has %d extensions of %d", len(c.Extensions), len(want))
	}
	return nil
}

// extKeyUsages returns the object identifiers as they stand in the certificate.
func extKeyUsages(c *x509.Certificate) ([]asn1.ObjectIdentifier, error) {
	for _, e := range c.Extensions {
		if !e.Id.Equal(oidExtKeyUsage) {
			continue
		}
		var usages []asn1.ObjectIdentifier
		if rest, err := asn1.Unmarshal(e.Value, &usages); err != nil || len(rest) > 0 {
			return nil, errors.New("the extended key usages cannot be read")
		}
		return usages, nil
	}
	return nil, nil
}

package ca

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"

	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

// CheckNames refuses a first request that claims to be somebody else, with an
// error of kind Denied. The certificate's names come from the register
// whatever is claimed; but a device that believes it is another is misconfigured
// or lying, and either should be seen.
func (p *Profile) CheckNames(c *CSR, d fleet.Device) error {
	for _, a := range c.Subject {
		if a.names() && !isCalled(d, a.Value) {
			return fault.New(fault.Denied, "identity_mismatch",
				fmt.Sprintf("the request's subject names %q, which is neither the id nor the serial number of the device that asks; leave the subject empty or name this device", a.Value))
		}
	}
	if len(c.SANs) == 0 {
		return nameable(d)
	}
	own, err := p.Names(d)
	if err != nil {
		return err
	}
	for i := range c.SANs {
		if !p.isOwn(&c.SANs[i], own, d) {
			return errSAN(&c.SANs[i], "this device may not have: leave subjectAltName out")
		}
	}
	return nil
}

// CheckRenewalNames holds a renewal to the certificate that it renews (RFC
// 7030, Section 4.2.2: subject and subjectAltName are identical), with errors of
// kind Denied. Two things are easier on devices and no less safe: the subject
// may be empty or name just this device, and names that the authority added need
// not be repeated.
func CheckRenewalNames(c *CSR, old *x509.Certificate, d fleet.Device) error {
	if c.ChangeSubject {
		return fault.New(fault.Denied, "name_change", "the request asks for a change of names (ChangeSubjectName), which is not offered")
	}
	if err := checkRenewalSubject(c.Subject, old, d); err != nil {
		return err
	}
	var held [][]byte
	for _, e := range old.Extensions {
		if e.Id.String() != extSubjectAltName {
			continue
		}
		sans, err := parseSANs(cryptobyte.String(e.Value))
		if err != nil {
			return fmt.Errorf("reading the names of certificate %s: %w", SerialText(old.SerialNumber), err)
		}
		for _, s := range sans {
			held = append(held, s.Raw)
		}
	}
	for i := range c.SANs {
		if !slices.ContainsFunc(held, func(raw []byte) bool { return bytes.Equal(raw, c.SANs[i].Raw) }) {
			return errSAN(&c.SANs[i], "is not in the certificate to be renewed; leave subjectAltName out or repeat the old one")
		}
	}
	return nil
}

func checkRenewalSubject(claimed []Attribute, old *x509.Certificate, d fleet.Device) error {
	ownOnly := !slices.ContainsFunc(claimed, func(a Attribute) bool { return !a.names() || !isCalled(d, a.Value) })
	if ownOnly { // the empty subject included
		return nil
	}
	held, err := parseName(old.RawSubject)
	if err != nil {
		return fmt.Errorf("reading the subject of certificate %s: %w", SerialText(old.SerialNumber), err)
	}
	if !slices.EqualFunc(claimed, held, Attribute.equal) {
		return fault.New(fault.Denied, "identity_mismatch",
			"the request's subject is not that of the certificate to be renewed; leave it empty or repeat the old one")
	}
	return nil
}

// equal compares as RFC 5280, Section 7.1, has it: whether a client wrote
// PrintableString or UTF8String makes no difference, nor does case.
func (a Attribute) equal(b Attribute) bool {
	return a.RDN == b.RDN && a.Type.Equal(b.Type) && normalise(a.Value) == normalise(b.Value)
}

// names reports whether the attribute says who the subject is; the others
// (organisation, country …) say where it belongs, and never reach a certificate.
func (a Attribute) names() bool { return a.Type.Equal(oidCommonName) || a.Type.Equal(oidSerialNumber) }

// isOwn reports whether a claimed name is one that this device has anyway.
func (p *Profile) isOwn(s *SAN, own *Names, d fleet.Device) bool {
	if s.Raw[0] == byte(tagURI) {
		return s.Value == own.URI
	}
	id, ok := s.permanentID()
	return ok && isCalled(d, id) || s.isHardwareModule(p.HardwareModule, d.Serial)
}

// isCalled reports whether name is the device's id or its maker's serial number, to the letter.
func isCalled(d fleet.Device, name string) bool {
	return name != "" && (name == d.ID || name == d.Serial)
}

func errSAN(s *SAN, says string) error {
	shown := s.Kind
	switch {
	case s.Value != "":
		shown = fmt.Sprintf("%s %q", s.Kind, s.Value)
	case s.Type != nil:
		shown = fmt.Sprintf("%s of type %s", s.Kind, s.Type)
	}
	return fault.New(fault.Denied, "san_not_allowed", "the request's subjectAltName has a "+shown+" which "+says)
}

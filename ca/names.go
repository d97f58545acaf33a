package ca

import (
	"encoding/asn1"
	"fmt"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

// Object identifiers of names.
var (
	oidCommonName     = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidSerialNumber   = asn1.ObjectIdentifier{2, 5, 4, 5}
	oidOrganization   = asn1.ObjectIdentifier{2, 5, 4, 10}
	oidHardwareModule = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 4} // RFC 4108, Section 5
	oidPermanentID    = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 3} // RFC 4043
)

// ubName is ub-serial-number and ub-common-name (RFC 5280, Appendix A.1), in characters.
const ubName = 64

// Names is what a certificate of a profile says of one device.
type Names struct {
	URI     string // the one URI of the subjectAltName: a device's SPIFFE ID
	subject []byte // DER Name
	san     []byte // DER GeneralNames
}

// nameless reports whether the subject is empty. Then the subjectAltName is
// critical (RFC 5280, Section 4.2.1.6).
func (n *Names) nameless() bool { return len(n.subject) == 2 }

// Names builds a device's names from the register's entry; nothing a device
// says is in them. A device whose id does not fit in a certificate is an error
// of kind Denied with code id_not_nameable.
func (p *Profile) Names(d fleet.Device) (*Names, error) {
	if err := nameable(d); err != nil {
		return nil, err
	}
	n := &Names{URI: p.spiffe(d.ID)}
	var err error
	if n.subject, err = p.subject(d); err != nil {
		return nil, fmt.Errorf("encoding the subject of device %q: %w", d.ID, err)
	}
	if n.san, err = p.san(d, n.URI); err != nil {
		return nil, fmt.Errorf("encoding the subjectAltName of device %q: %w", d.ID, err)
	}
	return n, nil
}

func nameable(d fleet.Device) error {
	if d.ID == "" || len(d.ID) > ubName || checkName(d.ID) != nil {
		return fault.New(fault.Denied, "id_not_nameable",
			fmt.Sprintf("the device's id does not fit in a certificate: it needs 1 to %d characters and no control characters", ubName))
	}
	return nil
}

// spiffe returns the device's SPIFFE ID.
func (p *Profile) spiffe(id string) string {
	return "spiffe://" + p.TrustDomain + "/" + strings.Replace(p.Path, "{id}", escapeSegment(id), 1)
}

// escapeSegment writes an id with the letters that a SPIFFE path segment may
// have (SPIFFE-ID, Section 2.2). Ids of those letters stay as they are; any other
// byte, and an underscore that would look like an escape, becomes _x and two hex
// digits. Different ids give different segments: every _x in the result begins
// an escape.
func escapeSegment(id string) string {
	if id == "." || id == ".." {
		return strings.ReplaceAll(id, ".", "_x2e")
	}
	var b strings.Builder
	for i := 0; i < len(id); i++ {
		c := id[i]
		plain := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-' ||
			c == '_' && !strings.HasPrefix(id[i+1:], "x")
		if plain {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "_x%02x", c)
		}
	}
	return b.String()
}

// subject is O (if the profile has one), CN (if the profile wants it) and
// serialNumber. X.520 makes serialNumber a PrintableString; an id with letters
// that it lacks, such as the underscore, stands in CN alone.
func (p *Profile) subject(d fleet.Device) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		printable := isPrintable(d.ID)
		if p.Organization != "" {
			addRDN(b, oidOrganization, p.Organization)
		}
		if p.CommonName || !printable {
			addRDN(b, oidCommonName, d.ID)
		}
		if printable {
			addRDN(b, oidSerialNumber, d.ID)
		}
	})
	return b.Bytes()
}

func addRDN(b *cryptobyte.Builder, t asn1.ObjectIdentifier, value string) {
	tag := casn1.UTF8String
	if isPrintable(value) {
		tag = casn1.PrintableString
	}
	b.AddASN1(casn1.SET, func(b *cryptobyte.Builder) {
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(t)
			b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes([]byte(value)) })
		})
	})
}

// san is the one SPIFFE URI, and the hardware's own serial number where the
// profile has a type for it and the register knows it.
func (p *Profile) san(d fleet.Device, spiffe string) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(tagURI, func(b *cryptobyte.Builder) { b.AddBytes([]byte(spiffe)) })
		if p.HardwareModule != nil && d.Serial != "" {
			addHardwareModule(b, p.HardwareModule, d.Serial)
		}
	})
	return b.Bytes()
}

// addHardwareModule writes an otherName of RFC 4108, Section 5:
// SEQUENCE { hwType OBJECT IDENTIFIER, hwSerialNum OCTET STRING }.
func addHardwareModule(b *cryptobyte.Builder, hwType asn1.ObjectIdentifier, serial string) {
	b.AddASN1(tagOtherName, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidHardwareModule)
		b.AddASN1(explicit0, func(b *cryptobyte.Builder) {
			b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(hwType)
				b.AddASN1OctetString([]byte(serial))
			})
		})
	})
}

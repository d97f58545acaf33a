package tpm

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"strings"
	"unicode"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

var (
	oidSAN             = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidNameConstraints = asn1.ObjectIdentifier{2, 5, 29, 30}
	oidManufacturer    = asn1.ObjectIdentifier{2, 23, 133, 2, 1}
	oidModel           = asn1.ObjectIdentifier{2, 23, 133, 2, 2}
	oidVersion         = asn1.ObjectIdentifier{2, 23, 133, 2, 3}
	oidPermanentID     = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 3}
)

var errNames = errors.New("a subject alternative name that cannot be read")

// names is what the certificate of a TPM's key says it stands for.
type names struct {
	manufacturer, model, version string   // of the TPM
	permanent                    []string // permanentIdentifier values (RFC 4043)
	uris                         []string
}

// ofTPM reports whether they name a TPM.
func (n *names) ofTPM() bool { return n.manufacturer != "" && n.model != "" && n.version != "" }

// readNames reads a certificate's subject alternative name, and the TPM's
// attributes from its subject where they are not there: the TCG EK Credential Profile
// puts them into a directoryName, and some makers did not.
func readNames(c *x509.Certificate) (names, error) {
	var n names
	for _, e := range c.Extensions {
		if !e.Id.Equal(oidSAN) {
			continue
		}
		if err := n.readSAN(e.Value); err != nil {
			return names{}, err
		}
	}
	if !n.ofTPM() {
		n.readName(c.RawSubject)
	}
	return n, nil
}

// readSAN reads GeneralNames (RFC 5280, Section 4.2.1.6), and leaves out the kinds that say nothing of a TPM.
func (n *names) readSAN(der []byte) error {
	var all cryptobyte.String
	in := cryptobyte.String(der)
	if !in.ReadASN1(&all, cbasn1.SEQUENCE) || !in.Empty() {
		return errNames
	}
	for !all.Empty() {
		var name cryptobyte.String
		var tag cbasn1.Tag
		if !all.ReadAnyASN1(&name, &tag) {
			return errNames
		}
		switch tag {
		case cbasn1.Tag(0).Constructed().ContextSpecific(): // otherName
			n.readOther(name)
		case cbasn1.Tag(4).Constructed().ContextSpecific(): // directoryName
			n.readName(name)
		case cbasn1.Tag(6).ContextSpecific(): // uniformResourceIdentifier
			if s := printable(string(name)); s != "" {
				n.uris = append(n.uris, s)
			}
		}
	}
	return nil
}

// readOther reads an otherName that is a permanentIdentifier. One without a
// value stands for the subject's serialNumber (RFC 4043, Section 2), which its reader looks at anyway.
func (n *names) readOther(der cryptobyte.String) {
	var id asn1.ObjectIdentifier
	var value, identifier, text cryptobyte.String
	if der.ReadASN1ObjectIdentifier(&id) && id.Equal(oidPermanentID) &&
		der.ReadASN1(&value, cbasn1.Tag(0).Constructed().ContextSpecific()) &&
		value.ReadASN1(&identifier, cbasn1.SEQUENCE) && identifier.ReadASN1(&text, cbasn1.UTF8String) {
		if s := printable(string(text)); s != "" {
			n.permanent = append(n.permanent, s)
		}
	}
}

// readName takes the TPM's attributes out of a Name. The first of each kind counts;
// an RDN may hold several.
func (n *names) readName(der cryptobyte.String) {
	var rdns, rdn, pair, value cryptobyte.String
	if !der.ReadASN1(&rdns, cbasn1.SEQUENCE) {
		return
	}
	for !rdns.Empty() {
		if !rdns.ReadASN1(&rdn, cbasn1.SET) {
			return
		}
		for !rdn.Empty() {
			var id asn1.ObjectIdentifier
			var tag cbasn1.Tag
			if !rdn.ReadASN1(&pair, cbasn1.SEQUENCE) || !pair.ReadASN1ObjectIdentifier(&id) || !pair.ReadAnyASN1(&value, &tag) {
				return
			}
			if tag == cbasn1.UTF8String || tag == cbasn1.PrintableString || tag == cbasn1.IA5String {
				n.take(id, printable(string(value)))
			}
		}
	}
}

func (n *names) take(id asn1.ObjectIdentifier, value string) {
	for _, attribute := range []struct {
		oid  asn1.ObjectIdentifier
		into *string
	}{{oidManufacturer, &n.manufacturer}, {oidModel, &n.model}, {oidVersion, &n.version}} {
		if id.Equal(attribute.oid) && *attribute.into == "" {
			*attribute.into = value
		}
	}
}

// printable returns s if it may stand in a record and on a terminal, without
// the zero bytes and spaces that makers fill up with; else "".
func printable(s string) string {
	s = strings.Trim(s, "\x00 ")
	if len(s) > 255 || strings.ContainsFunc(s, func(r rune) bool { return r == unicode.ReplacementChar || !unicode.IsPrint(r) }) {
		return ""
	}
	return s
}

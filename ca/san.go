package ca

import (
	"bytes"
	"encoding/asn1"
	"fmt"
	"net/netip"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// SAN is one name of a subjectAltName, of any kind.
type SAN struct {
	Kind  string                // rfc822Name, dNSName, uniformResourceIdentifier … as RFC 5280 calls it
	Type  asn1.ObjectIdentifier // of an otherName; nil otherwise
	Value string                // for people: the text, address or, for otherName and the like, nothing
	Raw   []byte                // the GeneralName, DER
	inner []byte                // the value of an otherName, DER
}

// sanKinds names the choices of GeneralName (RFC 5280, Section 4.2.1.6).
var sanKinds = map[casn1.Tag]string{
	tagOtherName: "otherName", tagEmail: "rfc822Name", tagDNS: "dNSName", tagX400: "x400Address",
	tagDirectory: "directoryName", tagEDIParty: "ediPartyName", tagURI: "uniformResourceIdentifier",
	tagIP: "iPAddress", tagRID: "registeredID",
}

// parseSANs reads GeneralNames.
func parseSANs(input cryptobyte.String) ([]SAN, error) {
	var names cryptobyte.String
	if len(input) > maxNames {
		return nil, malformed("bad_name", fmt.Sprintf("the subjectAltName is longer than %d octets", maxNames))
	}
	if !input.ReadASN1(&names, casn1.SEQUENCE) || !input.Empty() || names.Empty() {
		return nil, errSyntax("a subjectAltName is not a SEQUENCE of names")
	}
	var sans []SAN
	for !names.Empty() {
		var element, value cryptobyte.String
		var tag casn1.Tag
		whole := names
		if len(sans) == maxParts || !whole.ReadAnyASN1Element(&element, &tag) || !names.ReadAnyASN1(&value, &tag) {
			return nil, errSyntax("a subjectAltName has an unreadable name, or too many")
		}
		san := SAN{Kind: sanKinds[tag], Raw: element}
		if san.Kind == "" {
			return nil, errSyntax("a subjectAltName has a name of an unknown kind")
		}
		if err := san.read(tag, value); err != nil {
			return nil, err
		}
		sans = append(sans, san)
	}
	return sans, nil
}

func (s *SAN) read(tag casn1.Tag, value cryptobyte.String) error {
	switch tag {
	case tagEmail, tagDNS, tagURI:
		if s.Value = string(value); s.Value == "" || checkIA5(s.Value) != nil {
			return malformed("bad_name", fmt.Sprintf("a subjectAltName of kind %s is empty or has characters outside visible ASCII", s.Kind))
		}
	case tagIP:
		address, ok := netip.AddrFromSlice(value)
		if !ok {
			return malformed("bad_name", "a subjectAltName of kind iPAddress has neither 4 nor 16 octets")
		}
		s.Value = address.String()
	case tagDirectory:
		if _, err := parseName(value); err != nil {
			return err
		}
	case tagOtherName:
		var wrapped cryptobyte.String
		if !value.ReadASN1ObjectIdentifier(&s.Type) || !value.ReadASN1(&wrapped, explicit0) || !value.Empty() {
			return errSyntax("a subjectAltName of kind otherName is not a type and a value")
		}
		s.inner = wrapped
	}
	return nil
}

// isHardwareModule reports whether the name is a hardwareModuleName (RFC 4108,
// Section 5) with that serial number, and of that hwType unless it is nil.
func (s *SAN) isHardwareModule(hwType asn1.ObjectIdentifier, serial string) bool {
	input := cryptobyte.String(s.inner)
	var module, number cryptobyte.String
	var t asn1.ObjectIdentifier
	return s.Type.Equal(oidHardwareModule) && serial != "" &&
		input.ReadASN1(&module, casn1.SEQUENCE) && input.Empty() &&
		module.ReadASN1ObjectIdentifier(&t) && module.ReadASN1(&number, casn1.OCTET_STRING) && module.Empty() &&
		(hwType == nil || t.Equal(hwType)) && bytes.Equal(number, []byte(serial))
}

// permanentID returns the value of a permanentIdentifier (RFC 4043):
// SEQUENCE { identifierValue UTF8String OPTIONAL, assigner OBJECT IDENTIFIER OPTIONAL }.
func (s *SAN) permanentID() (string, bool) {
	input := cryptobyte.String(s.inner)
	var identifier, value cryptobyte.String
	var present bool
	if !s.Type.Equal(oidPermanentID) || !input.ReadASN1(&identifier, casn1.SEQUENCE) || !input.Empty() ||
		!identifier.ReadOptionalASN1(&value, &present, casn1.UTF8String) || !present {
		return "", false
	}
	return string(value), true
}

package ca

import (
	"encoding/asn1"
	"fmt"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/hallmark-pki/hallmark/internal/fault"
)

// The attributes of a request that mean something here, by dotted identifier. Others are passed over.
const (
	attrExtensionRequest   = "1.2.840.113549.1.9.14"      // RFC 2985, Section 5.4.2
	attrExtensionMicrosoft = "1.3.6.1.4.1.311.2.1.14"     // the same under another name
	attrChallenge          = "1.2.840.113549.1.9.7"       // RFC 2985, Section 5.4.1
	attrLinking            = "1.2.840.113549.1.9.16.2.58" // RFC 7894, Section 3.3
	attrAttestation        = "1.2.840.113549.1.9.16.2.59" // id-aa-attestation
	attrChangeSubject      = "1.3.6.1.5.5.7.7.36"         // RFC 6402, Section 2.8
)

// The extensions of a request that are looked at.
const (
	extKeyUsage         = "2.5.29.15"
	extSubjectAltName   = "2.5.29.17"
	extBasicConstraints = "2.5.29.19"
)

// maxChallenge is pkcs-9-ub-challengePassword, in characters.
const maxChallenge = 255

// readAttributes takes the claims out of the request's attributes. An
// attribute that stands twice is refused: two readers could each believe
// another one.
func (c *CSR) readAttributes(attributes cryptobyte.String) error {
	seen := map[string]bool{}
	for !attributes.Empty() {
		var attribute, values cryptobyte.String
		var oid asn1.ObjectIdentifier
		if !attributes.ReadASN1(&attribute, casn1.SEQUENCE) || !attribute.ReadASN1ObjectIdentifier(&oid) ||
			!attribute.ReadASN1(&values, casn1.SET) || !attribute.Empty() || len(seen) == maxParts {
			return errSyntax("an attribute is not a type and a SET of values, or there are too many")
		}
		name := oid.String()
		if name == attrExtensionMicrosoft {
			name = attrExtensionRequest
		}
		if seen[name] {
			return malformed("csr_duplicate", fmt.Sprintf("the request has the attribute %s twice", oid))
		}
		seen[name] = true
		if err := c.readAttribute(name, values); err != nil {
			return err
		}
	}
	return nil
}

func (c *CSR) readAttribute(name string, values cryptobyte.String) (err error) {
	switch name {
	case attrExtensionRequest, attrChallenge, attrLinking, attrAttestation, attrChangeSubject:
	default:
		return nil
	}
	// Each of these is SINGLE VALUE.
	var value, element cryptobyte.String
	var tag casn1.Tag
	whole := values
	if !whole.ReadAnyASN1Element(&element, &tag) || !whole.Empty() || !values.ReadAnyASN1(&value, &tag) {
		return errSyntax(fmt.Sprintf("the attribute %s does not have exactly one value", name))
	}
	switch name {
	case attrExtensionRequest:
		return c.readExtensions(tag, value)
	case attrChallenge:
		c.Challenge, err = decodeChallenge(tag, value)
	case attrLinking:
		c.Linking, err = decodeChallenge(tag, value)
	case attrAttestation:
		c.Attestation = element
	case attrChangeSubject:
		c.ChangeSubject = true
	}
	return err
}

func decodeChallenge(tag casn1.Tag, value []byte) (string, error) {
	text, err := decodeText(tag, value)
	if err != nil || text == "" || utf8.RuneCountInString(text) > maxChallenge {
		return "", malformed("bad_challenge", fmt.Sprintf("the challenge password is not a text of 1 to %d characters", maxChallenge))
	}
	return text, nil
}

// readExtensions looks at what extensions are asked for. Only the names are
// claims; everything else a profile decides. But who asks for an authority's
// rights is refused, not quietly given less.
func (c *CSR) readExtensions(tag casn1.Tag, extensions cryptobyte.String) error {
	if tag != casn1.SEQUENCE {
		return errSyntax("the extension request is not a SEQUENCE")
	}
	seen := map[string]bool{}
	for !extensions.Empty() {
		var extension, value cryptobyte.String
		var oid asn1.ObjectIdentifier
		if !extensions.ReadASN1(&extension, casn1.SEQUENCE) || !extension.ReadASN1ObjectIdentifier(&oid) ||
			!extension.SkipOptionalASN1(casn1.BOOLEAN) ||
			!extension.ReadASN1(&value, casn1.OCTET_STRING) || !extension.Empty() || len(seen) == maxParts {
			return errSyntax("a requested extension cannot be read, or there are too many")
		}
		name := oid.String()
		if seen[name] {
			return malformed("csr_duplicate", fmt.Sprintf("the request asks for the extension %s twice", oid))
		}
		seen[name] = true
		if err := c.readExtension(name, value); err != nil {
			return err
		}
	}
	return nil
}

func (c *CSR) readExtension(name string, value cryptobyte.String) (err error) {
	switch name {
	case extBasicConstraints:
		return checkNoAuthority(value)
	case extKeyUsage:
		return checkNoSigning(value)
	case extSubjectAltName:
		c.SANs, err = parseSANs(value)
	}
	return err
}

// checkNoAuthority reads BasicConstraints ::= SEQUENCE { cA BOOLEAN DEFAULT FALSE, pathLen INTEGER OPTIONAL }.
// The boolean is read leniently (any value but zero is true), so that bad DER does not hide it.
func checkNoAuthority(value cryptobyte.String) error {
	var constraints, flag cryptobyte.String
	var present bool
	if !value.ReadASN1(&constraints, casn1.SEQUENCE) || !value.Empty() ||
		!constraints.ReadOptionalASN1(&flag, &present, casn1.BOOLEAN) || present && len(flag) != 1 {
		return errSyntax("the requested basicConstraints cannot be read")
	}
	if present && flag[0] != 0 {
		return errAuthority("basicConstraints with CA:TRUE")
	}
	return nil
}

// checkNoSigning reads KeyUsage, a BIT STRING in which bit 5 is keyCertSign and bit 6 cRLSign.
func checkNoSigning(value cryptobyte.String) error {
	var usage asn1.BitString
	if !value.ReadASN1BitString(&usage) || !value.Empty() {
		return errSyntax("the requested keyUsage cannot be read")
	}
	if usage.At(5) != 0 || usage.At(6) != 0 {
		return errAuthority("keyUsage with keyCertSign or cRLSign")
	}
	return nil
}

func errAuthority(what string) error {
	return fault.New(fault.Denied, "ca_requested", "the request asks for an authority's rights ("+what+"); devices get end-entity certificates only")
}

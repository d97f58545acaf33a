package ca

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/text/unicode/norm"
)

// Tags of GeneralName (RFC 5280, Section 4.2.1.6) and of explicit fields.
const (
	tagOtherName = asn1.Tag(0x80 | 0x20)
	tagEmail     = asn1.Tag(0x80 | 1)
	tagDNS       = asn1.Tag(0x80 | 2)
	tagX400      = asn1.Tag(0x80 | 0x20 | 3)
	tagDirectory = asn1.Tag(0x80 | 0x20 | 4)
	tagEDIParty  = asn1.Tag(0x80 | 0x20 | 5)
	tagURI       = asn1.Tag(0x80 | 6)
	tagIP        = asn1.Tag(0x80 | 7)
	tagRID       = asn1.Tag(0x80 | 8)
	explicit0    = asn1.Tag(0x80 | 0x20)
	explicit3    = asn1.Tag(0x80 | 0x20 | 3)
	tagBMP       = asn1.Tag(30)
)

var errText = errors.New("text with control characters or an invalid encoding")

// checkName refuses text that could deceive whoever reads it in a log or on a
// page: control and format characters (line breaks, NUL, right-to-left
// overrides, zero-width letters) and what is not UTF-8.
func checkName(s string) error {
	if !utf8.ValidString(s) {
		return errText
	}
	for _, r := range s {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == 0x2028 || r == 0x2029 || r == utf8.RuneError {
			return errText
		}
	}
	return nil
}

// checkIA5 refuses what is not visible ASCII.
func checkIA5(s string) error {
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] > '~' {
			return errText
		}
	}
	return nil
}

// isPrintable reports whether s fits in a PrintableString (X.680, Section 41.4).
func isPrintable(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(" '()+,-./:=?", c) >= 0) {
			return false
		}
	}
	return true
}

// decodeText returns the text of an ASN.1 string as UTF-8: the choices of
// DirectoryString (RFC 5280, Section 4.1.2.4) without UniversalString, which
// nothing writes, and IA5String, which PKCS #9 allows beside them.
func decodeText(tag asn1.Tag, value []byte) (string, error) {
	text := string(value)
	switch tag {
	case asn1.UTF8String:
	case asn1.PrintableString:
		// Old tools write & * @ and _ into PrintableStrings; that is no harm here.
		for i := range value {
			if value[i] < ' ' || value[i] > '~' {
				return "", errText
			}
		}
	case asn1.IA5String:
		for i := range value {
			if value[i] >= utf8.RuneSelf {
				return "", errText
			}
		}
	case asn1.T61String: // in practice Latin-1
		runes := make([]rune, len(value))
		for i, c := range value {
			runes[i] = rune(c)
		}
		text = string(runes)
	case tagBMP:
		if len(value)%2 != 0 {
			return "", errText
		}
		units := make([]uint16, len(value)/2)
		for i := range units {
			units[i] = uint16(value[2*i])<<8 | uint16(value[2*i+1])
		}
		text = string(utf16.Decode(units)) // a lone surrogate becomes U+FFFD, which checkName refuses
	default:
		return "", errText
	}
	return text, checkName(text)
}

// normalise prepares a name for comparison (RFC 5280, Section 7.1, by way of
// RFC 4518): compatibility forms unified, case folded, white space at the ends
// dropped and inside made single.
func normalise(s string) string {
	return strings.Join(strings.Fields(strings.ToLower(norm.NFKC.String(s))), " ")
}

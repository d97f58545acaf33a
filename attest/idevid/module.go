package idevid

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

var oidHardwareModuleName = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 4} // RFC 4108, Section 5

// maxModuleSerial bounds hwSerialNum, in bytes: what is longer is no serial number.
const maxModuleSerial = 64

// moduleIn returns a certificate's hardwareModuleName, or a zero Module if
// there is none that can be read: it adds to a name and is never the name.
func moduleIn(c *x509.Certificate) Module {
	for _, e := range c.Extensions {
		if e.Id.Equal(oidSAN) {
			return readModule(e.Value)
		}
	}
	return Module{}
}

// readModule finds the first hardwareModuleName in GeneralNames (RFC 5280, Section 4.2.1.6).
func readModule(san []byte) Module {
	var names, name cryptobyte.String
	in := cryptobyte.String(san)
	if !in.ReadASN1(&names, cbasn1.SEQUENCE) {
		return Module{}
	}
	for !names.Empty() {
		var tag cbasn1.Tag
		if !names.ReadAnyASN1(&name, &tag) {
			return Module{}
		}
		if tag != cbasn1.Tag(0).Constructed().ContextSpecific() { // otherName
			continue
		}
		if m, found := readOther(name); found {
			return m
		}
	}
	return Module{}
}

// readOther reads HardwareModuleName ::= SEQUENCE { hwType OBJECT IDENTIFIER, hwSerialNum OCTET STRING }
// out of an otherName.
func readOther(der cryptobyte.String) (Module, bool) {
	var id, hwType asn1.ObjectIdentifier
	var value, module, serial cryptobyte.String
	if !der.ReadASN1ObjectIdentifier(&id) || !id.Equal(oidHardwareModuleName) ||
		!der.ReadASN1(&value, cbasn1.Tag(0).Constructed().ContextSpecific()) || !value.ReadASN1(&module, cbasn1.SEQUENCE) ||
		!module.ReadASN1ObjectIdentifier(&hwType) || !module.ReadASN1(&serial, cbasn1.OCTET_STRING) || len(serial) > maxModuleSerial {
		return Module{}, false
	}
	m := Module{Type: hwType.String(), Serial: string(serial)}
	if strings.ContainsFunc(m.Serial, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
		m.Serial = hex.EncodeToString(serial)
	}
	return m, true
}

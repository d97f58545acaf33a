package est

import (
	"encoding/asn1"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// The object identifiers that csrattrs speaks in.
var (
	oidChallengePassword = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}
	oidExtensionRequest  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 14}
	oidTemplate          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 61} // RFC 9908
	oidSerialNumber      = asn1.ObjectIdentifier{2, 5, 4, 5}
	oidOrganization      = asn1.ObjectIdentifier{2, 5, 4, 10}
	oidKeyUsage          = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidExtKeyUsage       = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidECKey             = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidRSAKey            = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidEd25519           = asn1.ObjectIdentifier{1, 3, 101, 112}
	oidP256              = asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}
	oidP384              = asn1.ObjectIdentifier{1, 3, 132, 0, 34}
	oidECDSAWithSHA256   = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
	oidECDSAWithSHA384   = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}
	oidRSAWithSHA256     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}
)

// attributes is what a server wishes a CSR to be. It is written in both forms
// at once: clients that know the template of RFC 9908 read nothing else, and
// older ones pass over it.
type attributes struct {
	template  *template
	bare      []asn1.ObjectIdentifier // attributes that are wanted, such as challengePassword
	key       keyWish
	signature asn1.ObjectIdentifier // nil: no wish
}

// keyWish is the kind of key that a profile likes best.
type keyWish struct {
	algorithm asn1.ObjectIdentifier
	curve     asn1.ObjectIdentifier // of EC keys
	bits      int64                 // of RSA keys
}

// template is a CertificationRequestInfoTemplate (RFC 9908, Section 3.4). The
// subject's serialNumber is left to the client to fill in.
type template struct {
	organization string
	key          keyWish
	usages       []asn1.ObjectIdentifier // extended key usages
}

// encode returns CsrAttrs in DER (RFC 8951, Section 4).
func (a *attributes) encode() ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		if a.template != nil {
			addAttribute(b, oidTemplate, a.template.add)
		}
		for _, oid := range a.bare {
			b.AddASN1ObjectIdentifier(oid)
		}
		a.key.addLegacy(b)
		if a.signature != nil {
			b.AddASN1ObjectIdentifier(a.signature)
		}
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("encoding CSR attributes: %w", err)
	}
	return der, nil
}

// addAttribute writes an Attribute with one value.
func addAttribute(b *cryptobyte.Builder, kind asn1.ObjectIdentifier, value cryptobyte.BuilderContinuation) {
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(kind)
		b.AddASN1(casn1.SET, value)
	})
}

// addLegacy writes the key type as an Attribute with the curve or the size for
// value (RFC 7030, Section 4.5.2). Ed25519 has neither, and is said by its signature.
func (k *keyWish) addLegacy(b *cryptobyte.Builder) {
	switch {
	case k.curve != nil:
		addAttribute(b, k.algorithm, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(k.curve) })
	case k.bits > 0:
		addAttribute(b, k.algorithm, func(b *cryptobyte.Builder) { b.AddASN1Int64(k.bits) })
	}
}

// addTemplate writes the key type as a SubjectPublicKeyInfoTemplate. The size
// of an RSA key stands in the legacy form alone.
func (k *keyWish) addTemplate(b *cryptobyte.Builder) {
	b.AddASN1(casn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(k.algorithm)
			switch {
			case k.curve != nil:
				b.AddASN1ObjectIdentifier(k.curve)
			case k.bits > 0:
				b.AddASN1NULL() // RFC 3279, Section 2.3.1
			}
		})
	})
}

func (t *template) add(b *cryptobyte.Builder) {
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(0) // version
		b.AddASN1(casn1.SEQUENCE, t.addSubject)
		t.key.addTemplate(b)
		b.AddASN1(casn1.Tag(1).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			addAttribute(b, oidExtensionRequest, t.addExtensions)
		})
	})
}

func (t *template) addSubject(b *cryptobyte.Builder) {
	addRDN(b, oidSerialNumber, "")
	if t.organization != "" {
		addRDN(b, oidOrganization, t.organization)
	}
}

// addRDN writes an RDN of one attribute; without a value, the client is to fill it in.
func addRDN(b *cryptobyte.Builder, kind asn1.ObjectIdentifier, value string) {
	b.AddASN1(casn1.SET, func(b *cryptobyte.Builder) {
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(kind)
			if value != "" {
				b.AddASN1(casn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(value)) })
			}
		})
	})
}

// addExtensions writes the extensions that the certificate will have anyway.
func (t *template) addExtensions(b *cryptobyte.Builder) {
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oidKeyUsage)
			b.AddASN1Boolean(true) // critical
			b.AddASN1(casn1.OCTET_STRING, func(b *cryptobyte.Builder) {
				b.AddBytes([]byte{byte(casn1.BIT_STRING), 2, 7, 0x80}) // digitalSignature
			})
		})
		if len(t.usages) > 0 {
			b.AddASN1(casn1.SEQUENCE, t.addUsages)
		}
	})
}

func (t *template) addUsages(b *cryptobyte.Builder) {
	b.AddASN1ObjectIdentifier(oidExtKeyUsage)
	b.AddASN1(casn1.OCTET_STRING, func(b *cryptobyte.Builder) {
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, oid := range t.usages {
				b.AddASN1ObjectIdentifier(oid)
			}
		})
	})
}

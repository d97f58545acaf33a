package ca

import (
	"context"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// AttestationKeys is the name under which certificates of attestation keys are
// kept. No profile may be called like it: nobody enrols for one.
const AttestationKeys = "attestation-key"

// Object identifiers of attestation keys and of the TPMs that hold them (TCG EK
// Credential Profile for TPM 2.0, Sections 3.1.2 and 3.2.16).
var (
	oidAIK             = asn1.ObjectIdentifier{2, 23, 133, 8, 3} // tcg-kp-AIKCertificate
	oidTPMManufacturer = asn1.ObjectIdentifier{2, 23, 133, 2, 1}
	oidTPMModel        = asn1.ObjectIdentifier{2, 23, 133, 2, 2}
	oidTPMVersion      = asn1.ObjectIdentifier{2, 23, 133, 2, 3}
)

// ekURI is what the names of an attestation key's certificate call its TPM by:
// SHA-256 over the endorsement key's SubjectPublicKeyInfo, padded base64, as smallstep's clients look for it.
const ekURI = "urn:ek:sha256:"

// AKOrder says what a permitted certificate of an attestation key is made
// from. That the key is one, restricted and at home in this TPM, has been shown.
type AKOrder struct {
	SPKI   []byte // of the attestation key, DER
	Device fleet.Device
	EK     attest.EndorsementKey // of the TPM that holds it
}

// akMould is the profile of attestation keys made ready: of what the operator
// may choose there is little.
func (c *Config) akMould(issuer *x509.Certificate) (*mould, error) {
	p := c.AttestationKeys.WithDefaults()
	p.Name, p.ExtKeyUsages = AttestationKeys, []asn1.ObjectIdentifier{oidAIK}
	for _, check := range []func() error{p.checkLifetimes, p.checkURLs} {
		if err := check(); err != nil {
			return nil, fmt.Errorf("certificates of attestation keys: %w", err)
		}
	}
	return newMould(p, issuer)
}

// CertifyAK makes the certificate of an attestation key and returns when it is
// durable. The permit is for the device. Errors are those of Issue. The certificate says who made the
// TPM only where a trusted maker's certificate did.
func (a *Authority) CertifyAK(ctx context.Context, p policy.Permit, o AKOrder) (*Certificate, error) {
	if err := p.Covers(policy.CertifyAK, o.Device.ID); err != nil {
		return nil, err
	}
	draft, err := a.draftAK(ctx, o)
	if err != nil {
		return nil, err
	}
	if _, err := a.lint.examine(draft.TBS, a.ak.signing.identifier); err != nil { // names differ with each TPM: no two have one shape
		return nil, fmt.Errorf("before signing an attestation key of device %q: %w", o.Device.ID, err)
	}
	parsed, err := a.sign(ctx, draft)
	if err != nil {
		return nil, err
	}
	c := describe(parsed, o.Device.ID, AttestationKeys)
	event, err := p.Redeem(policy.CertifyAK, o.Device.ID, fact(c))
	if err != nil {
		return nil, err
	}
	if err := a.store.Issue(ctx, Issuance{Certificate: c, Event: event}); err != nil {
		return nil, err
	}
	return c, nil
}

// draftAK lays out the certificate.
func (a *Authority) draftAK(ctx context.Context, o AKOrder) (*Draft, error) {
	key := &CSR{SPKI: o.SPKI}
	var err error
	if key.PublicKey, key.KeyType, key.KeyBits, err = parseKey(o.SPKI); err != nil {
		return nil, err
	}
	if err := a.checkKey(ctx, a.ak, Order{CSR: key, Device: o.Device}); err != nil {
		return nil, err
	}
	names, err := akNames(o)
	if err != nil {
		return nil, err
	}
	lifetime, err := a.within(a.ak.Lifetime)
	if err != nil {
		return nil, err
	}
	said := encodePolicies([]asn1.ObjectIdentifier{oidVerifiedResidency, oidVerifiedFixed, oidVerifiedRestricted})
	return a.ak.lay(&Draft{CSR: key, device: o.Device.ID, names: names, policies: said}, a.now(), lifetime)
}

// akNames has an empty subject, and names the TPM and the device beside it
// (TCG EK Credential Profile, Section 3.2.9; RFC 4043).
func akNames(o AKOrder) (*Names, error) {
	digest, err := hex.DecodeString(o.EK.SHA256)
	if err != nil || len(digest) != 32 {
		return nil, fmt.Errorf("an attestation key of device %q without the digest of its endorsement key", o.Device.ID)
	}
	if o.Device.ID == "" || len(o.Device.ID) > ubName || checkName(o.Device.ID) != nil {
		return nil, fault.New(fault.Denied, "id_not_nameable", "the device's id does not fit in a certificate")
	}
	n := &Names{URI: ekURI + base64.StdEncoding.EncodeToString(digest), subject: []byte{0x30, 0}}
	var b cryptobyte.Builder
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		if vouched(o.EK) {
			addHardware(b, o.EK)
		}
		b.AddASN1(tagURI, func(b *cryptobyte.Builder) { b.AddBytes([]byte(n.URI)) })
		addPermanentID(b, o.Device.ID)
	})
	n.san, err = b.Bytes()
	return n, err
}

// vouched reports whether a trusted maker's certificate says who made the TPM, in text that can be repeated.
func vouched(ek attest.EndorsementKey) bool {
	for _, text := range []string{ek.Manufacturer, ek.Model, ek.Version} {
		if text == "" || len(text) > ubName || checkName(text) != nil {
			return false
		}
	}
	return ek.Anchor != ""
}

// addHardware writes the TPM's maker, model and version as a directoryName.
func addHardware(b *cryptobyte.Builder, ek attest.EndorsementKey) {
	b.AddASN1(tagDirectory, func(b *cryptobyte.Builder) {
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
			addHardwareName(b, oidTPMManufacturer, ek.Manufacturer)
			addHardwareName(b, oidTPMModel, ek.Model)
			addHardwareName(b, oidTPMVersion, ek.Version)
		})
	})
}

func addHardwareName(b *cryptobyte.Builder, t asn1.ObjectIdentifier, value string) {
	b.AddASN1(casn1.SET, func(b *cryptobyte.Builder) {
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(t)
			b.AddASN1(casn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(value)) })
		})
	})
}

// addPermanentID writes a permanentIdentifier (RFC 4043) without an assigner.
func addPermanentID(b *cryptobyte.Builder, id string) {
	b.AddASN1(tagOtherName, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidPermanentID)
		b.AddASN1(explicit0, func(b *cryptobyte.Builder) {
			b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(casn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(id)) })
			})
		})
	})
}

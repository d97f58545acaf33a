package ca

import (
	"encoding/asn1"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/hallmark-pki/hallmark/attest"
)

// What a certificate may say of its key (TCG, TPM 2.0 Keys for Device Identity
// and Attestation, Section 5.3: tcg-cap). Evidence itself never stands in a certificate.
var (
	oidVerifiedResidency  = asn1.ObjectIdentifier{2, 23, 133, 11, 1, 1} // it lives in a TPM
	oidVerifiedFixed      = asn1.ObjectIdentifier{2, 23, 133, 11, 1, 2} // which it cannot leave
	oidVerifiedRestricted = asn1.ObjectIdentifier{2, 23, 133, 11, 1, 3} // and it signs only what the TPM itself has made
)

// policies is what may be said of a key of which this was proven: the value of
// certificatePolicies, DER, or nil for nothing, as for most.
func (p *Profile) policies(r *attest.Result) []byte {
	var said []asn1.ObjectIdentifier
	if r.Key.Resident {
		said = append(said, oidVerifiedResidency)
	}
	if r.Key.Resident && r.Key.Fixed {
		said = append(said, oidVerifiedFixed)
	}
	if own := p.AssurancePolicies[r.Assurance()]; own != nil {
		said = append(said, own)
	}
	if said == nil {
		return nil
	}
	return encodePolicies(said)
}

// encodePolicies is CertificatePolicies (RFC 5280, Section 4.2.1.4) without qualifiers.
func encodePolicies(policies []asn1.ObjectIdentifier) []byte {
	var b cryptobyte.Builder
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, policy := range policies {
			b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(policy) })
		}
	})
	return b.BytesOrPanic()
}

// checkPolicies refuses levels that do not exist, and identifiers that say what
// only evidence can, or the same of two levels.
func (p *Profile) checkPolicies() error {
	reserved := []asn1.ObjectIdentifier{oidVerifiedResidency, oidVerifiedFixed, oidVerifiedRestricted}
	for level := range p.AssurancePolicies {
		if !slices.Contains(attest.Assurances(), level) {
			return fmt.Errorf("assurance policies: there is no level %q, only %v", level, attest.Assurances())
		}
	}
	for _, level := range attest.Assurances() {
		own := p.AssurancePolicies[level]
		if own == nil {
			continue
		}
		if _, err := ParseOID(own.String()); err != nil {
			return fmt.Errorf("assurance policies: %w", err)
		}
		if slices.ContainsFunc(reserved, own.Equal) {
			return fmt.Errorf("assurance policies: %s has a meaning of its own or stands twice", own)
		}
		reserved = append(reserved, own)
	}
	return nil
}

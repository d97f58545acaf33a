package est

import (
	"encoding/asn1"

	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/enroll"
)

// attributesOf lays out what a profile likes a CSR to be. RFC 8951, Section 4
// has room for one kind of key, so it is the first that the profile lists; the
// others are taken all the same.
func attributesOf(p *enroll.Profile) *attributes {
	a := &attributes{}
	if p.ChannelBinding { // RFC 7030, Section 4.5.2: its mention makes linking mandatory
		a.bare = append(a.bare, oidChallengePassword)
	}
	if len(p.Keys) > 0 {
		a.key, a.signature = wishFor(p.Keys[0], p.RSABits)
	}
	// A client that reads the template reads nothing beside it, and would miss
	// that linking is wanted. So where it is, there is no template.
	if a.key.algorithm != nil && !p.ChannelBinding {
		a.template = &template{organization: p.Organization, key: a.key, usages: p.ExtKeyUsages}
	}
	return a
}

func wishFor(k ca.KeyType, rsaBits int) (keyWish, asn1.ObjectIdentifier) {
	switch k {
	case ca.P256:
		return keyWish{algorithm: oidECKey, curve: oidP256}, oidECDSAWithSHA256
	case ca.P384:
		return keyWish{algorithm: oidECKey, curve: oidP384}, oidECDSAWithSHA384
	case ca.Ed25519:
		return keyWish{algorithm: oidEd25519}, oidEd25519
	case ca.RSA:
		return keyWish{algorithm: oidRSAKey, bits: int64(rsaBits)}, oidRSAWithSHA256
	}
	return keyWish{}, nil
}

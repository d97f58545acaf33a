package main

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/ca/status"
	"github.com/hallmark-pki/hallmark/enroll"
)

// caProfiles are the configured profiles as the authority takes them.
func (c *Config) caProfiles(issuer *x509.Certificate) ([]ca.Profile, error) {
	var profiles []ca.Profile
	for name := range c.Profiles {
		p, err := c.caProfile(name, issuer)
		if err != nil {
			return nil, fmt.Errorf("profiles.%s: %w", name, err)
		}
		profiles = append(profiles, p)
	}
	return profiles, nil
}

func (c *Config) caProfile(name string, issuer *x509.Certificate) (p ca.Profile, err error) {
	from := c.Profiles[name]
	p = ca.Profile{
		Name: name, Lifetime: time.Duration(from.Lifetime), MaxLifetime: time.Duration(from.MaxLifetime),
		TrustDomain: c.TrustDomain, Path: from.Path, Organization: from.Organization, CommonName: from.CommonName,
		NoRevAvail: time.Duration(from.NoRevAvail),
		IssuerURL:  c.StatusURL + issuerPath,
		CRLURL:     c.crlURL(issuer),
		OCSPURL:    c.StatusURL + status.AnswerPath,
	}
	for _, k := range from.Keys {
		if err := addKey(&p, k); err != nil {
			return p, err
		}
	}
	for _, u := range from.ExtKeyUsage {
		usage, err := ca.ParseExtKeyUsage(u)
		if err != nil {
			return p, fmt.Errorf("ext_key_usage: %w", err)
		}
		p.ExtKeyUsages = append(p.ExtKeyUsages, usage)
	}
	if from.HardwareModule != "" {
		if p.HardwareModule, err = ca.ParseOID(from.HardwareModule); err != nil {
			return p, fmt.Errorf("hardware_module: %w", err)
		}
	}
	for level, policy := range from.AssurancePolicy {
		if p.AssurancePolicies == nil {
			p.AssurancePolicies = map[attest.Assurance]asn1.ObjectIdentifier{}
		}
		if p.AssurancePolicies[attest.Assurance(level)], err = ca.ParseOID(policy); err != nil {
			return p, fmt.Errorf("assurance_policies: %w", err)
		}
	}
	p = p.WithDefaults()
	return p, p.Check()
}

// crlURL has one set of shards for each issuer, so that a successor starts afresh.
func (c *Config) crlURL(issuer *x509.Certificate) string {
	return status.ListURL(c.StatusURL, ca.IssuerName(issuer.SubjectKeyId))
}

// addKey reads P-256, P-384, Ed25519 or RSA-BITS.
func addKey(p *ca.Profile, name string) error {
	bits, isRSA := strings.CutPrefix(name, "RSA-")
	if !isRSA {
		p.Keys = append(p.Keys, ca.KeyType(name))
		return nil
	}
	n, err := strconv.Atoi(bits)
	if err != nil {
		return fmt.Errorf("keys: %q is not like RSA-3072", name)
	}
	p.Keys, p.RSABits = append(p.Keys, ca.RSA), n
	return nil
}

// lastPCR is the last register that a PC's TPM has (TCG PC Client Platform
// TPM Profile, Section 4.6.2).
const lastPCR = 23

// checkEvidence finds what is wrong with a profile's terms for evidence.
func (p *Profile) checkEvidence() error {
	for field, is := range map[string]struct {
		value string
		words []string
	}{
		"evidence":          {p.Evidence, []string{"", enroll.Optional, enroll.Required}},
		"certify_freshness": {p.CertifyFreshness, []string{"", "quote_suffices", "require"}},
		"event_log":         {p.EventLog, []string{"", "optional", "require"}},
	} {
		if !slices.Contains(is.words, is.value) {
			return fmt.Errorf("%s: %q is neither %s nor %s", field, is.value, is.words[1], is.words[2])
		}
	}
	for i, pcr := range p.PCRs {
		if pcr < 0 || pcr > lastPCR || slices.Contains(p.PCRs[:i], pcr) {
			return fmt.Errorf("pcrs: %d is no register from 0 to %d, or stands twice", pcr, lastPCR)
		}
	}
	for _, bank := range p.PCRBanks {
		if bank != "sha256" && bank != "sha384" {
			return fmt.Errorf("pcr_banks: %q is neither sha256 nor sha384", bank)
		}
	}
	return nil
}

// enrollProfiles are the configured profiles as the walk takes them.
func (c *Config) enrollProfiles(issuer *x509.Certificate) (map[string]*enroll.Profile, error) {
	profiles := map[string]*enroll.Profile{}
	for name, from := range c.Profiles {
		p, err := c.caProfile(name, issuer)
		if err != nil {
			return nil, err
		}
		if err := from.checkEvidence(); err != nil {
			return nil, fmt.Errorf("profiles.%s: %w", name, err)
		}
		profiles[name] = &enroll.Profile{
			Profile:        &p,
			ChannelBinding: from.ChannelBinding, ServerKeygen: from.ServerKeygen,
			ExternalReenroll: from.ReenrollExternal == nil || *from.ReenrollExternal,
			TokenReenroll:    from.ReenrollToken,
			ReenrollGrace:    time.Duration(from.ReenrollGrace),
			RetryAfter:       time.Duration(from.RetryAfter),
			Wrap:             from.WrapBase64,
			Evidence:         from.Evidence, EvidenceOnRenew: from.EvidenceOnRenew,
			CertifyFresh: from.CertifyFreshness == "require", EventLogRequired: from.EventLog == "require",
			PCRs: slices.Sorted(slices.Values(from.PCRs)), Banks: from.PCRBanks,
		}
	}
	return profiles, nil
}

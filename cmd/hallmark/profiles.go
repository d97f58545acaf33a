package main

import (
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hallmark-pki/hallmark/ca"
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
		// One set of shards for each issuer, so that a successor starts afresh.
		CRLURL: c.StatusURL + "/crl/" + hex.EncodeToString(issuer.SubjectKeyId[:4]) + "/{shard}.crl",
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
	p = p.WithDefaults()
	return p, p.Check()
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

// enrollProfiles are the configured profiles as the walk takes them.
func (c *Config) enrollProfiles(issuer *x509.Certificate) (map[string]*enroll.Profile, error) {
	profiles := map[string]*enroll.Profile{}
	for name, from := range c.Profiles {
		p, err := c.caProfile(name, issuer)
		if err != nil {
			return nil, err
		}
		profiles[name] = &enroll.Profile{
			Profile:        &p,
			ChannelBinding: from.ChannelBinding, ServerKeygen: from.ServerKeygen,
			ExternalReenroll: from.ReenrollExternal == nil || *from.ReenrollExternal,
			TokenReenroll:    from.ReenrollToken,
			ReenrollGrace:    time.Duration(from.ReenrollGrace),
			RetryAfter:       time.Duration(from.RetryAfter),
			Wrap:             from.WrapBase64,
		}
	}
	return profiles, nil
}

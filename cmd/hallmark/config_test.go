package main

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/attest"
)

// anIssuer is all that profiles want to know of one.
var anIssuer = &x509.Certificate{SubjectKeyId: []byte{1, 2, 3, 4}}

// profilesOf reads a configuration, and its profiles as both rooms take them.
func profilesOf(t *testing.T, text string) (*Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := readConfig(path, options{})
	if err != nil {
		return nil, err
	}
	if _, err := c.caProfiles(anIssuer); err != nil {
		return nil, err
	}
	_, err = c.enrollProfiles(anIssuer)
	return c, err
}

// TestConfigurationOfEvidence has each mistake named by its field.
func TestConfigurationOfEvidence(t *testing.T) {
	for wrong, says := range map[string]string{
		"evidence: never":                            `evidence: "never" is neither optional nor required`,
		"evidence_on_renew: 7":                       "evidence_on_renew",
		"certify_freshness: maybe":                   `certify_freshness: "maybe" is neither quote_suffices nor require`,
		"event_log: required":                        `event_log: "required" is neither optional nor require`,
		"pcrs: [0, 24]":                              "pcrs: 24",
		"pcrs: [7, 7]":                               "pcrs: 7",
		"pcrs: [-1]":                                 "pcrs: -1",
		"pcr_banks: [sha1]":                          `pcr_banks: "sha1"`,
		"assurance_policies: {gold: 1.3.6}":          `no level "gold"`,
		"assurance_policies: {tpm: 2.25.x}":          "assurance_policies: ",
		"assurance_policies: {tpm: 2.23.133.11.1.1}": "a meaning of its own",
	} {
		if _, err := profilesOf(t, "profiles:\n  device:\n    "+wrong+"\n"); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v, want %s", wrong, err, says)
		}
	}
	for wrong, says := range map[string]string{
		"nonce_expiry: 2h": "nonce_expiry is at most 1h", "nonce_expiry: -1s": "nonce_expiry", "nonces_per_device: -1": "rates are not negative", "no_such: 1": "unknown field",
	} {
		if _, err := profilesOf(t, "attestation:\n  "+wrong+"\n"); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v, want %s", wrong, err, says)
		}
	}
}

// TestEvidenceAsConfigured reads every field, and its default.
func TestEvidenceAsConfigured(t *testing.T) {
	c, err := profilesOf(t, `
attestation: {dir: tpms, makers: false, nonce_expiry: 90s, nonces_per_device: 6, nonces_per_source: 12, ak_lifetime: 7d}
profiles:
  device: {evidence: required, evidence_on_renew: true, certify_freshness: require, event_log: require, pcrs: [7, 0, 4], pcr_banks: [sha384],
    assurance_policies: {tpm: 1.3.6.1.4.1.99999.1, tpm-affirmed: 1.3.6.1.4.1.99999.2}}
  plain: {}
`)
	if err != nil {
		t.Fatal(err)
	}
	profiles, err := c.enrollProfiles(anIssuer)
	if err != nil {
		t.Fatal(err)
	}
	p, plain := profiles["device"], profiles["plain"]
	if p.Evidence != "required" || !p.EvidenceOnRenew || !p.CertifyFresh || !p.EventLogRequired || !slices.Equal(p.PCRs, []int{0, 4, 7}) || !slices.Equal(p.Banks, []string{"sha384"}) {
		t.Errorf("got %+v", p)
	}
	if p.AssurancePolicies[attest.AssuredTPM].String() != "1.3.6.1.4.1.99999.1" || len(p.AssurancePolicies) != 2 {
		t.Errorf("got %v", p.AssurancePolicies)
	}
	if plain.Evidence != "" || plain.EvidenceOnRenew || plain.CertifyFresh || plain.EventLogRequired || plain.PCRs != nil || plain.Banks != nil || plain.AssurancePolicies != nil {
		t.Errorf("got %+v", plain)
	}
	if keys := c.attestationKeys(anIssuer); keys.Lifetime != 7*24*time.Hour || !strings.Contains(keys.CRLURL, "01020304") || keys.IssuerURL == "" {
		t.Errorf("got %+v", keys)
	}
	if a := c.Attestation; a.Dir != "tpms" || *a.Makers || time.Duration(a.NonceExpiry) != 90*time.Second {
		t.Errorf("got %+v", a)
	}
}

// TestNonceLimits are per minute, by device and by source, and off with all the others.
func TestNonceLimits(t *testing.T) {
	c, err := profilesOf(t, "attestation: {nonces_per_device: 2, nonces_per_source: 3}\n")
	if err != nil {
		t.Fatal(err)
	}
	l := c.nonceLimiter()
	for range 2 {
		l.Charge("192.0.2.1", "gw-1")
	}
	if _, ok := l.Allow("", "gw-1"); ok {
		t.Error("a device may have a third nonce")
	}
	if wait, ok := l.Allow("192.0.2.1", "gw-2"); !ok || wait != 0 {
		t.Error("its neighbour may have none")
	}
	l.Charge("192.0.2.1", "gw-2")
	if wait, ok := l.Allow("192.0.2.1", ""); ok || wait > 20*time.Second {
		t.Errorf("a fourth for the source: %v, %s", ok, wait)
	}
	for _, off := range []string{"limits: {rates: false}\n"} {
		if c, err = profilesOf(t, off); err != nil || c.nonceLimiter() != nil || c.limiter() != nil {
			t.Errorf("%s: %v", off, err)
		}
	}
	o := options{dir: t.TempDir(), rates: "off"}
	if c, err = o.read(); err != nil || c.nonceLimiter() != nil {
		t.Errorf("--rate-limits=off: %v", err)
	}
}

// A mistake in a profile is found when the file is read, before a first start
// has made an authority.
func TestWrongProfilesAreFoundFirst(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	for wrong, says := range map[string]string{
		"evidence: sometimes": `evidence: "sometimes"`, "lifetime: 1s": "lifetime", "keys: [RSA-many]": "RSA-many",
	} {
		if err := os.WriteFile(path, []byte("profiles:\n  device:\n    "+wrong+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readConfig(path, options{}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}

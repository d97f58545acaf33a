package ca

import (
	"encoding/asn1"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hallmark-pki/hallmark/attest"
)

// KeyType is a kind of device key that a profile may allow.
type KeyType string

// The key types. There are no others: curves outside this list and explicit
// curve parameters are refused before any profile is asked.
const (
	P256    KeyType = "P-256"
	P384    KeyType = "P-384"
	Ed25519 KeyType = "Ed25519"
	RSA     KeyType = "RSA" // of at least Profile.RSABits
)

// Profile says what certificates of one kind look like. Names and lifetime
// come from here and from the register; from the request comes only the key.
type Profile struct {
	Name string // how requests name it; a-z 0-9 and hyphens

	Lifetime    time.Duration // from issue to notAfter when nobody asks for less; default 24 h
	MaxLifetime time.Duration // the longest that policy may choose; default Lifetime
	Backdate    time.Duration // how long before issue notBefore lies, for slow clocks; default 1 min, at most 1 h

	Keys    []KeyType // default all four
	RSABits int       // least size of an RSA modulus; default and least 2048

	ExtKeyUsages []asn1.ObjectIdentifier // default clientAuth and serverAuth (SPIFFE X.509-SVID, Section 4.4, wants both)

	TrustDomain    string                // of the SPIFFE ID, such as fleet.example; required
	Path           string                // of the SPIFFE ID, with {id} for the device; default device/{id}
	Organization   string                // O of the subject; default none
	CommonName     bool                  // also write the id as CN, for services that read only that
	HardwareModule asn1.ObjectIdentifier // hwType of a hardwareModuleName (RFC 4108, Section 5); nil is none

	NoRevAvail time.Duration // lifetimes up to this carry noRevAvail (RFC 9608) instead of CRL pointers; default 24 h
	CRLURL     string        // http URL with {shard}; required when a certificate may outlive NoRevAvail
	CRLShards  int           // how many shards there are; default 64, at most 65536
	OCSPURL    string        // http URL; default none
	IssuerURL  string        // http URL of the issuing certificate (AIA caIssuers); default none

	AssurancePolicies map[attest.Assurance]asn1.ObjectIdentifier // certificate policies of the operator's own; default none
}

// The extended key usages that have names here.
var (
	oidServerAuth = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1}
	oidClientAuth = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}
	oidCMCRA      = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 28}
)

// ParseExtKeyUsage reads clientAuth, serverAuth or a dotted object identifier.
func ParseExtKeyUsage(s string) (asn1.ObjectIdentifier, error) {
	switch s {
	case "clientAuth":
		return oidClientAuth, nil
	case "serverAuth":
		return oidServerAuth, nil
	}
	return ParseOID(s)
}

// ParseOID reads a dotted object identifier.
func ParseOID(s string) (asn1.ObjectIdentifier, error) {
	var oid asn1.ObjectIdentifier
	for _, arc := range strings.Split(s, ".") {
		n := 0
		if arc == "" || len(arc) > 9 || len(arc) > 1 && arc[0] == '0' {
			return nil, fmt.Errorf("%q is not a dotted object identifier such as 1.3.6.1.5.5.7.3.2", s)
		}
		for _, c := range arc {
			if c < '0' || c > '9' {
				return nil, fmt.Errorf("%q is not a dotted object identifier such as 1.3.6.1.5.5.7.3.2", s)
			}
			n = n*10 + int(c-'0')
		}
		oid = append(oid, n)
	}
	if len(oid) < 2 || oid[0] > 2 || oid[0] < 2 && oid[1] > 39 {
		return nil, fmt.Errorf("%q is not an object identifier", s)
	}
	return oid, nil
}

// DefaultCRLShards is how many lists there are, where a profile does not say.
const DefaultCRLShards = 64

// WithDefaults returns the profile with its zero fields filled in.
func (p Profile) WithDefaults() Profile {
	orDuration(&p.Lifetime, 24*time.Hour)
	orDuration(&p.MaxLifetime, p.Lifetime)
	orDuration(&p.Backdate, time.Minute)
	orDuration(&p.NoRevAvail, 24*time.Hour)
	if len(p.Keys) == 0 {
		p.Keys = []KeyType{P256, P384, Ed25519, RSA}
	}
	if p.RSABits == 0 {
		p.RSABits = minRSABits
	}
	if len(p.ExtKeyUsages) == 0 {
		p.ExtKeyUsages = []asn1.ObjectIdentifier{oidClientAuth, oidServerAuth}
	}
	if p.Path == "" {
		p.Path = "device/{id}"
	}
	if p.CRLShards == 0 {
		p.CRLShards = DefaultCRLShards
	}
	return p
}

func orDuration(d *time.Duration, value time.Duration) {
	if *d == 0 {
		*d = value
	}
}

var (
	profileName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)
	trustDomain = regexp.MustCompile(`^[a-z0-9._-]{1,255}$`) // SPIFFE-ID, Section 2.1
	segment     = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)    // SPIFFE-ID, Section 2.2
)

// Check returns what is wrong with the profile, after its defaults are filled
// in, as a sentence that names the field.
func (p *Profile) Check() error {
	for _, check := range []func() error{p.checkLifetimes, p.checkKeys, p.checkNames, p.checkURLs, p.checkPolicies} {
		if err := check(); err != nil {
			return fmt.Errorf("profile %q: %w", p.Name, err)
		}
	}
	return nil
}

func (p *Profile) checkLifetimes() error {
	switch {
	case p.Lifetime < time.Minute:
		return fmt.Errorf("lifetime %s is under a minute", p.Lifetime)
	case p.MaxLifetime < p.Lifetime:
		return fmt.Errorf("max lifetime %s is under the lifetime %s", p.MaxLifetime, p.Lifetime)
	case p.MaxLifetime > 825*24*time.Hour:
		return fmt.Errorf("max lifetime %s is over 825 days", p.MaxLifetime)
	case p.Backdate < 0 || p.Backdate > time.Hour:
		return fmt.Errorf("backdate %s is not between 0 and 1h", p.Backdate)
	case p.NoRevAvail < 0 || p.NoRevAvail > 7*24*time.Hour:
		return fmt.Errorf("noRevAvail threshold %s is not between 0 and 7 days", p.NoRevAvail)
	}
	return nil
}

func (p *Profile) checkKeys() error {
	for i, k := range p.Keys {
		if k != P256 && k != P384 && k != Ed25519 && k != RSA {
			return fmt.Errorf("keys: %q is none of %s, %s, %s, %s", k, P256, P384, Ed25519, RSA)
		}
		if slices.Contains(p.Keys[:i], k) {
			return fmt.Errorf("keys: %s stands twice", k)
		}
	}
	if p.RSABits < minRSABits || p.RSABits > maxRSABits {
		return fmt.Errorf("RSA bits %d is not between %d and %d", p.RSABits, minRSABits, maxRSABits)
	}
	// SPIFFE X.509-SVID, Section 4.4: where there are extended key usages, these two are among them.
	for i, usage := range p.ExtKeyUsages {
		if slices.ContainsFunc(p.ExtKeyUsages[:i], usage.Equal) {
			return fmt.Errorf("extended key usages: %s stands twice", usage)
		}
	}
	if !slices.ContainsFunc(p.ExtKeyUsages, oidClientAuth.Equal) {
		return fmt.Errorf("extended key usages: clientAuth is missing, without which a device cannot renew")
	}
	return nil
}

func (p *Profile) checkNames() error {
	if !profileName.MatchString(p.Name) {
		return fmt.Errorf("name: want up to 63 of a-z 0-9 and hyphen, starting with a letter or digit")
	}
	if !trustDomain.MatchString(p.TrustDomain) {
		return fmt.Errorf("trust domain %q: want up to 255 of a-z 0-9 . _ -", p.TrustDomain)
	}
	if strings.Count(p.Path, "{id}") != 1 {
		return fmt.Errorf("path %q: want {id} exactly once, such as device/{id}", p.Path)
	}
	for _, s := range strings.Split(p.Path, "/") {
		if s = strings.Replace(s, "{id}", "x", 1); !segment.MatchString(s) || s == "." || s == ".." {
			return fmt.Errorf("path %q: segments have only A-Z a-z 0-9 . _ - and are neither empty nor only dots", p.Path)
		}
	}
	if len(p.Path) > 512 {
		return fmt.Errorf("path is longer than 512 characters")
	}
	if err := checkName(p.Organization); err != nil || len([]rune(p.Organization)) > 64 {
		return fmt.Errorf("organization %q: want up to 64 printable characters", p.Organization)
	}
	if p.HardwareModule != nil {
		if _, err := ParseOID(p.HardwareModule.String()); err != nil {
			return fmt.Errorf("hardware module: %w", err)
		}
	}
	return nil
}

func (p *Profile) checkURLs() error {
	if p.CRLShards < 1 || p.CRLShards > 65536 {
		return fmt.Errorf("CRL shards %d is not between 1 and 65536", p.CRLShards)
	}
	if p.MaxLifetime > p.NoRevAvail && p.CRLURL == "" {
		return fmt.Errorf("CRL URL is needed because certificates may live %s, longer than %s (noRevAvail)", p.MaxLifetime, p.NoRevAvail)
	}
	if p.CRLURL != "" && p.CRLShards > 1 && !strings.Contains(p.CRLURL, "{shard}") {
		return fmt.Errorf("CRL URL %q: want {shard} in it, because there are %d shards", p.CRLURL, p.CRLShards)
	}
	for field, text := range map[string]string{"CRL URL": p.CRLURL, "OCSP URL": p.OCSPURL, "issuer URL": p.IssuerURL} {
		if text == "" {
			continue
		}
		u, err := url.Parse(strings.ReplaceAll(text, "{shard}", "0"))
		// RFC 5280, Sections 4.2.1.13 and 4.2.2.1: plain http, or checking status would need status.
		if err != nil || u.Scheme != "http" || u.Host == "" || u.User != nil || checkIA5(text) != nil {
			return fmt.Errorf("%s %q: want an http:// URL", field, text)
		}
	}
	return nil
}

// allows returns whether the profile takes keys of that type and size.
func (p *Profile) allows(t KeyType, bits int) bool {
	return slices.Contains(p.Keys, t) && (t != RSA || bits >= p.RSABits)
}

package main

import (
	"cmp"
	"crypto/x509"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/hallmark-pki/hallmark/enroll/est"
	"github.com/hallmark-pki/hallmark/internal/limit"
	"github.com/hallmark-pki/hallmark/operators"
)

// Config is config.yaml. Relative paths are relative to the data directory.
// Every field has a default; an unknown field is an error.
type Config struct {
	Listen       string             `yaml:"listen"`        // TLS: EST, API, log. Default :8443
	StatusListen string             `yaml:"status_listen"` // plain HTTP: issuers, health, metrics. Default :8080
	StatusURL    string             `yaml:"status_url"`    // how others reach StatusListen; stands in certificates. Default http://HOST:PORT
	Hosts        []string           `yaml:"hosts"`         // further names and addresses in the server's certificate
	Organization string             `yaml:"organization"`  // O in the names of the authorities and, where a profile says so, of devices. Default Hallmark
	TrustDomain  string             `yaml:"trust_domain"`  // of the SPIFFE IDs in device certificates. Default hallmark.internal
	Database     DatabaseConfig     `yaml:"database"`
	Keys         KeysConfig         `yaml:"keys"`
	Policy       PolicyConfig       `yaml:"policy"`
	Operators    OperatorsConfig    `yaml:"operators"`
	Log          LogConfig          `yaml:"log"`
	Limits       LimitsConfig       `yaml:"limits"`
	Attestation  AttestationConfig  `yaml:"attestation"`
	Revocation   RevocationConfig   `yaml:"revocation"`
	DecisionLog  DecisionLogConfig  `yaml:"decision_log"`
	Default      string             `yaml:"default_profile"` // what the unlabelled paths use. Default device
	Profiles     map[string]Profile `yaml:"profiles"`        // Default: one profile called device
}

// DatabaseConfig says where the state is kept.
type DatabaseConfig struct {
	URL string `yaml:"url"` // postgres://…; ${NAME} is taken from the environment. Default: SQLite in hallmark.db
}

// KeysConfig names the signing keys by URI (see package ca/keys).
type KeysConfig struct {
	Root    string `yaml:"root"`    // Default file:keys/root.key; needed only while an issuing CA is made
	Issuing string `yaml:"issuing"` // Default file:keys/issuing.key
	Policy  string `yaml:"policy"`  // signs the rules that gateways fetch; ECDSA on P-256. Default file:keys/policy.key
}

// PolicyConfig says where the rules are and how long they may take.
type PolicyConfig struct {
	Dir      string   `yaml:"dir"`      // Default policy
	Deadline Duration `yaml:"deadline"` // for one decision. Default 1s

	Keys   []BundleKey   `yaml:"keys"`   // by which bundles that come signed are verified
	Scope  string        `yaml:"scope"`  // that those signatures have to be for. Default none
	Source *BundleSource `yaml:"source"` // a bundle server to pull rules from. Default none
}

// BundleKey is a public key of those who sign bundles.
type BundleKey struct {
	ID   string `yaml:"id"`   // as the signatures name it
	File string `yaml:"file"` // PEM: a public key (ECDSA on P-256 or P-384, RSA), or a certificate over one
}

// BundleSource is a bundle server as OPA's agents know it. It is read anew on SIGHUP, and so are the keys.
type BundleSource struct {
	Name          string            `yaml:"name"`           // of the author of proposals: bundle:NAME. Default main
	URL           string            `yaml:"url"`            // of the bundle, or of what resource is below
	Resource      string            `yaml:"resource"`       // path of the bundle below url. Default none
	Headers       map[string]string `yaml:"headers"`        // sent along; ${NAME} is taken from the environment
	BearerFile    string            `yaml:"bearer_file"`    // a token, read each time
	ClientCert    string            `yaml:"client_cert"`    // shown to the server; PEM
	ClientKey     string            `yaml:"client_key"`     // its key; PEM
	CA            string            `yaml:"ca"`             // whom to trust; PEM. Default the system's authorities
	PollMin       Duration          `yaml:"poll_min"`       // between two looks, at least. Default 60s
	PollMax       Duration          `yaml:"poll_max"`       // and at most. Default twice that
	LongPoll      Duration          `yaml:"long_poll"`      // how long the server may wait for news before it answers. Default 0: it is not asked to
	AllowUnsigned bool              `yaml:"allow_unsigned"` // take bundles without a signature. Default false
}

// OperatorsConfig says how people are known.
type OperatorsConfig struct {
	CertificateLifetime Duration   `yaml:"certificate_lifetime"` // of operators' certificates. Default 24h
	OIDC                OIDCConfig `yaml:"oidc"`                 // where they sign in
}

// LogConfig shapes the server's own log, on standard error.
type LogConfig struct {
	Format string `yaml:"format"` // text or json. Default text
	Level  string `yaml:"level"`  // debug, info, warn or error. Default info
}

// LimitsConfig bounds what strangers can cost us. Rates count refusals only, at
// EST and at the API together: a whole factory line enrols behind one address,
// and some clients (libest) are refused once before each enrolment, because they
// ask without credentials first.
type LimitsConfig struct {
	Rates         *bool   `yaml:"rates"`          // rate limits on. Default true
	SourceRate    float64 `yaml:"source_rate"`    // refusals per second of one address (or IPv6 /64). Default 50
	SourceBurst   int     `yaml:"source_burst"`   // refusals of one address at once. Default 2000
	IdentityRate  float64 `yaml:"identity_rate"`  // refusals per second of one client certificate, or of one user name from one address. Default 2
	IdentityBurst int     `yaml:"identity_burst"` // refusals of one identity at once. Default 200
	Connections   int     `yaml:"connections"`    // open at once, per listener. Default 4096
	Requests      int     `yaml:"requests"`       // in work at once; more are answered 503. Default 512
}

// AttestationConfig says how TPMs are believed.
type AttestationConfig struct {
	Dir             string   `yaml:"dir"`               // advisories, revoked keys, intermediates, CRLs. Default attestation
	Makers          *bool    `yaml:"makers"`            // trust the TPM makers whose roots this program carries. Default true
	NonceExpiry     Duration `yaml:"nonce_expiry"`      // how long a nonce may be answered. Default 5m
	NoncesPerDevice int      `yaml:"nonces_per_device"` // a minute. Default 60
	NoncesPerSource int      `yaml:"nonces_per_source"` // a minute, of one address (or IPv6 /64). Default 600
	AKLifetime      Duration `yaml:"ak_lifetime"`       // of the certificates of attestation keys. Default 24h
}

// RevocationConfig says for how long what is said of revocation is good.
type RevocationConfig struct {
	ListLife     Duration `yaml:"list_life"`      // of revocation lists; another is made when half is over. Default 2h
	RootListLife Duration `yaml:"root_list_life"` // of the root's, which is made whenever its key is at hand. Default 90d
	AnswerLife   Duration `yaml:"answer_life"`    // of OCSP answers. Default 1h
}

// check finds lives that nobody could want.
func (c *RevocationConfig) check() error {
	for field, life := range map[string]Duration{"list_life": c.ListLife, "root_list_life": c.RootListLife, "answer_life": c.AnswerLife} {
		if time.Duration(life) < minStatusLife || time.Duration(life) > maxStatusLife {
			return fmt.Errorf("revocation: %s is %s to %s", field, minStatusLife, maxStatusLife)
		}
	}
	return nil
}

// Bounds of what is said of revocation: long enough that it reaches who asks, short enough to end.
const (
	minStatusLife = time.Minute
	maxStatusLife = 366 * 24 * time.Hour
)

// Profile is one enrolment profile: what certificates under it look like and
// what it takes to get one.
type Profile struct {
	Lifetime         Duration `yaml:"lifetime"`          // Default 24h
	MaxLifetime      Duration `yaml:"max_lifetime"`      // what policy may ask for at most. Default: lifetime
	Keys             []string `yaml:"keys"`              // P-256, P-384, Ed25519, RSA-2048 (that size and larger). Default all four
	ExtKeyUsage      []string `yaml:"ext_key_usage"`     // clientAuth, serverAuth or an OID. Default both
	Path             string   `yaml:"path"`              // of the SPIFFE ID, with {id} for the device. Default device/{id}
	CommonName       bool     `yaml:"common_name"`       // also write the device id as CN. Default false
	Organization     string   `yaml:"organization"`      // O in the subject. Default none
	HardwareModule   string   `yaml:"hardware_module"`   // hwType OID of a hardwareModuleName SAN. Default none
	NoRevAvail       Duration `yaml:"no_rev_avail"`      // lifetimes up to this need no revocation list (RFC 9608). Default 24h
	ChannelBinding   bool     `yaml:"channel_binding"`   // CSR must be linked to the TLS connection. Default false
	ServerKeygen     bool     `yaml:"server_keygen"`     // server may make keys. Default false
	ReenrollExternal *bool    `yaml:"reenroll_external"` // factory certificate may use simplereenroll. Default true
	ReenrollToken    bool     `yaml:"reenroll_token"`    // so may a token. Default false
	ReenrollGrace    Duration `yaml:"reenroll_grace"`    // expired certificates may renew themselves for this long. Default 0
	RetryAfter       Duration `yaml:"retry_after"`       // what a held device is told to wait. Default 30s
	WrapBase64       bool     `yaml:"wrap_base64"`       // break EST answers at 64 characters for every client. Default only for libest

	Evidence         string            `yaml:"evidence"`           // of a TPM: optional or required. Default optional
	EvidenceOnRenew  bool              `yaml:"evidence_on_renew"`  // also with each renewal. Default false
	CertifyFreshness string            `yaml:"certify_freshness"`  // require, or quote_suffices. Default quote_suffices
	EventLog         string            `yaml:"event_log"`          // beside a quote: optional or require. Default optional
	PCRs             []int             `yaml:"pcrs"`               // registers to quote. Default 0 to 7, 9, 14
	PCRBanks         []string          `yaml:"pcr_banks"`          // banks taken: sha256, sha384. Default both
	AssurancePolicy  map[string]string `yaml:"assurance_policies"` // certificate policy OIDs by level: software, idevid, tpm, tpm-affirmed. Default none
}

// Duration is a time.Duration that also reads days, as in 7d.
type Duration time.Duration

// UnmarshalText reads 90s, 24h, 7d …
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := parseDuration(string(text))
	*d = Duration(parsed)
	return err
}

// parseDuration is time.ParseDuration that also takes whole days.
func parseDuration(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		hours, err := time.ParseDuration(days + "h")
		return 24 * hours, err
	}
	return time.ParseDuration(s)
}

//go:embed config.default.yaml
var defaultConfig string

// readConfig reads a configuration file strictly; one that does not exist is
// all defaults. The addresses among the flags stand over it.
func readConfig(path string, o options) (*Config, error) {
	var c Config
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		if err := yaml.UnmarshalWithOptions(text, &c, yaml.Strict()); err != nil {
			return nil, fmt.Errorf("%s:\n%s", path, yaml.FormatError(err, false, true))
		}
	}
	c.Listen, c.StatusListen = cmp.Or(o.listen, c.Listen), cmp.Or(o.statusListen, c.StatusListen)
	c.fill()
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &c, nil
}

// fill puts the defaults in.
func (c *Config) fill() {
	set := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	set(&c.Listen, ":8443")
	set(&c.StatusListen, ":8080")
	set(&c.Organization, "Hallmark")
	set(&c.TrustDomain, "hallmark.internal")
	set(&c.Keys.Root, "file:keys/root.key")
	set(&c.Keys.Issuing, "file:keys/issuing.key")
	set(&c.Keys.Policy, "file:keys/policy.key")
	set(&c.Policy.Dir, "policy")
	set(&c.Attestation.Dir, "attestation")
	set(&c.Log.Format, "text")
	set(&c.Log.Level, "info")
	set(&c.Default, "device")
	if c.StatusURL == "" {
		_, port, _ := net.SplitHostPort(c.StatusListen)
		c.StatusURL = "http://" + net.JoinHostPort(hostName(), port)
	}
	if c.Policy.Deadline == 0 {
		c.Policy.Deadline = Duration(time.Second)
	}
	if s := c.Policy.Source; s != nil {
		s.fill()
	}
	if c.Attestation.NoncesPerDevice == 0 {
		c.Attestation.NoncesPerDevice = 60
	}
	if c.Attestation.NoncesPerSource == 0 {
		c.Attestation.NoncesPerSource = 600
	}
	if c.Operators.CertificateLifetime == 0 {
		c.Operators.CertificateLifetime = Duration(operators.DefaultLife)
	}
	c.Operators.OIDC.fill()
	life := func(field *Duration, value time.Duration) {
		if *field == 0 {
			*field = Duration(value)
		}
	}
	life(&c.Revocation.ListLife, 2*time.Hour)
	life(&c.Revocation.RootListLife, 90*24*time.Hour)
	life(&c.Revocation.AnswerLife, time.Hour)
	if c.Limits.Connections == 0 {
		c.Limits.Connections = 4096
	}
	if c.Limits.Requests == 0 {
		c.Limits.Requests = 512
	}
	if len(c.Profiles) == 0 {
		c.Profiles = map[string]Profile{"device": {}}
	}
	c.Database.URL = os.Expand(c.Database.URL, os.Getenv)
}

// check finds what the types cannot say.
func (c *Config) check() error {
	if _, ok := c.Profiles[c.Default]; !ok {
		return fmt.Errorf("default_profile: there is no profile called %q", c.Default)
	}
	for name := range c.Profiles {
		if err := est.CheckLabel(name); err != nil {
			return fmt.Errorf("profiles: %q: %w", name, err)
		}
	}
	// Profiles want no more of an issuer than a key identifier, and any will do to see
	// whether they are sound: before a first start makes one.
	if _, err := c.enrollProfiles(&x509.Certificate{SubjectKeyId: make([]byte, 20)}); err != nil {
		return err
	}
	if l := c.Limits; l.SourceRate < 0 || l.SourceBurst < 0 || l.IdentityRate < 0 || l.IdentityBurst < 0 {
		return errors.New("limits: rates and bursts are not negative; rates: false switches them off")
	}
	if a := c.Attestation; a.NoncesPerDevice < 0 || a.NoncesPerSource < 0 || a.NonceExpiry < 0 || time.Duration(a.NonceExpiry) > maxNonceExpiry {
		return fmt.Errorf("attestation: rates are not negative, and nonce_expiry is at most %s", maxNonceExpiry)
	}
	if life := time.Duration(c.Operators.CertificateLifetime); life < minOperatorLife || life > maxOperatorLife {
		return fmt.Errorf("operators: certificate_lifetime is %s to %s", minOperatorLife, maxOperatorLife)
	}
	if err := c.Revocation.check(); err != nil {
		return err
	}
	if err := c.Policy.check(); err != nil {
		return err
	}
	if err := c.DecisionLog.check(); err != nil {
		return err
	}
	if err := c.Operators.OIDC.check(); err != nil {
		return err
	}
	if c.Log.Format != "text" && c.Log.Format != "json" {
		return fmt.Errorf("log.format: %q is neither text nor json", c.Log.Format)
	}
	return nil
}

// Bounds of operators' certificates: long enough to be renewed in time, short
// enough that a forgotten one dies.
const (
	minOperatorLife = 10 * time.Minute
	maxOperatorLife = 90 * 24 * time.Hour
)

// maxNonceExpiry bounds what has to be remembered of used nonces.
const maxNonceExpiry = time.Hour

// limited reports whether rate limits are on.
func (c *Config) limited() bool { return c.Limits.Rates == nil || *c.Limits.Rates }

// limiter counts refusals as configured; nil if rate limits are off.
func (c *Config) limiter() *limit.Limiter {
	l := c.Limits
	if !c.limited() {
		return nil
	}
	return limit.New(limit.Config{
		SourceRate: l.SourceRate, SourceBurst: l.SourceBurst, IdentityRate: l.IdentityRate, IdentityBurst: l.IdentityBurst,
	})
}

// path makes a path of the configuration absolute.
func (h *house) path(p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(h.dir, p)
}

// hostName is this machine's name, or localhost.
func hostName() string {
	if name, err := os.Hostname(); err == nil && name != "" {
		return name
	}
	return "localhost"
}

package main

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hallmark-pki/hallmark/ca/keys"
	"github.com/hallmark-pki/hallmark/policy/rego"
	"github.com/hallmark-pki/hallmark/policy/release"
	"github.com/hallmark-pki/hallmark/policy/source"
)

// Bounds of looking at a bundle server.
const (
	leastPoll = time.Second
	mostPoll  = 24 * time.Hour
	mostWait  = 10 * time.Minute
)

func (s *BundleSource) fill() {
	if s.Name == "" {
		s.Name = "main"
	}
	if s.PollMin == 0 {
		s.PollMin = Duration(time.Minute)
	}
	if s.PollMax == 0 {
		s.PollMax = 2 * s.PollMin
	}
}

// check finds what is wrong with where signed rules come from.
func (c *PolicyConfig) check() error {
	seen := map[string]bool{}
	for _, k := range c.Keys {
		if k.ID == "" || k.File == "" || seen[k.ID] {
			return errors.New("policy.keys: each key has an id of its own and a file")
		}
		seen[k.ID] = true
	}
	if c.Source == nil {
		return nil
	}
	if err := c.Source.check(len(c.Keys) > 0); err != nil {
		return fmt.Errorf("policy.source: %w", err)
	}
	return nil
}

func (s *BundleSource) check(keys bool) error {
	u, err := url.Parse(s.target())
	least, most, wait := time.Duration(s.PollMin), time.Duration(s.PollMax), time.Duration(s.LongPoll)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return errors.New("url is a URL such as https://bundles.example.com/hallmark.tar.gz")
	case u.Scheme == "http" && (s.AllowUnsigned || s.BearerFile != "" || len(s.Headers) > 0):
		return errors.New("over http there are only signed bundles, and no credentials: anybody can read and change what is sent")
	case !regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,49}$`).MatchString(s.Name):
		return errors.New("name has 1 to 50 letters, digits, dots, hyphens and underscores")
	case !keys && !s.AllowUnsigned:
		return errors.New("policy.keys has no key to verify bundles with; allow_unsigned: true takes whatever the server sends")
	case (s.ClientCert == "") != (s.ClientKey == ""):
		return errors.New("client_cert and client_key go together")
	case least < leastPoll || most < least || most > mostPoll:
		return fmt.Errorf("poll_min is %s or more, and poll_max between that and %s", leastPoll, mostPoll)
	case wait < 0 || wait > mostWait || wait%time.Second != 0:
		return fmt.Errorf("long_poll is up to %s, in whole seconds", mostWait)
	}
	return nil
}

// target is the URL of the bundle.
func (s *BundleSource) target() string {
	if s.Resource == "" {
		return s.URL
	}
	return strings.TrimSuffix(s.URL, "/") + "/" + strings.TrimPrefix(s.Resource, "/")
}

// header is what each request carries besides what HTTP needs.
func (s *BundleSource) header(bearer string) (http.Header, error) {
	h := http.Header{}
	for _, name := range slices.Sorted(maps.Keys(s.Headers)) {
		h.Set(name, os.Expand(s.Headers[name], os.Getenv))
	}
	if bearer == "" {
		return h, nil
	}
	token, err := os.ReadFile(bearer)
	if err != nil {
		return nil, fmt.Errorf("reading bearer_file: %w", err)
	}
	h.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	return h, nil
}

// openPolicyKeys opens the key that signs the rules for gateways, and those that verify what others have signed.
func (h *house) openPolicyKeys(ctx context.Context) error {
	signer, err := h.policyKey(ctx)
	if err != nil {
		h.log.Error("there is no key to sign rules with: gateways get none", "key", h.config.Keys.Policy, "error", err)
	} else if id, err := rego.KeyID(signer.Public()); err != nil {
		return fmt.Errorf("keys.policy: %w", err)
	} else {
		h.seal = &rego.Seal{Key: signer, KeyID: id}
	}
	trust, err := h.bundleTrust(&h.config.Policy)
	if err != nil {
		return err
	}
	h.puller.trust.Store(trust)
	h.puller.turned = make(chan struct{}, 1)
	return nil
}

// policyKey opens the key, or makes it: data directories of earlier builds have none.
func (h *house) policyKey(ctx context.Context) (crypto.Signer, error) {
	ring := keys.Ring{Dir: h.dir}
	signer, err := ring.Open(ctx, h.config.Keys.Policy)
	if !errors.Is(err, fs.ErrNotExist) {
		return signer, err
	}
	if signer, err = ring.Create(ctx, h.config.Keys.Policy, keys.P256); err == nil {
		h.log.Info("made a key that signs the rules for gateways; give it to all replicas", "key", h.config.Keys.Policy)
		return signer, nil
	}
	if other, again := ring.Open(ctx, h.config.Keys.Policy); again == nil {
		return other, nil // another process was faster
	}
	return nil, err
}

// bundleTrust reads the keys that bundles are verified with.
func (h *house) bundleTrust(c *PolicyConfig) (*rego.Trust, error) {
	t := &rego.Trust{Keys: map[string]crypto.PublicKey{}, Scope: c.Scope}
	for _, k := range c.Keys {
		text, err := os.ReadFile(h.path(k.File))
		if err != nil {
			return nil, fmt.Errorf("policy.keys: %w", err)
		}
		if t.Keys[k.ID], err = rego.ParseKey(text); err != nil {
			return nil, fmt.Errorf("policy.keys: %s: %w", k.File, err)
		}
	}
	return t, nil
}

// language reads proposed rules. A bundle that comes signed has to be signed by a key
// that is configured, or by this server: as who edits the rules in force may have fetched them.
func (h *house) language() release.Rego {
	return release.Rego{Trust: func() []*rego.Trust {
		configured := *h.puller.trust.Load()
		configured.Unsigned = true
		all := []*rego.Trust{&configured}
		if h.seal != nil {
			all = append(all, &rego.Trust{Keys: map[string]crypto.PublicKey{h.seal.KeyID: h.seal.Key.Public()}})
		}
		return all
	}}
}

// openSource makes the source that the configuration asks for; nil if it asks for none.
func (h *house) openSource(c *PolicyConfig, trust *rego.Trust) (*source.Source, error) {
	s := c.Source
	if s == nil {
		return nil, nil
	}
	var roots *x509.CertPool
	if s.CA != "" {
		text, err := os.ReadFile(h.path(s.CA))
		if err != nil {
			return nil, fmt.Errorf("policy.source.ca: %w", err)
		}
		if roots = x509.NewCertPool(); !roots.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("policy.source.ca: there is no certificate in %s", s.CA)
		}
	}
	var shown *tls.Certificate
	if s.ClientCert != "" {
		pair, err := tls.LoadX509KeyPair(h.path(s.ClientCert), h.path(s.ClientKey))
		if err != nil {
			return nil, fmt.Errorf("policy.source.client_cert: %w", err)
		}
		shown = &pair
	}
	bearer := s.BearerFile
	if bearer != "" {
		bearer = h.path(bearer)
	}
	own := *trust
	own.Unsigned = s.AllowUnsigned
	return &source.Source{
		Name: s.Name, URL: s.target(), Client: source.NewClient(roots, shown), Header: func() (http.Header, error) { return s.header(bearer) },
		Trust: &own, Least: time.Duration(s.PollMin), Most: time.Duration(s.PollMax), Wait: time.Duration(s.LongPoll),
		Policy: h.policy, Releases: h.releases, Proposals: h.db, Now: time.Now, Log: h.log, Observe: h.metrics.looked,
	}, nil
}

// repull reads policy.keys and policy.source anew. What cannot be read changes nothing.
func (h *house) repull() error {
	config, err := h.options.read()
	if err != nil {
		return err
	}
	trust, err := h.bundleTrust(&config.Policy)
	if err != nil {
		return err
	}
	next, err := h.openSource(&config.Policy, trust)
	if err != nil {
		return err
	}
	h.puller.trust.Store(trust)
	h.puller.turn(next)
	return nil
}

// puller runs one source at a time, and another one when the configuration has changed.
type puller struct {
	trust   atomic.Pointer[rego.Trust]
	current atomic.Pointer[source.Source]
	turned  chan struct{}
}

// turn sets the source from now on; nil: none.
func (p *puller) turn(next *source.Source) {
	p.current.Store(next)
	select {
	case p.turned <- struct{}{}:
	default: // it is to look anyway
	}
}

// status is how the source stands; nil: there is none.
func (p *puller) status() *release.SourceStatus {
	s := p.current.Load()
	if s == nil {
		return nil
	}
	at := s.Status()
	return &at
}

func (p *puller) run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := p.runOne(ctx, p.current.Load()); err != nil {
			return err
		}
	}
	return nil
}

// runOne runs a source until there is another one.
func (p *puller) runOne(ctx context.Context, s *source.Source) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	if s != nil {
		go func() { ended <- s.Run(ctx) }()
		defer s.Client.CloseIdleConnections()
	}
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	case <-p.turned:
		cancel()
	}
	if s == nil {
		return nil
	}
	return <-ended
}

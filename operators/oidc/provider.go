// Package oidc signs operators in at an OpenID Connect provider: it sends them
// there, takes what comes back, and says who they are in the provider's words once
// every claim has been checked. Whether the register knows them, and what they
// may do, is not for a provider to say and is not looked at here.
//
// Nothing of a sign-in that is under way is kept on the server: it travels,
// sealed, with the browser or the command line that has begun it.
package oidc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/hallmark-pki/hallmark/internal/fault"
)

// Config says which provider, and who we are to it.
type Config struct {
	Issuer   string        // https URL, byte for byte as the provider writes it
	ClientID string        // that this server is registered under
	Callback string        // our redirect URI, as it is registered
	Scopes   []string      // beyond openid
	MaxAge   time.Duration // how long ago somebody may have authenticated at the provider; 0: does not matter
	ACR      []string      // authentication contexts of which one is needed; none: does not matter
	Trust    Trust         // what may change while the server runs

	// Secret returns 32 bytes that all replicas share, and nobody else. What travels is sealed with it.
	Secret func(ctx context.Context) ([]byte, error)

	// Spend marks a sign-in as used until the time given; one that is marked already is a Conflict.
	Spend func(ctx context.Context, id [32]byte, until time.Time) error

	Now func() time.Time // nil means time.Now
	Log *slog.Logger     // nil means slog.Default
}

// Trust is what the two sides know each other by.
type Trust struct {
	ClientSecret string         // empty: the provider knows us as a public client
	Roots        *x509.CertPool // of the provider's TLS certificate; nil means the system's
}

// Check returns what is wrong with the issuer, the client, the callback or the limits.
func (c *Config) Check() error {
	for name, text := range map[string]string{"issuer": c.Issuer, "url": c.Callback} {
		u, err := url.Parse(text)
		// OpenID Connect Discovery 1.0, Section 4.3, and Core 1.0, Section 2: https, no query, no fragment.
		if err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			return fmt.Errorf("%s: want an https URL without query and fragment, not %q", name, text)
		}
	}
	switch {
	case c.ClientID == "":
		return errors.New("client_id: the name that this server is registered under at the provider is missing")
	case c.MaxAge < 0:
		return errors.New("max_age: cannot be negative")
	case slices.ContainsFunc(append(slices.Clone(c.Scopes), c.ACR...), func(s string) bool { return s == "" || strings.ContainsAny(s, " \t\r\n") }):
		return errors.New("scopes and acr_values are lists of words without spaces")
	}
	return nil
}

// Provider is one identity provider. It works from the moment that it can be
// reached; Run sees to that.
type Provider struct {
	config  Config
	trust   atomic.Pointer[Trust]
	known   atomic.Pointer[endpoints] // nil: it was not reached yet
	changed chan struct{}             // holds a token if trust has changed
	calls   chan struct{}             // bounds what strangers make us ask of the provider at once
}

// endpoints are what the provider has told of itself.
type endpoints struct {
	oauth    oauth2.Config
	verifier *oidc.IDTokenVerifier
	client   *http.Client
}

// mostCalls is how many sign-ins wait for the provider at once; more are told to come back.
const mostCalls = 8

// New returns the provider, which has not been asked anything yet.
func New(c Config) (*Provider, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	p := &Provider{config: c, changed: make(chan struct{}, 1), calls: make(chan struct{}, mostCalls)}
	p.trust.Store(&c.Trust)
	return p, nil
}

// Issuer is whose words the provider's are.
func (p *Provider) Issuer() string { return p.config.Issuer }

// Renew puts another client secret and other roots in place of those known.
func (p *Provider) Renew(t Trust) {
	p.trust.Store(&t)
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// How often the provider is asked what it is: again and again until it answers,
// and then often enough that keys which it has withdrawn are not trusted for long.
const (
	firstPause = time.Second
	mostPause  = time.Minute
	refresh    = time.Hour
)

// Run keeps what is known of the provider up to date until ctx ends. A provider
// that cannot be reached is tried again; what was known of it before stays.
func (p *Provider) Run(ctx context.Context) error {
	pause := firstPause
	for {
		wait := refresh
		err := p.discover(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			p.config.Log.WarnContext(ctx, "the identity provider cannot be reached; nobody signs in, certificates work as ever", "issuer", p.config.Issuer, "error", err)
			wait = pause/2 + rand.N(pause/2)
			pause = min(2*pause, mostPause)
		default:
			pause = firstPause
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		case <-p.changed:
			timer.Stop()
		}
	}
}

// discover asks the provider what it is (OpenID Connect Discovery 1.0).
func (p *Provider) discover(ctx context.Context) error {
	trust := p.trust.Load()
	client := newClient(trust.Roots)
	found, err := oidc.NewProvider(oidc.ClientContext(ctx, client), p.config.Issuer)
	if err != nil {
		return err
	}
	for name, at := range map[string]string{"authorization_endpoint": found.Endpoint().AuthURL, "token_endpoint": found.Endpoint().TokenURL} {
		if u, err := url.Parse(at); err != nil || u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("the provider's %s is %q, and no https URL", name, at)
		}
	}
	if p.known.Load() == nil {
		p.config.Log.InfoContext(ctx, "the identity provider answers: operators can sign in", "issuer", p.config.Issuer)
	}
	p.known.Store(&endpoints{
		client: client,
		oauth: oauth2.Config{ClientID: p.config.ClientID, ClientSecret: trust.ClientSecret, Endpoint: found.Endpoint(),
			RedirectURL: p.config.Callback, Scopes: append([]string{oidc.ScopeOpenID}, p.config.Scopes...)},
		verifier: found.VerifierContext(oidc.ClientContext(context.WithoutCancel(ctx), client), &oidc.Config{
			ClientID: p.config.ClientID, SupportedSigningAlgs: algorithms,
			Now: func() time.Time { return p.config.Now().Add(-skew) }, // what has only just expired by our clock is let pass
		}),
	})
	return nil
}

// errUnreachable is what everybody is told who signs in while the provider is away.
func (p *Provider) errUnreachable(err error) error {
	return &fault.Error{Kind: fault.Busy, Code: "provider_unavailable", After: 10 * time.Second, Err: err,
		Says: "the identity provider " + p.config.Issuer + " cannot be reached just now: try again, or come with an operator certificate"}
}

// reached returns what is known of the provider.
func (p *Provider) reached() (*endpoints, error) {
	if known := p.known.Load(); known != nil {
		return known, nil
	}
	return nil, p.errUnreachable(errors.New("it has not answered since this server was started"))
}

// turn waits for nothing: it returns an error if too many ask the provider already.
func (p *Provider) turn() (done func(), err error) {
	select {
	case p.calls <- struct{}{}:
		return func() { <-p.calls }, nil
	default:
		return nil, &fault.Error{Kind: fault.Busy, Code: "sign_ins_busy", Says: "too many sign in at the same moment; try again", After: time.Second}
	}
}

const (
	// longestAnswer bounds what a provider may send, and longestCall how long it may take.
	longestAnswer = 1 << 20
	longestCall   = 10 * time.Second
)

// newClient makes the HTTP client for the provider. It follows no redirects:
// where the provider is, its own document says.
func newClient(roots *x509.CertPool) *http.Client {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, MaxIdleConns: 2, IdleConnTimeout: 30 * time.Second,
		TLSHandshakeTimeout: longestCall, MaxResponseHeaderBytes: 64 << 10, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}}
	return &http.Client{Transport: bounded{transport}, Timeout: longestCall,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// bounded cuts answers off that are too long.
type bounded struct{ next http.RoundTripper }

// RoundTrip makes one call.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := b.next.RoundTrip(r)
	if err == nil {
		response.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(response.Body, longestAnswer), response.Body}
	}
	return response, err
}

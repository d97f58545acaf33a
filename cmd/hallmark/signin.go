package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/hallmark-pki/hallmark/operators"
	"github.com/hallmark-pki/hallmark/operators/oidc"
)

// OIDCConfig says at which OpenID Connect provider operators sign in.
type OIDCConfig struct {
	Issuer           string   `yaml:"issuer"`             // https URL, byte for byte as the provider writes it. Default none: nobody signs in
	ClientID         string   `yaml:"client_id"`          // that this server is registered under there
	ClientSecretFile string   `yaml:"client_secret_file"` // file with the client's secret. Default none: a public client
	URL              string   `yaml:"url"`                // https URL of this server, as browsers reach it
	CAFile           string   `yaml:"ca_file"`            // certificates to trust the provider by, PEM. Default the system's
	Scopes           []string `yaml:"scopes"`             // to ask for, beyond openid. Default email
	MaxAge           Duration `yaml:"max_age"`            // how long ago somebody may have authenticated there. Default any time
	ACRValues        []string `yaml:"acr_values"`         // authentication contexts of which one is needed. Default any
	SessionIdle      Duration `yaml:"session_idle"`       // a session that goes unused for so long ends. Default 30m
	SessionLifetime  Duration `yaml:"session_lifetime"`   // a session ends after so long. Default 8h
}

// Bounds of sessions: a day's work, and no shorter than it takes to do something.
const (
	minSession = time.Minute
	maxSession = 24 * time.Hour
)

// fill puts the defaults in.
func (o *OIDCConfig) fill() {
	if o.SessionIdle == 0 {
		o.SessionIdle = Duration(operators.DefaultIdle)
	}
	if o.SessionLifetime == 0 {
		o.SessionLifetime = Duration(operators.DefaultLength)
	}
	if o.Scopes == nil {
		o.Scopes = []string{"email"}
	}
}

// check finds what the types cannot say.
func (o *OIDCConfig) check() error {
	for name, d := range map[string]Duration{"session_idle": o.SessionIdle, "session_lifetime": o.SessionLifetime} {
		if time.Duration(d) < minSession || time.Duration(d) > maxSession {
			return fmt.Errorf("operators.oidc: %s is %s to %s", name, minSession, maxSession)
		}
	}
	if o.Issuer == "" {
		if o.ClientID != "" || o.ClientSecretFile != "" || o.URL != "" || o.CAFile != "" {
			return errors.New("operators.oidc: issuer is missing: the URL of the identity provider")
		}
		return nil
	}
	if o.URL == "" {
		return errors.New("operators.oidc: url is missing: how browsers reach this server, such as https://ca.example.com:8443")
	}
	if u, err := url.Parse(o.URL); err != nil || strings.Trim(u.Path, "/") != "" {
		return fmt.Errorf("operators.oidc: url: want no path in it, not %q", o.URL)
	}
	provider := o.provider()
	if err := provider.Check(); err != nil {
		return fmt.Errorf("operators.oidc: %w", err)
	}
	return nil
}

// provider is what the configuration says of the provider.
func (o *OIDCConfig) provider() oidc.Config {
	return oidc.Config{Issuer: o.Issuer, ClientID: o.ClientID, Callback: strings.TrimSuffix(o.URL, "/") + "/api/v1/login/callback",
		Scopes: o.Scopes, MaxAge: time.Duration(o.MaxAge), ACR: o.ACRValues}
}

// signIn is how long sessions live, and whose word counts.
func (o *OIDCConfig) signIn() operators.SignIn {
	return operators.SignIn{Issuer: o.Issuer, Idle: time.Duration(o.SessionIdle), Length: time.Duration(o.SessionLifetime)}
}

// openProvider gets ready to sign operators in. The provider need not answer yet.
func (h *house) openProvider(context.Context) error {
	o := &h.config.Operators.OIDC
	h.people.SignIn = o.signIn()
	if o.Issuer == "" {
		return nil
	}
	config := o.provider()
	var err error
	if config.Trust, err = h.providerTrust(); err != nil {
		return err
	}
	config.Spend, config.Now, config.Log = h.db.Spend, time.Now, h.log
	config.Secret = func(ctx context.Context) ([]byte, error) { return h.db.Secret(ctx, "sign-in") }
	h.provider, err = oidc.New(config)
	return err
}

// providerTrust reads what the provider and this server know each other by.
func (h *house) providerTrust() (oidc.Trust, error) {
	o := &h.config.Operators.OIDC
	var t oidc.Trust
	if o.ClientSecretFile != "" {
		text, err := os.ReadFile(h.path(o.ClientSecretFile))
		if err != nil {
			return t, fmt.Errorf("operators.oidc: client_secret_file: %w", err)
		}
		if t.ClientSecret = strings.TrimRight(string(text), "\r\n"); t.ClientSecret == "" {
			return t, fmt.Errorf("operators.oidc: client_secret_file: %s is empty", h.path(o.ClientSecretFile))
		}
	}
	if o.CAFile != "" {
		text, err := os.ReadFile(h.path(o.CAFile))
		if err != nil {
			return t, fmt.Errorf("operators.oidc: ca_file: %w", err)
		}
		t.Roots = x509.NewCertPool()
		if !t.Roots.AppendCertsFromPEM(text) {
			return t, fmt.Errorf("operators.oidc: ca_file: %s holds no certificate in PEM", h.path(o.CAFile))
		}
	}
	return t, nil
}

// reloadProvider reads the client's secret and the provider's certificates anew.
func (h *house) reloadProvider() {
	if h.provider == nil {
		return
	}
	trust, err := h.providerTrust()
	if err != nil {
		h.log.Error("identity provider not reloaded: what was known before stays", "error", err)
		return
	}
	h.provider.Renew(trust)
	h.log.Info("client secret and certificates for the identity provider reloaded")
}

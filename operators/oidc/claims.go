package oidc

import (
	"context"
	"crypto/subtle"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/operators"
)

// algorithms may sign ID tokens: those with a private key that the provider has
// to itself. With HS256 the key would be our own client secret, and "none" proves nothing.
var algorithms = []string{
	oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA, oidc.PS256, oidc.PS384, oidc.PS512, oidc.RS256, oidc.RS384, oidc.RS512,
}

// skew is how far the provider's clock may be from ours.
const skew = time.Minute

// Bounds of what is kept of a token.
const (
	longestSubject = 255 // OpenID Connect Core 1.0, Section 2
	longestWord    = 100 // of amr and acr
	mostMethods    = 16
)

// claims are those of an ID token that the library leaves to us.
type claims struct {
	Party    string   `json:"azp"`
	AuthTime int64    `json:"auth_time"` // seconds since 1970; 0: not said
	AMR      []string `json:"amr"`
	ACR      string   `json:"acr"`
	Email    string   `json:"email"`
	Verified any      `json:"email_verified"` // some say it in a string, which is not believed
}

// login is what the token says of somebody, once all of it holds (OpenID Connect
// Core 1.0, Section 3.1.3.7). With a nonce the token has to carry the same.
func (p *Provider) login(ctx context.Context, at *endpoints, t *oauth2.Token, nonce string) (operators.Login, error) {
	raw, _ := t.Extra("id_token").(string)
	if raw == "" {
		return operators.Login{}, refused("there is no ID token in it; does the provider know the scope openid?", nil)
	}
	// Signature, algorithm, iss, aud, exp and nbf.
	token, err := at.verifier.Verify(oidc.ClientContext(ctx, at.client), raw)
	if err != nil {
		return operators.Login{}, refused("its ID token does not hold", err)
	}
	var c claims
	if err := token.Claims(&c); err != nil {
		return operators.Login{}, refused("the claims of its ID token cannot be read", err)
	}
	now := p.config.Now()
	switch {
	case nonce != "" && subtle.ConstantTimeCompare([]byte(token.Nonce), []byte(nonce)) != 1:
		return operators.Login{}, refused("its ID token is for another sign-in (nonce)", nil)
	case c.Party == "" && len(token.Audience) > 1, c.Party != "" && c.Party != p.config.ClientID:
		return operators.Login{}, refused("its ID token was made for somebody else (azp)", nil)
	case token.IssuedAt.After(now.Add(skew)):
		return operators.Login{}, refused("its ID token is from the future (iat); is this server's clock right?", nil)
	case token.AccessTokenHash != "" && token.VerifyAccessToken(t.AccessToken) != nil: // Section 3.1.3.8
		return operators.Login{}, refused("its two tokens do not belong together (at_hash)", nil)
	case token.Subject == "" || len(token.Subject) > longestSubject || !printable(token.Subject):
		return operators.Login{}, refused(fmt.Sprintf("its ID token names nobody in 1 to %d printable bytes (sub)", longestSubject), nil)
	}
	l := operators.Login{Issuer: token.Issuer, Subject: token.Subject, ACR: c.ACR, Time: now.UTC().Truncate(time.Second)}
	if c.AuthTime > 0 {
		l.Time = time.Unix(c.AuthTime, 0).UTC()
	}
	if err := p.strong(&l, &c, now); err != nil {
		return operators.Login{}, err
	}
	if c.Verified == true && len(c.Email) <= longestSubject && printable(c.Email) {
		l.Email = strings.ToLower(c.Email)
	}
	return l, nil
}

// strong checks how somebody has authenticated at the provider, and when.
func (p *Provider) strong(l *operators.Login, c *claims, now time.Time) error {
	switch {
	case l.Time.After(now.Add(skew)):
		return refused("somebody is said to have authenticated in the future (auth_time)", nil)
	case p.config.MaxAge > 0 && c.AuthTime == 0:
		return refused("max_age is configured, and it does not say when somebody authenticated (auth_time)", nil)
	case p.config.MaxAge > 0 && now.Sub(l.Time) > p.config.MaxAge+skew:
		return fault.New(fault.Unauthenticated, "authentication_too_old", "you authenticated at the identity provider too long ago: sign in there again")
	case len(p.config.ACR) > 0 && !slices.Contains(p.config.ACR, c.ACR):
		return fault.New(fault.Unauthenticated, "authentication_too_weak", "the identity provider does not say that you authenticated as strongly as this server asks for (acr)")
	case len(c.ACR) > longestWord || !printable(c.ACR) || len(c.AMR) > mostMethods:
		return refused("what it says of how somebody authenticated is too long (acr, amr)", nil)
	}
	for _, method := range c.AMR {
		if method == "" || len(method) > longestWord || !printable(method) {
			return refused("what it says of how somebody authenticated is no list of words (amr)", nil)
		}
	}
	l.AMR = c.AMR
	return nil
}

// refused is an answer of the provider's that does not hold.
func refused(says string, cause error) error {
	return fault.Wrap(fault.Unauthenticated, "token_refused", "the identity provider's answer was refused: "+says, cause)
}

// printable reports whether text survives databases, logs and terminals.
func printable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, unicode.IsControl)
}

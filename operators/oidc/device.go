package oidc

import (
	"context"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/operators"
)

// Device is a sign-in by somebody whose browser is on another machine (RFC 8628).
type Device struct {
	Handle   string `json:"handle"`                              // to ask for the outcome with
	UserCode string `json:"user_code"`                           // to be typed at the address
	Address  string `json:"verification_uri"`                    // of the provider
	Complete string `json:"verification_uri_complete,omitempty"` // the same with the code in it
	Interval int    `json:"interval"`                            // seconds between two questions
	Expires  int    `json:"expires_in"`                          // seconds
}

// waiting is what the handle holds.
type waiting struct {
	Code  string    `json:"c"`
	Until time.Time `json:"t"`
}

// deviceGrant is the grant type (RFC 8628, Section 3.4).
const deviceGrant = "urn:ietf:params:oauth:grant-type:device_code"

// BeginDevice asks the provider for a code that somebody types elsewhere.
func (p *Provider) BeginDevice(ctx context.Context) (Device, error) {
	at, err := p.reached()
	if err != nil {
		return Device{}, err
	}
	if at.oauth.Endpoint.DeviceAuthURL == "" {
		return Device{}, fault.New(fault.Conflict, "no_device_flow", "the identity provider has no sign-in for devices without a browser: sign in where there is one")
	}
	done, err := p.turn()
	if err != nil {
		return Device{}, err
	}
	defer done()
	var options []oauth2.AuthCodeOption
	if at.oauth.ClientSecret != "" { // RFC 8628, Section 3.1: who has a secret shows it here too
		options = append(options, oauth2.SetAuthURLParam("client_secret", at.oauth.ClientSecret))
	}
	answer, err := at.oauth.DeviceAuth(oidc.ClientContext(ctx, at.client), options...)
	if err != nil {
		return Device{}, p.exchangeFailed(err)
	}
	until := p.config.Now().Add(Patience)
	if !answer.Expiry.IsZero() && answer.Expiry.Before(until) {
		until = answer.Expiry
	}
	d := Device{UserCode: bounds(answer.UserCode), Address: bounds(answer.VerificationURI), Complete: bounds(answer.VerificationURIComplete),
		Interval: int(max(answer.Interval, 1)), Expires: int(until.Sub(p.config.Now()).Seconds())}
	d.Handle, err = p.seal(ctx, "device", waiting{answer.DeviceCode, until})
	return d, err
}

// Poll returns who has signed in with the code. As long as nobody has, that is
// an error of kind Held, which says how long to wait before the next question.
func (p *Provider) Poll(ctx context.Context, handle string) (operators.Login, error) {
	var w waiting
	if !p.unseal(ctx, "device", handle, &w) || !p.config.Now().Before(w.Until) {
		return operators.Login{}, fault.New(fault.Unauthenticated, "login_unknown", "this sign-in is unknown or took too long: begin again")
	}
	// The grant is another one than that of Exchange; a parameter without a value
	// counts as left out (RFC 6749, Section 3.2).
	login, err := p.redeem(ctx, "", "", oauth2.SetAuthURLParam("grant_type", deviceGrant), oauth2.SetAuthURLParam("device_code", w.Code))
	if err == nil { // there are providers that answer the same code twice
		err = p.spend(ctx, w.Code, w.Until)
	}
	return login, err
}

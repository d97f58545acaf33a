package oidc

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/operators"
)

// Patience is how long somebody may take to sign in at the provider.
const Patience = 10 * time.Minute

// Errand is what somebody signs in for. The zero Errand is a browser that
// wants to go nowhere in particular.
type Errand struct {
	Next string `json:"next,omitempty"` // path on this server to go to afterwards

	// A command line that listens on this port of its own machine (RFC 8252, Section 7.3)
	// gets a code there, for which whoever knows the verifier of the challenge (RFC 7636, S256) gets a session.
	Port      int    `json:"port,omitempty"`
	Challenge string `json:"challenge,omitempty"`
	State     string `json:"state,omitempty"` // the command line's own, sent back as it is
}

// attempt is a sign-in under way.
type attempt struct {
	Errand   Errand    `json:"e,omitzero"`
	State    string    `json:"s"`
	Nonce    string    `json:"n"`
	Verifier string    `json:"v"` // of our own challenge to the provider
	Until    time.Time `json:"t"`
}

// Begin returns where to send the browser, and what it has to bring back: the
// attempt, sealed. Nobody else's browser can then end what this one began.
func (p *Provider) Begin(ctx context.Context, e Errand) (to, sealed string, err error) {
	at, err := p.reached()
	if err != nil {
		return "", "", err
	}
	a := attempt{Errand: e, State: rand.Text(), Nonce: rand.Text(), Verifier: oauth2.GenerateVerifier(), Until: p.config.Now().Add(Patience)}
	if sealed, err = p.seal(ctx, "attempt", a); err != nil {
		return "", "", err
	}
	options := []oauth2.AuthCodeOption{oauth2.S256ChallengeOption(a.Verifier), oidc.Nonce(a.Nonce)}
	if p.config.MaxAge > 0 {
		options = append(options, oauth2.SetAuthURLParam("max_age", fmt.Sprint(int(p.config.MaxAge.Seconds()))))
	}
	if len(p.config.ACR) > 0 {
		options = append(options, oauth2.SetAuthURLParam("acr_values", strings.Join(p.config.ACR, " ")))
	}
	return at.oauth.AuthCodeURL(a.State, options...), sealed, nil
}

// End returns who has signed in, and what for. The query is what the provider
// has sent the browser back with, sealed is what Begin gave it. It works once.
func (p *Provider) End(ctx context.Context, sealed string, query url.Values) (operators.Login, Errand, error) {
	var a attempt
	if !p.unseal(ctx, "attempt", sealed, &a) || !p.config.Now().Before(a.Until) {
		return operators.Login{}, Errand{}, fault.New(fault.Unauthenticated, "login_unknown",
			"this browser has not begun to sign in here, or took too long: begin again")
	}
	// The state ties the answer to the browser that asked (RFC 6749, Section 10.12).
	if subtle.ConstantTimeCompare([]byte(query.Get("state")), []byte(a.State)) != 1 {
		return operators.Login{}, Errand{}, fault.New(fault.Unauthenticated, "login_state", "this answer belongs to another sign-in than the one that this browser has begun: begin again")
	}
	if iss := query.Get("iss"); iss != "" && iss != p.config.Issuer { // RFC 9207, Section 2.4
		return operators.Login{}, a.Errand, refused("it is from another provider (iss)", nil)
	}
	if err := p.spend(ctx, a.State, a.Until); err != nil {
		return operators.Login{}, a.Errand, err
	}
	if code := query.Get("error"); code != "" {
		return operators.Login{}, a.Errand, fault.New(fault.Unauthenticated, "provider_refused",
			"the identity provider did not sign you in: "+bounds(code)+" "+bounds(query.Get("error_description")))
	}
	login, err := p.redeem(ctx, a.Nonce, query.Get("code"), oauth2.VerifierOption(a.Verifier))
	return login, a.Errand, err
}

// spend sees to it that a sign-in ends once.
func (p *Provider) spend(ctx context.Context, secret string, until time.Time) error {
	err := p.config.Spend(ctx, sha256.Sum256([]byte("sign-in "+secret)), until)
	if fault.Is(err, fault.Conflict) {
		err = fault.New(fault.Unauthenticated, "login_used", "this sign-in has ended already: begin again")
	}
	return err
}

// redeem turns the provider's code into who has signed in.
func (p *Provider) redeem(ctx context.Context, nonce, code string, options ...oauth2.AuthCodeOption) (operators.Login, error) {
	at, err := p.reached()
	if err != nil {
		return operators.Login{}, err
	}
	done, err := p.turn()
	if err != nil {
		return operators.Login{}, err
	}
	defer done()
	token, err := at.oauth.Exchange(oidc.ClientContext(ctx, at.client), code, options...)
	if err != nil {
		return operators.Login{}, p.exchangeFailed(err)
	}
	return p.login(ctx, at, token, nonce)
}

// exchangeFailed says whose fault it is that there is no token.
func (p *Provider) exchangeFailed(err error) error {
	answer, answered := errors.AsType[*oauth2.RetrieveError](err)
	switch {
	case !answered:
		return p.errUnreachable(err)
	case answer.ErrorCode == "authorization_pending" || answer.ErrorCode == "slow_down": // RFC 8628, Section 3.5
		return &fault.Error{Kind: fault.Held, Code: "authorization_pending", Says: "nobody has signed in with this code yet", After: slowly}
	case answer.ErrorCode == "access_denied" || answer.ErrorCode == "expired_token":
		return fault.Wrap(fault.Unauthenticated, "provider_refused", "the identity provider did not sign you in: "+answer.ErrorCode, withoutBody(answer))
	case answer.ErrorCode == "invalid_client" || answer.ErrorCode == "unauthorized_client":
		return fault.Wrap(fault.Busy, "provider_knows_us_not", "the identity provider refuses this server: its client_id or its secret is wrong (operators.oidc of config.yaml)", withoutBody(answer))
	case answer.Response != nil && answer.Response.StatusCode >= 500:
		return p.errUnreachable(withoutBody(answer))
	}
	return fault.Wrap(fault.Unauthenticated, "code_refused", "the identity provider does not take its code back: begin again", withoutBody(answer))
}

// slowly is how long a command line waits between two questions for who has
// typed its code: what RFC 8628, Section 3.5 takes for granted.
const slowly = 5 * time.Second

// withoutBody is the error without what the provider wrote, which may hold anything.
func withoutBody(e *oauth2.RetrieveError) error {
	status := 0
	if e.Response != nil {
		status = e.Response.StatusCode
	}
	return fmt.Errorf("the token endpoint answered %d %s", status, bounds(e.ErrorCode))
}

// bounds is text of the provider's that may be repeated.
func bounds(text string) string {
	text = strings.ToValidUTF8(text, "")
	if !printable(text) {
		return ""
	}
	if len(text) > 200 {
		text = strings.ToValidUTF8(text[:200], "") + "…"
	}
	return text
}

// longestSealed bounds what a browser has to carry (RFC 6265, Section 6.1).
const longestSealed = 3900

// seal writes v so that only replicas of this server read it, and only as what it is.
func (p *Provider) seal(ctx context.Context, kind string, v any) (string, error) {
	plain, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	aead, err := p.sealing(ctx)
	if err != nil {
		return "", err
	}
	text := base64.RawURLEncoding.EncodeToString(aead.Seal(nil, nil, plain, []byte(kind)))
	if len(text) > longestSealed {
		return "", fault.New(fault.Malformed, "login_too_long", "what the sign-in is to remember is too long")
	}
	return text, nil
}

// unseal reads what seal wrote, and reports whether it is ours.
func (p *Provider) unseal(ctx context.Context, kind, text string, v any) bool {
	if len(text) > longestSealed {
		return false
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return false
	}
	aead, err := p.sealing(ctx)
	if err != nil {
		return false
	}
	plain, err := aead.Open(nil, nil, raw, []byte(kind))
	return err == nil && json.Unmarshal(plain, v) == nil
}

func (p *Provider) sealing(ctx context.Context) (cipher.AEAD, error) {
	secret, err := p.config.Secret(ctx)
	if err != nil {
		return nil, err
	}
	key, err := hkdf.Key(sha256.New, secret, nil, "hallmark sign-in", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

package oidc

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"

	"github.com/hallmark-pki/hallmark/internal/dextest"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/operators"
)

const callback = "https://ca.test:8443/api/v1/login/callback"

// spent is what a database does with one sign-in.
type spent struct{ seen sync.Map }

func (s *spent) Spend(_ context.Context, id [32]byte, _ time.Time) error {
	if _, used := s.seen.LoadOrStore(id, true); used {
		return fault.New(fault.Conflict, "nonce_used", "used")
	}
	return nil
}

// settings are those of a server that knows the provider.
func settings(d *dextest.Dex) Config {
	secret := make([]byte, 32)
	rand.Read(secret)
	return Config{Issuer: d.URL, ClientID: dextest.ClientID, Callback: callback, Scopes: []string{"email"},
		Trust:  Trust{ClientSecret: dextest.ClientSecret, Roots: d.Roots},
		Secret: func(context.Context) ([]byte, error) { return secret, nil }, Spend: new(spent).Spend, Log: slog.New(slog.DiscardHandler)}
}

// connected is a Provider that has reached its provider.
func connected(t *testing.T, c Config) *Provider {
	t.Helper()
	p, err := New(c)
	check(t, err)
	check(t, p.discover(t.Context()))
	return p
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantCode(t testing.TB, err error, code string) {
	t.Helper()
	if err == nil || fault.Of(err).Code != code {
		t.Errorf("got error %v (%s), want %s", err, fault.Of(err).Code, code)
	}
}

// visit is one browser's way to the provider and back.
func visit(t *testing.T, d *dextest.Dex, p *Provider, e Errand) (sealed string, back url.Values) {
	t.Helper()
	to, sealed, err := p.Begin(t.Context(), e)
	check(t, err)
	location, page := d.SignIn(d.Browser(nil), to, dextest.Password)
	if location == nil || !strings.HasPrefix(location.String(), callback+"?") {
		t.Fatalf("the provider sends the browser to %v: %s", location, page)
	}
	return sealed, location.Query()
}

func TestSignIn(t *testing.T) {
	d := dextest.Start(t, callback)
	c := settings(d)
	p := connected(t, c)
	sealed, back := visit(t, d, p, Errand{Next: "/somewhere"})

	other := connected(t, settings(d)) // with another secret
	for name, attempt := range map[string]struct {
		p      *Provider
		sealed string
		state  string
		code   string
	}{
		"no cookie":         {p, "", back.Get("state"), "login_unknown"},
		"a forged cookie":   {p, sealed[:len(sealed)-4] + "AAAA", back.Get("state"), "login_unknown"},
		"another server's":  {other, sealed, back.Get("state"), "login_unknown"},
		"another browser's": {p, sealed, "other", "login_state"},
		"no state":          {p, sealed, "", "login_state"},
	} {
		_, _, err := attempt.p.End(t.Context(), attempt.sealed, url.Values{"state": {attempt.state}, "code": {back.Get("code")}})
		if err == nil || fault.Of(err).Code != attempt.code {
			t.Errorf("%s: %v, want %s", name, err, attempt.code)
		}
	}
	login, errand, err := p.End(t.Context(), sealed, back)
	check(t, err)
	if login.Issuer != d.URL || login.Subject == "" || login.Email != dextest.Email || login.Time.IsZero() || errand.Next != "/somewhere" {
		t.Errorf("login %+v, errand %+v", login, errand)
	}
	_, _, err = p.End(t.Context(), sealed, back)
	wantCode(t, err, "login_used")

	// The same code with a sign-in that has not ended: the provider refuses it.
	_, sealed, err = p.Begin(t.Context(), Errand{})
	check(t, err)
	var a attempt
	p.unseal(t.Context(), "attempt", sealed, &a)
	_, _, err = p.End(t.Context(), sealed, url.Values{"state": {a.State}, "code": {back.Get("code")}})
	wantCode(t, err, "code_refused")
	if p.unseal(t.Context(), "device", sealed, &a) {
		t.Error("a sign-in is taken for one of another kind")
	}

	// What the provider says in its place.
	for query, code := range map[string]string{"error=access_denied&error_description=no%0Aone": "provider_refused", "iss=https://other.test&code=x": "token_refused"} {
		_, sealed, err := p.Begin(t.Context(), Errand{})
		check(t, err)
		p.unseal(t.Context(), "attempt", sealed, &a)
		values, _ := url.ParseQuery(query + "&state=" + a.State)
		_, _, err = p.End(t.Context(), sealed, values)
		wantCode(t, err, code)
	}

	// The patience ends.
	late := settings(d)
	late.Secret, late.Now = c.Secret, func() time.Time { return time.Now().Add(Patience) }
	sealed, back = visit(t, d, p, Errand{})
	_, _, err = connected(t, late).End(t.Context(), sealed, back)
	wantCode(t, err, "login_unknown")

	// Our own secret is wrong.
	wrong := settings(d)
	wrong.Secret, wrong.Trust.ClientSecret = c.Secret, "guess"
	_, _, err = connected(t, wrong).End(t.Context(), sealed, back)
	wantCode(t, err, "provider_knows_us_not")
	if strings.Contains(err.Error(), "guess") {
		t.Error("the error tells the secret")
	}
}

// TestKeysAndOutages: the provider comes late, changes its keys, goes away and comes again.
func TestKeysAndOutages(t *testing.T) {
	d := dextest.Start(t, callback)
	d.Stop()
	p, err := New(settings(d))
	check(t, err)
	_, _, err = p.Begin(t.Context(), Errand{})
	wantCode(t, err, "provider_unavailable")
	if err := p.discover(t.Context()); err == nil {
		t.Fatal("a provider that is not there was found")
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = p.Run(ctx) })
	defer running.Wait()
	defer cancel()
	d.Rotate()
	for p.known.Load() == nil { // Run finds it by itself
		time.Sleep(20 * time.Millisecond)
	}
	for range 2 {
		sealed, back := visit(t, d, p, Errand{})
		_, _, err := p.End(t.Context(), sealed, back)
		check(t, err)
		d.Rotate() // with another key, which is fetched when it is met
	}
	sealed, back := visit(t, d, p, Errand{})
	d.Stop()
	_, _, err = p.End(t.Context(), sealed, back)
	wantCode(t, err, "provider_unavailable")

	// Another certificate of the provider's: nobody signs in until it is trusted.
	p.Renew(Trust{ClientSecret: dextest.ClientSecret, Roots: x509.NewCertPool()})
	d.Rotate()
	if err := p.discover(t.Context()); err == nil {
		t.Error("the provider is found though nothing vouches for it")
	}
}

func TestDeviceFlow(t *testing.T) {
	d := dextest.Start(t, callback)
	p := connected(t, settings(d))
	device, err := p.BeginDevice(t.Context())
	check(t, err)
	_, err = p.Poll(t.Context(), device.Handle)
	wantCode(t, err, "authorization_pending")
	_, err = p.Poll(t.Context(), device.Handle[1:])
	wantCode(t, err, "login_unknown")
	if _, page := d.SignIn(d.Browser(nil), device.Complete, dextest.Password); !strings.Contains(page, "Login Successful") {
		t.Fatalf("the provider shows %s", page)
	}
	var login operators.Login
	for range 20 { // Dex wants to be asked no oftener than it says
		if login, err = p.Poll(t.Context(), device.Handle); !fault.Is(err, fault.Held) {
			break
		}
		time.Sleep(time.Second)
	}
	check(t, err)
	if login.Subject == "" || login.Email != dextest.Email {
		t.Errorf("login %+v", login)
	}
	_, err = p.Poll(t.Context(), device.Handle) // once
	wantCode(t, err, "login_used")
}

// mint makes an ID token with the provider's own key, kid and all, changed by change.
func mint(t testing.TB, d *dextest.Dex, p *Provider, key jose.SigningKey, change func(c map[string]any)) string {
	t.Helper()
	now := time.Now().Unix()
	c := map[string]any{"iss": d.URL, "sub": "somebody", "aud": dextest.ClientID, "exp": now + 600, "iat": now, "nonce": "n",
		"email": "Berta@Example.com", "email_verified": true}
	if change != nil {
		change(c)
	}
	for name, value := range c {
		if value == nil {
			delete(c, name)
		}
	}
	payload, err := json.Marshal(c)
	check(t, err)
	options := (&jose.SignerOptions{}).WithHeader("kid", keyID(t, d, p))
	signer, err := jose.NewSigner(key, options)
	check(t, err)
	signed, err := signer.Sign(payload)
	check(t, err)
	text, err := signed.CompactSerialize()
	check(t, err)
	return text
}

// keyID is the name of the key that the provider publishes.
func keyID(t testing.TB, d *dextest.Dex, _ *Provider) string {
	t.Helper()
	answer, err := d.Browser(nil).Get(d.URL + "/keys")
	check(t, err)
	defer answer.Body.Close()
	var keys jose.JSONWebKeySet
	check(t, json.NewDecoder(answer.Body).Decode(&keys))
	return keys.Keys[0].KeyID
}

// checked is what becomes of an ID token that the token endpoint has answered.
func checked(t testing.TB, p *Provider, raw string) (operators.Login, error) {
	t.Helper()
	at, err := p.reached()
	check(t, err)
	return p.login(t.Context(), at, (&oauth2.Token{AccessToken: "an access token"}).WithExtra(map[string]any{"id_token": raw}), "n")
}

// TestTokens: each claim of an ID token is looked at, with tokens that the provider's own key has signed.
func TestTokens(t *testing.T) {
	d := dextest.Start(t, callback)
	plain := settings(d)
	p := connected(t, plain)
	plain.MaxAge, plain.ACR = time.Hour, []string{"mfa", "phr"}
	strict := connected(t, plain)
	key := jose.SigningKey{Algorithm: jose.RS256, Key: d.Key}
	now := time.Now().Unix()

	l, err := checked(t, p, mint(t, d, p, key, func(c map[string]any) { c["amr"], c["acr"], c["auth_time"] = []string{"pwd", "otp"}, "mfa", now-60 }))
	check(t, err)
	if l.Email != "berta@example.com" || l.ACR != "mfa" || len(l.AMR) != 2 || l.Time.Unix() != now-60 || l.Issuer != d.URL || l.Subject != "somebody" {
		t.Errorf("login %+v", l)
	}
	for name, c := range map[string]struct {
		claim string
		value any
		code  string // empty: taken
	}{
		"other issuer":           {"iss", "https://other.test", "token_refused"},
		"issuer with a slash":    {"iss", d.URL + "/", "token_refused"},
		"other audience":         {"aud", "other", "token_refused"},
		"two audiences, no azp":  {"aud", []string{dextest.ClientID, "other"}, "token_refused"},
		"other azp":              {"azp", "other", "token_refused"},
		"own azp":                {"azp", dextest.ClientID, ""},
		"expired":                {"exp", now - 120, "token_refused"},
		"expired by the skew":    {"exp", now - 20, ""},
		"no expiry":              {"exp", nil, "token_refused"},
		"not yet":                {"nbf", now + 1200, "token_refused"},
		"from the future":        {"iat", now + 600, "token_refused"},
		"other nonce":            {"nonce", "m", "token_refused"},
		"no nonce":               {"nonce", nil, "token_refused"},
		"other access token":     {"at_hash", "AAAAAAAAAAAAAAAAAAAAAA", "token_refused"},
		"no subject":             {"sub", "", "token_refused"},
		"a subject that is none": {"sub", "a\x00b", "token_refused"},
		"a subject without end":  {"sub", strings.Repeat("x", 256), "token_refused"},
		"authenticated tomorrow": {"auth_time", now + 86400, "token_refused"},
		"acr is a number":        {"acr", 3, "token_refused"},
		"acr without end":        {"acr", strings.Repeat("x", 1000), "token_refused"},
		"amr of everything":      {"amr", strings.Split(strings.Repeat("x ", 100), " "), "token_refused"},
		"amr with a line end":    {"amr", []string{"a\nb"}, "token_refused"},
	} {
		_, err := checked(t, p, mint(t, d, p, key, func(m map[string]any) { m[c.claim] = c.value }))
		if (err == nil) != (c.code == "") || err != nil && fault.Of(err).Code != c.code {
			t.Errorf("%s: %v, want %s", name, err, c.code)
		}
	}
	for name, value := range map[string]any{"no": false, "in a string": "true", "unsaid": nil} {
		l, err := checked(t, p, mint(t, d, p, key, func(m map[string]any) { m["email_verified"] = value }))
		check(t, err)
		if l.Email != "" {
			t.Errorf("an email address that is verified %s is believed", name)
		}
	}
	for name, c := range map[string]struct {
		acr, code string
		auth      any
	}{
		"strong":      {"phr", "", now},
		"weak":        {"pwd", "authentication_too_weak", now},
		"unsaid":      {"", "authentication_too_weak", now},
		"long ago":    {"mfa", "authentication_too_old", now - 4000},
		"nobody says": {"mfa", "token_refused", nil},
	} {
		_, err := checked(t, strict, mint(t, d, p, key, func(m map[string]any) { m["acr"], m["auth_time"] = c.acr, c.auth }))
		if (err == nil) != (c.code == "") || err != nil && fault.Of(err).Code != c.code {
			t.Errorf("%s: %v, want %s", name, err, c.code)
		}
	}
	if _, err := checked(t, p, ""); err == nil {
		t.Error("an answer without an ID token was taken")
	}
	forged(t, d, p)
}

// forged: tokens that say the right things and prove nothing.
func forged(t *testing.T, d *dextest.Dex, p *Provider) {
	public, err := x509.MarshalPKIXPublicKey(&d.Key.PublicKey)
	check(t, err)
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	check(t, err)
	honest := mint(t, d, p, jose.SigningKey{Algorithm: jose.RS256, Key: d.Key}, nil)
	parts := strings.Split(honest, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`))
	for name, raw := range map[string]string{
		"HS256 with the public key, DER":  mint(t, d, p, jose.SigningKey{Algorithm: jose.HS256, Key: public}, nil),
		"HS256 with the public key, PEM":  mint(t, d, p, jose.SigningKey{Algorithm: jose.HS256, Key: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})}, nil),
		"HS256 with the client's secret":  mint(t, d, p, jose.SigningKey{Algorithm: jose.HS256, Key: append([]byte(dextest.ClientSecret), make([]byte, 32)...)}, nil),
		"another key under the same name": mint(t, d, p, jose.SigningKey{Algorithm: jose.RS256, Key: other}, nil),
		"none, unsigned":                  none + "." + parts[1] + ".",
		"none, with the honest signature": none + "." + parts[1] + "." + parts[2],
		"no signature":                    parts[0] + "." + parts[1] + ".",
		"another payload":                 parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"admin"}`)) + "." + parts[2],
		"no token at all":                 "x",
	} {
		if _, err := checked(t, p, raw); err == nil || fault.Of(err).Code != "token_refused" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := checked(t, p, honest); err != nil {
		t.Error(err)
	}
}

func TestConfig(t *testing.T) {
	good := Config{Issuer: "https://id.test/realm", ClientID: "hallmark", Callback: callback}
	check(t, good.Check())
	for want, change := range map[string]func(*Config){
		"issuer":    func(c *Config) { c.Issuer = "http://id.test" },
		"issuer ":   func(c *Config) { c.Issuer = "https://id.test?x" },
		"url":       func(c *Config) { c.Callback = "ca.test/callback" },
		"client_id": func(c *Config) { c.ClientID = "" },
		"max_age":   func(c *Config) { c.MaxAge = -1 },
		"scopes":    func(c *Config) { c.Scopes = []string{"a b"} },
	} {
		c := good
		change(&c)
		if err := c.Check(); err == nil || !strings.HasPrefix(err.Error(), strings.TrimSpace(want)) {
			t.Errorf("%s: %v", want, err)
		}
		if _, err := New(c); err == nil {
			t.Errorf("%s: New takes it", want)
		}
	}
}

// TestLyingProvider: what is not the provider that was configured is not used.
func TestLyingProvider(t *testing.T) {
	d := dextest.Start(t, callback)
	c := settings(d)
	c.Issuer = strings.Replace(d.URL, "127.0.0.1", "localhost", 1) // the certificate does not name it
	p, err := New(c)
	check(t, err)
	if err := p.discover(t.Context()); err == nil {
		t.Error("a provider with another name was taken")
	}
	c.Issuer = d.URL + "/"
	p, err = New(c)
	check(t, err)
	if err := p.discover(t.Context()); err == nil {
		t.Error("a provider that calls itself otherwise was taken")
	}
}

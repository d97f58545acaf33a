package console

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/internal/dextest"
	"github.com/hallmark-pki/hallmark/operators"
	"github.com/hallmark-pki/hallmark/operators/oidc"
	"github.com/hallmark-pki/hallmark/policy"
)

// TestSessionsRunOut: a session ends when it goes unused and when its time is over, whatever use is made of it; and
// when the rules let nobody in any more, nobody signs in.
func TestSessionsRunOut(t *testing.T) {
	h := newHouse(t)
	d := dextest.Start(t, h.url+"/api/v1/login/callback")
	var ahead atomic.Int64
	h.People.SignIn = operators.SignIn{Issuer: d.URL, Idle: 10 * time.Minute, Length: time.Hour}
	h.People.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	h.Provider = h.identityProvider(d)
	pem := []byte(pemOf(h.founded.Root))
	signIn := func() (*http.Client, *reply) {
		browser := d.Browser(pem)
		begun := h.want(browser, http.StatusSeeOther, "GET", "/api/v1/login", "")
		back, _ := d.SignIn(browser, begun.Header.Get("Location"), dextest.Password)
		return browser, h.send(browser, "GET", back.RequestURI(), "", "")
	}
	_, refused := signIn()
	p := refused.problem(t)
	sub, found := strings.CutPrefix(p.Detail[strings.LastIndex(p.Detail, "--"):], "--oidc ")
	if refused.StatusCode != http.StatusForbidden || p.Decision == "" || !found {
		t.Fatalf("a stranger is answered %s", refused.body)
	}
	h.certified("berta")
	check(t, h.People.Bind(t.Context(), h.permit(policy.AssignOperator, "berta"), "berta", operators.Binding{Subject: sub}))

	browser, in := signIn()
	if in.StatusCode != http.StatusSeeOther || in.Header.Get("Location") != afterLogin {
		t.Fatalf("signing in: %s %s", in.Status, in.body)
	}
	step := func(by time.Duration, status int) {
		t.Helper()
		ahead.Add(int64(by))
		h.want(browser, status, "GET", afterLogin, "")
	}
	for range 6 {
		step(9*time.Minute, http.StatusOK) // it is used
	}
	step(7*time.Minute, http.StatusUnauthorized) // and an hour is over
	browser, _ = signIn()
	step(0, http.StatusOK)
	step(11*time.Minute, http.StatusUnauthorized) // it was not used

	browser, _ = signIn()
	h.People.SignIn.Issuer = "https://other.test" // the server is given another provider
	step(0, http.StatusUnauthorized)
	h.People.SignIn.Issuer = d.URL
}

// identityProvider is Dex as this server sees it.
func (h *house) identityProvider(d *dextest.Dex) *oidc.Provider {
	h.t.Helper()
	p, err := oidc.New(oidc.Config{Issuer: d.URL, ClientID: dextest.ClientID, Callback: h.url + "/api/v1/login/callback",
		Trust: oidc.Trust{ClientSecret: dextest.ClientSecret, Roots: d.Roots}, Spend: h.db.Spend, Log: slog.New(slog.DiscardHandler),
		Secret: func(ctx context.Context) ([]byte, error) { return h.db.Secret(ctx, "sign-in") }})
	check(h.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = p.Run(ctx) })
	h.t.Cleanup(func() { cancel(); running.Wait() })
	for range 500 {
		if _, _, err = p.Begin(h.t.Context(), oidc.Errand{}); err == nil {
			return p
		}
		time.Sleep(20 * time.Millisecond)
	}
	h.t.Fatal(err)
	return nil
}

// TestNext: whatever a browser makes of it, it stays on this server.
func TestNext(t *testing.T) {
	for next, safe := range map[string]bool{
		"": true, "/": true, "/api/v1/session": true, "/a?b=c&d=//e": true, "/a#b": true,
		"//evil.test": false, "///evil.test": false, `/\evil.test`: false, `\\evil.test`: false, "https://evil.test": false, "javascript:x": false, "evil.test": false,
		"/\t/evil.test": false, "/\n/evil.test": false, " /x": false, "/ä": false, "/a\\..\\b": false, "/" + strings.Repeat("a", longestNext): false,
	} {
		if safeNext(next) != safe {
			t.Errorf("%q: safe is %v", next, !safe)
		}
	}
}

// FuzzNext: a browser that is sent to a safe next, from any page of ours, stays here.
func FuzzNext(f *testing.F) {
	f.Add("/api/v1/session")
	f.Add(`/\evil.test`)
	f.Add("//evil.test/%2f..")
	base, _ := url.Parse("https://ca.test:8443/api/v1/login/callback")
	f.Fuzz(func(t *testing.T, next string) {
		if !safeNext(next) || next == "" {
			return
		}
		to, err := base.Parse(next)
		if err != nil || to.Host != base.Host || to.Scheme != base.Scheme || strings.HasPrefix(to.EscapedPath(), "//") {
			t.Errorf("%q leads to %v", next, to)
		}
	})
}

func TestErrands(t *testing.T) {
	challenge := strings.Repeat("A", 43)
	for query, ok := range map[string]bool{
		"": true, "next=/x": true, "port=5000&state=s&challenge=" + challenge: true,
		"port=80&state=s&challenge=" + challenge: false, "port=99999&state=s&challenge=" + challenge: false, "port=5000&challenge=" + challenge: false,
		"port=5000&state=s": false, "port=5000&state=s&challenge=x": false, "port=5000&state=s&next=/x&challenge=" + challenge: false, "state=s": false,
	} {
		q, err := url.ParseQuery(query)
		check(t, err)
		if _, err := errandOf(q); (err == nil) != ok {
			t.Errorf("%s: %v", query, err)
		}
	}
}

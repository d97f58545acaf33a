package housetest_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/internal/dextest"
	"github.com/hallmark-pki/hallmark/internal/housetest"
)

// signing is a server whose operators sign in at Dex.
type signing struct {
	*housetest.House
	t      *testing.T
	dex    *dextest.Dex
	config string // where the command line keeps sessions
	root   []byte
	sub    string // of the one who has an account at Dex
}

func newSigning(t *testing.T) *signing {
	t.Helper()
	address := dextest.FreeAddress(t)
	d := dextest.Start(t, "https://"+address+"/api/v1/login/callback")
	dir, secret := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "oidc.secret")
	write(t, filepath.Join(dir, "config.yaml"), fmt.Sprintf(`operators:
  oidc:
    issuer: %s
    client_id: %s
    client_secret_file: %s
    ca_file: %s
    url: https://%s
`, d.URL, dextest.ClientID, secret, d.CAFile, address))
	write(t, secret, dextest.ClientSecret+"\n")
	s := &signing{t: t, dex: d, config: t.TempDir(), House: housetest.StartIn(t, dir, "--listen", address)}
	var err error
	if s.root, err = os.ReadFile(s.CAFile()); err != nil {
		t.Fatal(err)
	}
	return s
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// said is an answer of the API, read whole.
type said struct {
	*http.Response
	body string
}

func (r said) code() string {
	var p struct{ Code string }
	_ = json.Unmarshal([]byte(r.body), &p)
	return p.Code
}

func (s *signing) call(client *http.Client, method, target string, header ...string) said {
	s.t.Helper()
	if strings.HasPrefix(target, "/") {
		target = s.URL + target
	}
	request, err := http.NewRequestWithContext(s.t.Context(), method, target, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := client.Do(request)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, target, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return said{response, string(text)}
}

// want is call with a check of the status and of the problem's code.
func (s *signing) want(status int, code string, client *http.Client, method, target string, header ...string) said {
	s.t.Helper()
	r := s.call(client, method, target, header...)
	if r.StatusCode != status || r.code() != code {
		s.t.Errorf("%s %s: %s %s, want %d %s", method, target, r.Status, r.body, status, code)
	}
	return r
}

func (s *signing) browser() *http.Client { return s.dex.Browser(s.root) }

// toCallback goes with a browser to the provider and fills its form in; it stops where the provider sends it back to.
func (s *signing) toCallback(browser *http.Client, start string) string {
	s.t.Helper()
	begun := s.want(http.StatusSeeOther, "", browser, "GET", start)
	to, page := s.dex.SignIn(browser, begun.Header.Get("Location"), dextest.Password)
	if to == nil {
		s.t.Fatalf("the provider shows %s", page)
	}
	return to.String()
}

// signIn is a browser that is signed in.
func (s *signing) signIn() *http.Client {
	s.t.Helper()
	browser := s.browser()
	s.want(http.StatusSeeOther, "", browser, "GET", s.toCallback(browser, "/api/v1/login"))
	s.want(http.StatusOK, "", browser, "GET", "/api/v1/session")
	return browser
}

// command is a command line of somebody who has no data directory, but a home of their own.
func (s *signing) command(args ...string) *exec.Cmd {
	c := exec.Command(housetest.Binary(s.t, "hallmark"), args...)
	c.Dir = s.config
	c.Env = append(os.Environ(), "XDG_CONFIG_HOME="+s.config, "DISPLAY=", "WAYLAND_DISPLAY=")
	return c
}

// run runs it and wants that exit code and that text in what it prints.
func (s *signing) run(code int, want string, args ...string) string {
	s.t.Helper()
	c := s.command(args...)
	out, _ := c.CombinedOutput()
	if c.ProcessState.ExitCode() != code || !strings.Contains(string(out), want) {
		s.t.Errorf("hallmark %s: exit %d, want %d and %q:\n%s", strings.Join(args, " "), c.ProcessState.ExitCode(), code, want, out)
	}
	return string(out)
}

// login runs "hallmark login" up to the address that it prints, and returns that and how to wait for the end.
func (s *signing) login(args ...string) (address string, wait func() (int, string)) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	s.t.Cleanup(cancel)
	plain := s.command(append([]string{"login", "--server", s.URL, "--ca", s.CAFile()}, args...)...)
	c := exec.CommandContext(ctx, plain.Path, plain.Args[1:]...)
	c.Dir, c.Env = plain.Dir, plain.Env
	var out bytes.Buffer
	c.Stdout = &out
	errs, err := c.StderrPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	lines := bufio.NewReader(errs)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			s.t.Fatalf("no address: %v", err)
		}
		if address = strings.TrimSpace(line); strings.HasPrefix(address, "https://") {
			break
		}
	}
	return address, func() (int, string) {
		rest, _ := io.ReadAll(lines)
		_ = c.Wait()
		return c.ProcessState.ExitCode(), out.String() + string(rest)
	}
}

var unboundSub = regexp.MustCompile(`--oidc ([^" ]+)`)

// TestSigningIn walks through the life of people who sign in, with the real provider over TLS.
func TestSigningIn(t *testing.T) {
	s := newSigning(t)
	s.strangers()
	s.browsers()
	s.commandLines()
	s.elsewhere()
	s.endings()
	s.twoCredentials()
	s.addresses()
	s.outage()
}

// strangers: whom the provider knows and the register does not gets an answer that tells an administrator what to type.
func (s *signing) strangers() {
	browser := s.browser()
	refused := s.want(http.StatusForbidden, "oidc_unbound", browser, "GET", s.toCallback(browser, "/api/v1/login"))
	found := unboundSub.FindStringSubmatch(refused.body)
	if found == nil {
		s.t.Fatalf("the refusal does not say what to type: %s", refused.body)
	}
	s.sub = found[1]
	if list := s.Hallmark("decision", "list", "--verdict", "deny", "-o", "json"); !strings.Contains(list, s.sub) {
		s.t.Errorf("the refusal is not on record: %s", list)
	}
	s.Hallmark("operator", "add", "berta", "--role", "viewer", "--oidc", s.sub)
	if _, errs, code := s.Try("operator", "add", "carl", "--role", "viewer", "--oidc", s.sub); code != 1 || !strings.Contains(errs, "oidc_subject_in_use") {
		s.t.Errorf("two operators are one subject: %s", errs)
	}
}

// browsers: cookies, and what others may try with them.
func (s *signing) browsers() {
	browser := s.browser()
	for _, next := range []string{"https://evil.test/", "//evil.test/", `/\evil.test`, "/%09/evil.test/\t", "javascript:alert(1)"} {
		s.want(http.StatusBadRequest, "bad_parameter", browser, "GET", "/api/v1/login?next="+url.QueryEscape(next))
	}
	planted := "__Host-hallmark-session=hallmark_session_" + strings.Repeat("A", 43)
	callback := s.toCallback(browser, "/api/v1/login?next=%2Fapi%2Fv1%2Fdevices%3Flimit%3D1")
	s.want(http.StatusUnauthorized, "login_unknown", s.browser(), "GET", callback) // somebody else's browser: login CSRF
	other := s.browser()
	s.want(http.StatusSeeOther, "", other, "GET", "/api/v1/login")
	s.want(http.StatusUnauthorized, "login_state", other, "GET", callback)

	at, _ := url.Parse(s.URL)
	var held string // what ties the sign-in to the browser
	for _, c := range browser.Jar.Cookies(at) {
		held += c.Name + "=" + c.Value
	}
	in := s.want(http.StatusSeeOther, "", browser, "GET", callback)
	if in.Header.Get("Location") != "/api/v1/devices?limit=1" {
		s.t.Errorf("sent to %q", in.Header.Get("Location"))
	}
	for _, c := range in.Cookies() {
		if !strings.HasPrefix(c.Name, "__Host-") || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" {
			s.t.Errorf("cookie %s", c)
		}
	}
	s.want(http.StatusUnauthorized, "login_used", s.browser(), "GET", callback, "Cookie", held)
	s.want(http.StatusUnauthorized, "session_ended", s.browser(), "GET", "/api/v1/session", "Cookie", planted)

	who := s.want(http.StatusOK, "", browser, "GET", "/api/v1/session")
	if !strings.Contains(who.body, `"operator":"berta"`) || !strings.Contains(who.body, `"method":"oidc"`) || !strings.Contains(who.body, s.sub) {
		s.t.Errorf("whoami: %s", who.body)
	}
	s.want(http.StatusOK, "", browser, "GET", "/api/v1/devices")
	s.want(http.StatusForbidden, "not_permitted", browser, "POST", "/api/v1/tokens", "Sec-Fetch-Site", "same-origin") // a viewer
	for _, header := range [][]string{nil, {"Origin", "https://evil.test"}, {"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site", "Origin", s.URL}, {"Origin", "null"}} {
		s.want(http.StatusForbidden, "cross_origin", browser, "POST", "/api/v1/logout", header...)
	}
	s.want(http.StatusNoContent, "", browser, "POST", "/api/v1/logout", "Origin", s.URL)
	s.want(http.StatusUnauthorized, "no_operator_certificate", browser, "GET", "/api/v1/session")
}

// commandLines: "hallmark login" by a browser on the same machine.
func (s *signing) commandLines() {
	s.run(1, "there is no data directory", "whoami")
	address, wait := s.login("--no-browser")
	browser := s.browser()
	back := s.want(http.StatusSeeOther, "", browser, "GET", s.toCallback(browser, address)).Header.Get("Location")
	loopback, err := url.Parse(back)
	if err != nil || loopback.Hostname() != "127.0.0.1" || loopback.Scheme != "http" {
		s.t.Fatalf("the browser is sent to %s", back)
	}
	forged := *loopback
	forged.RawQuery = "code=x&state=guess"
	if r := s.call(http.DefaultClient, "GET", forged.String()); r.StatusCode != http.StatusNotFound {
		s.t.Errorf("a forged answer: %s", r.Status)
	}
	if page := s.call(http.DefaultClient, "GET", back); !strings.Contains(page.body, "berta is signed in") {
		s.t.Errorf("the browser shows %s", page.body)
	}
	if code, out := wait(); code != 0 || !strings.Contains(out, "berta is signed in") {
		s.t.Fatalf("login: exit %d, %s", code, out)
	}
	files, _ := filepath.Glob(filepath.Join(s.config, "hallmark", "sessions", "*"))
	if len(files) != 1 {
		s.t.Fatalf("sessions are kept in %v", files)
	}
	if at, err := os.Stat(files[0]); err != nil || at.Mode().Perm() != 0o600 {
		s.t.Errorf("%s: %v, %v", files[0], at.Mode(), err)
	}
	s.run(0, "berta", "whoami")
	s.run(0, "cli", "session", "list", "--server", s.URL)
	s.run(1, "not_permitted", "token", "create")
	s.run(1, "not_permitted", "session", "list", "--operator", "admin", "--data", s.config, "--server", s.URL, "--ca", s.CAFile())
	s.run(0, "admin", "whoami", "--server", s.URL, "--ca", s.CAFile(), "--cert", filepath.Join(s.Dir, "operators", "admin.crt"), "--key", filepath.Join(s.Dir, "operators", "admin.key"))
	s.run(1, "no such file", "operator", "renew", "--server", s.URL, "--ca", s.CAFile()) // a session is no certificate
	s.run(0, "signed out", "logout")
	s.run(1, "nobody is signed in", "logout", "--server", s.URL)
	s.run(1, "no operator credential", "whoami", "--server", s.URL, "--ca", s.CAFile())
}

// elsewhere: "hallmark login --device" by a browser on another machine.
func (s *signing) elsewhere() {
	address, wait := s.login("--device")
	if _, page := s.dex.SignIn(s.dex.Browser(nil), address, dextest.Password); !strings.Contains(page, "Login Successful") {
		s.t.Fatalf("the provider shows %s", page)
	}
	if code, out := wait(); code != 0 || !strings.Contains(out, "berta is signed in") {
		s.t.Fatalf("login: exit %d, %s", code, out)
	}
	s.run(0, s.sub, "whoami")
}

// endings: whoever is barred is out with the next request, on connections that stand.
func (s *signing) endings() {
	for _, ending := range [][]string{
		{"operator", "suspend", "berta"}, {"operator", "revoke", "berta"}, {"operator", "assign", "berta", "--oidc-email", "other@example.com"},
	} {
		browser := s.signIn()
		s.Hallmark(ending...)
		s.want(http.StatusUnauthorized, "session_ended", browser, "GET", "/api/v1/session")
		switch ending[1] {
		case "suspend":
			browser := s.browser()
			s.want(http.StatusForbidden, "operator_suspended", browser, "GET", s.toCallback(browser, "/api/v1/login"))
			s.Hallmark("operator", "resume", "berta")
			s.want(http.StatusUnauthorized, "no_operator_certificate", browser, "GET", "/api/v1/session") // what has ended stays so
		case "assign":
			browser := s.browser()
			s.want(http.StatusForbidden, "oidc_unbound", browser, "GET", s.toCallback(browser, "/api/v1/login"))
			s.Hallmark("operator", "assign", "berta", "--oidc", s.sub)
		}
	}
	s.run(1, "the session has ended", "whoami") // the command line's, too

	browser, other := s.signIn(), s.signIn()
	var list struct{ Items []struct{ ID string } }
	text := s.call(browser, "GET", "/api/v1/sessions").body
	if err := json.Unmarshal([]byte(text), &list); err != nil || len(list.Items) != 2 {
		s.t.Fatalf("sessions: %s", text)
	}
	s.want(http.StatusNoContent, "", browser, "DELETE", "/api/v1/sessions/"+list.Items[0].ID, "Sec-Fetch-Site", "same-origin")
	s.want(http.StatusUnauthorized, "session_ended", other, "GET", "/api/v1/session")
	s.Hallmark("session", "end", list.Items[1].ID) // by the administrator
	s.want(http.StatusUnauthorized, "session_ended", browser, "GET", "/api/v1/session")
	if out, _, code := s.Try("session", "end", list.Items[1].ID); code != 1 {
		s.t.Errorf("a session ends twice: %s", out)
	}
}

// twoCredentials: a certificate and a session have to be of the same operator.
func (s *signing) twoCredentials() {
	at, _ := url.Parse(s.URL)
	browser := s.signIn()
	var token string
	for _, c := range browser.Jar.Cookies(at) {
		token = c.Value
	}
	dir := s.t.TempDir()
	s.Hallmark("operator", "certify", "berta", "--out", dir)
	for name, want := range map[string]struct {
		status int
		code   string
	}{filepath.Join(s.Dir, "operators", "admin"): {http.StatusUnauthorized, "two_callers"}, filepath.Join(dir, "berta"): {http.StatusOK, ""}} {
		client, config := s.Client()
		pair, err := tls.LoadX509KeyPair(name+".crt", name+".key")
		if err != nil {
			s.t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{pair}
		r := s.want(want.status, want.code, client, "GET", "/api/v1/session", "Authorization", "Bearer "+token)
		if want.status == http.StatusOK && !strings.Contains(r.body, `"method":"mtls"`) {
			s.t.Errorf("certificate and session: %s", r.body)
		}
		s.want(http.StatusUnauthorized, "session_ended", client, "GET", "/api/v1/session", "Authorization", "Bearer hallmark_session_guess")
	}
	client, _ := s.Client()
	s.want(http.StatusOK, "", client, "GET", "/api/v1/session", "Authorization", "bearer "+token)
	if r := s.renewal(client, "Bearer "+token); r.StatusCode != http.StatusForbidden || r.code() != "certificate_needed" {
		s.t.Errorf("a session that renews a certificate: %s %s", r.Status, r.body)
	}
}

// renewal asks for a certificate of berta's over a new key, without one that she holds.
func (s *signing) renewal(client *http.Client, authorization string) said {
	s.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		s.t.Fatal(err)
	}
	body, _ := json.Marshal(map[string]string{"csr": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))})
	request, err := http.NewRequestWithContext(s.t.Context(), "POST", s.URL+"/api/v1/operators/berta/renew", bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", authorization)
	response, err := client.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body)
	return said{response, string(text)}
}

// addresses: an operator who is bound by an email address is bound by the subject from the first sign-in on.
func (s *signing) addresses() {
	s.Hallmark("operator", "assign", "berta", "--oidc", "none")
	s.Hallmark("operator", "add", "dora", "--role", "auditor", "--oidc-email", strings.ToUpper(dextest.Email))
	browser := s.signIn()
	if who := s.call(browser, "GET", "/api/v1/session").body; !strings.Contains(who, `"operator":"dora"`) {
		s.t.Errorf("signed in as %s", who)
	}
	if shown := s.Hallmark("operator", "show", "dora"); !strings.Contains(shown, s.sub) {
		s.t.Errorf("dora is not bound to her subject: %s", shown)
	}
}

// outage: a server starts without its provider, serves who is signed in and who has a certificate, and finds the provider by itself.
func (s *signing) outage() {
	browser := s.signIn()
	s.dex.Stop()
	s.Kill()
	s.Run()
	s.want(http.StatusOK, "", browser, "GET", "/api/v1/session")
	s.Hallmark("operator", "list")
	s.want(http.StatusServiceUnavailable, "provider_unavailable", s.browser(), "GET", "/api/v1/login")
	s.dex.Rotate()
	for range 300 {
		if s.call(s.browser(), "GET", "/api/v1/login").StatusCode == http.StatusSeeOther {
			s.signIn()
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.t.Errorf("the server does not find its provider again:\n%s", s.Log())
}

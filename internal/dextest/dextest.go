// Package dextest runs Dex (https://dexidp.io), an OpenID Connect provider, for
// tests: the real one, as a process of its own, over TLS on a free port of this
// machine. It is built from its Go module, which the first test on a machine has to fetch.
package dextest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// The one who has an account, and the client that is registered.
const (
	Email        = "berta@example.com"
	Password     = "correct horse"
	UserID       = "4711" // Dex makes a sub of it
	ClientID     = "hallmark"
	ClientSecret = "a secret of the client's"
)

// Dex is one provider.
type Dex struct {
	URL    string // the issuer
	CAFile string // PEM of the certificate to trust it by
	Roots  *x509.CertPool
	Key    *rsa.PrivateKey // that it signs with; Rotate makes another

	t       testing.TB
	folder  string
	listen  string
	client  map[string]any
	process *exec.Cmd
}

// Start runs a provider at which a client with these redirect URIs is
// registered, until the test ends.
func Start(t testing.TB, redirects ...string) *Dex {
	t.Helper()
	d := &Dex{t: t, folder: t.TempDir(), listen: FreeAddress(t)}
	d.URL = "https://" + d.listen
	d.CAFile = filepath.Join(d.folder, "tls.crt")
	// Dex goes to /device/callback itself once a code was typed.
	d.client = map[string]any{"id": ClientID, "secret": ClientSecret, "name": "Hallmark", "redirectURIs": append(redirects, "/device/callback")}
	d.certify()
	d.Rotate()
	t.Cleanup(d.Stop)
	return d
}

// FreeAddress is an address of this machine where nobody listens just now.
func FreeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer l.Close()
	return l.Addr().String()
}

// certify makes the provider's TLS certificate.
func (d *Dex) certify() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(d.t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "Dex"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	check(d.t, err)
	d.write("tls.crt", "CERTIFICATE", der)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	check(d.t, err)
	d.write("tls.key", "PRIVATE KEY", private)
	cert, err := x509.ParseCertificate(der)
	check(d.t, err)
	d.Roots = x509.NewCertPool()
	d.Roots.AddCert(cert)
}

func (d *Dex) write(name, kind string, der []byte) {
	check(d.t, os.WriteFile(filepath.Join(d.folder, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

// Rotate stops the provider, if it runs, and starts it with another signing key. It has
// forgotten who was signing in.
func (d *Dex) Rotate() {
	d.t.Helper()
	d.Stop()
	var err error
	d.Key, err = rsa.GenerateKey(rand.Reader, 2048)
	check(d.t, err)
	der, err := x509.MarshalPKCS8PrivateKey(d.Key)
	check(d.t, err)
	d.write("signing.key", "PRIVATE KEY", der)
	text, err := json.Marshal(map[string]any{"Issuer": d.URL, "Listen": d.listen, "Cert": d.CAFile, "Key": filepath.Join(d.folder, "tls.key"),
		"SigningKey": filepath.Join(d.folder, "signing.key"), "TokensValidFor": 10 * time.Minute, "Clients": []any{d.client},
		"Email": Email, "Password": Password, "Subject": UserID})
	check(d.t, err)
	check(d.t, os.WriteFile(filepath.Join(d.folder, "dex.json"), text, 0o600))
	d.start()
}

func (d *Dex) start() {
	d.t.Helper()
	log, err := os.OpenFile(filepath.Join(d.folder, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	check(d.t, err)
	defer log.Close()
	d.process = exec.Command(binary(d.t), filepath.Join(d.folder, "dex.json"))
	d.process.Stdout, d.process.Stderr = log, log
	check(d.t, d.process.Start())
	client := d.Browser(nil)
	for range 1000 {
		if answer, err := client.Get(d.URL + "/.well-known/openid-configuration"); err == nil {
			answer.Body.Close()
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	text, _ := os.ReadFile(filepath.Join(d.folder, "log"))
	d.t.Fatalf("Dex does not answer:\n%s", text)
}

// Stop takes the provider away.
func (d *Dex) Stop() {
	if d.process != nil {
		_ = d.process.Process.Kill()
		_ = d.process.Wait()
		d.process = nil
	}
}

// Browser is an HTTP client as browsers are: it keeps cookies, and trusts the
// provider and who else is in also. It does not follow redirects by itself.
func (d *Dex) Browser(also []byte) *http.Client {
	roots := d.Roots.Clone()
	roots.AppendCertsFromPEM(also)
	jar, _ := cookiejar.New(nil) // never fails
	transport := &http.Transport{TLSClientConfig: tlsConfig(roots)}
	d.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Jar: jar, Timeout: time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

var formAction = regexp.MustCompile(`<form method="post" action="([^"]+)"`)

// SignIn goes with the browser to an address of the provider's and fills its
// forms in, as somebody with an account does, until it sends the browser away
// from itself or shows a page without a form. It returns where to, or the page.
func (d *Dex) SignIn(browser *http.Client, at, password string) (to *url.URL, page string) {
	d.t.Helper()
	method, body := "GET", url.Values{}
	for range 20 {
		request, err := http.NewRequestWithContext(d.t.Context(), method, at, strings.NewReader(body.Encode()))
		check(d.t, err)
		if method == "POST" {
			request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		answer, err := browser.Do(request)
		check(d.t, err)
		text, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		check(d.t, err)
		if location, err := answer.Location(); err == nil {
			if location.Host != d.listen {
				return location, ""
			}
			method, body, at = "GET", nil, location.String()
			continue
		}
		form := formAction.FindSubmatch(text)
		if form == nil || strings.Contains(string(text), "login-error") {
			return nil, string(text)
		}
		action, err := answer.Request.URL.Parse(strings.ReplaceAll(string(form[1]), "&amp;", "&"))
		check(d.t, err)
		body = url.Values{"login": {Email}, "password": {password}}
		if code := answer.Request.URL.Query().Get("user_code"); code != "" {
			body.Set("user_code", code)
		}
		method, at = "POST", action.String()
	}
	d.t.Fatal("the provider sends the browser round and round")
	return nil, ""
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// built is the binary that the tests of this process share.
var built = sync.OnceValues(func() (string, error) {
	_, here, _, _ := runtime.Caller(0)
	dir, err := os.MkdirTemp("", "hallmark-dex-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "dex")
	c := exec.Command("go", "build", "-ldflags=-s -w", "-o", path, ".")
	c.Dir = filepath.Join(filepath.Dir(here), "dex")
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOWORK=off")
	if out, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building Dex: %w\n%s", err, out)
	}
	return path, nil
})

func binary(t testing.TB) string {
	t.Helper()
	path, err := built()
	check(t, err)
	return path
}

func tlsConfig(roots *x509.CertPool) *tls.Config { return &tls.Config{RootCAs: roots} }

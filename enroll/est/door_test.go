package est_test

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/enroll"
	"github.com/hallmark-pki/hallmark/enroll/est"
	"github.com/hallmark-pki/hallmark/internal/cms"
	"github.com/hallmark-pki/hallmark/internal/limit"
)

// door is an EST door on real TLS. What stands behind it is only as much as
// requests need that never become an enrolment; the whole house is in walk_test.go.
type door struct {
	*httptest.Server
	*est.Door
	chain []*x509.Certificate
	log   *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func open(t *testing.T, certificates int, change func(*est.Door)) *door {
	t.Helper()
	d := &door{chain: chainOf(t, certificates), log: &lockedBuffer{}}
	profile := func(name string, change func(*enroll.Profile)) *enroll.Profile {
		p := ca.Profile{Name: name, TrustDomain: "fleet.example"}.WithDefaults()
		e := &enroll.Profile{Profile: &p}
		change(e)
		return e
	}
	d.Door = &est.Door{
		Enroller: &enroll.Enroller{Default: "default", Profiles: map[string]*enroll.Profile{
			"default": profile("default", func(*enroll.Profile) {}),
			"wrapped": profile("wrapped", func(p *enroll.Profile) { p.Wrap = true }),
			"linked":  profile("linked", func(p *enroll.Profile) { p.ChannelBinding = true }),
			"keygen":  profile("keygen", func(p *enroll.Profile) { p.ServerKeygen = true }),
		}},
		Chain: func() []*x509.Certificate { return d.chain },
		Log:   slog.New(slog.NewTextHandler(d.log, nil)),
	}
	if change != nil {
		change(d.Door)
	}
	d.Server = httptest.NewUnstartedServer(d.Door)
	d.Server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, DynamicRecordSizingDisabled: true}
	d.Server.StartTLS()
	t.Cleanup(d.Server.Close)
	return d
}

func chainOf(t *testing.T, n int) []*x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	chain := make([]*x509.Certificate, n)
	for i := range chain {
		template := &x509.Certificate{SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: fmt.Sprint("Authority ", i)},
			NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		if chain[i], err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
	}
	return chain
}

// recorder counts the TLS records with application data that arrive.
type recorder struct {
	net.Conn
	seen bytes.Buffer
}

func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.seen.Write(p[:n])
	return n, err
}

func (r *recorder) applicationRecords() (n int) {
	for b := r.seen.Bytes(); len(b) >= 5; {
		if b[0] == 23 {
			n++
		}
		b = b[min(len(b), 5+int(b[3])<<8+int(b[4])):]
	}
	return n
}

// raw sends bytes over TLS 1.2 and returns the answer as it came, up to the end
// of the connection, and in how many records.
func (d *door) raw(t *testing.T, request string) (header, body string, records int) {
	t.Helper()
	plain, err := net.Dial("tcp", d.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{Conn: plain}
	c := tls.Client(r, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	answer, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	header, body, _ = strings.Cut(string(answer), "\r\n\r\n")
	return header, body, r.applicationRecords()
}

func field(header, name string) string {
	for line := range strings.Lines(header) {
		if value, ok := strings.CutPrefix(line, name+": "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// What strongSwan 5.9.8 and libest 3.2.0 need of an answer, over HTTP/1.0 and 1.1.
func TestShapeOfAnswers(t *testing.T) {
	d := open(t, 2, nil)
	for _, version := range []string{"1.0", "1.1"} {
		for _, path := range []string{"/.well-known/est/cacerts", "/.well-known/est/default/cacerts", "/default/.well-known/est/cacerts"} {
			header, body, records := d.raw(t, "GET "+path+" HTTP/"+version+"\r\nHost: est\r\nConnection: close\r\n\r\n")
			if !strings.HasPrefix(header, "HTTP/1.1 200 OK\r\n") && !strings.HasPrefix(header, "HTTP/1.0 200 OK\r\n") {
				t.Fatalf("%s over %s: %s", path, version, header)
			}
			if len(header) > 900 || records != 1 {
				t.Errorf("%s over %s: a header of %d bytes, %d records", path, version, len(header), records)
			}
			if field(header, "Content-Length") != strconv.Itoa(len(body)) || field(header, "Transfer-Encoding") != "" {
				t.Errorf("%s over %s: a body of %d bytes under\n%s", path, version, len(body), header)
			}
			if field(header, "Content-Type") != "application/pkcs7-mime" || field(header, "Content-Transfer-Encoding") != "base64" {
				t.Errorf("%s over %s:\n%s", path, version, header)
			}
			if strings.Count(body, "\n") != 1 || !strings.HasSuffix(body, "\n") {
				t.Errorf("%s over %s: want one line and its end, got %q", path, version, body)
			}
			der, err := base64.StdEncoding.DecodeString(strings.TrimSpace(body))
			if err != nil {
				t.Fatal(err)
			}
			if found, err := cms.Parse(der); err != nil || len(found) != 2 || !found[0].Equal(d.chain[0]) {
				t.Errorf("%s over %s: %d certificates, %v", path, version, len(found), err)
			}
		}
	}
}

func TestWrappedForThoseWhoNeedIt(t *testing.T) {
	d := open(t, 2, nil)
	for name, request := range map[string]string{
		"libest":      "GET /.well-known/est/cacerts HTTP/1.0\r\nUser-Agent: libest 3.2.0p\r\n\r\n",
		"the profile": "GET /wrapped/.well-known/est/cacerts HTTP/1.0\r\n\r\n",
	} {
		_, body, _ := d.raw(t, request)
		if !strings.HasSuffix(body, "\n") {
			t.Errorf("%s: no line end at the end", name)
		}
		for line := range strings.Lines(body) {
			if len(line) > 65 {
				t.Errorf("%s: a line of %d", name, len(line))
			}
		}
	}
}

// strongSwan reads at most two records, and net/http would cut these up.
func TestLargeAnswersAreOneRecord(t *testing.T) {
	for _, n := range []int{7, 8, 12, 20} {
		d := open(t, n, nil)
		header, body, records := d.raw(t, "GET /.well-known/est/cacerts HTTP/1.1\r\nHost: est\r\nConnection: close\r\n\r\n")
		if records != 1 || field(header, "Content-Length") != strconv.Itoa(len(body)) || field(header, "Date") == "" {
			t.Errorf("%d certificates: %d bytes in %d records under\n%s", n, len(body), records, header)
		}
		client := d.Client()
		answer, err := client.Get(d.URL + "/.well-known/est/cacerts")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(answer.Body); err != nil || string(got) != body {
			t.Errorf("%d certificates: net/http reads %d bytes, %v", n, len(got), err)
		}
		answer.Body.Close()
		head, _, _ := d.raw(t, "HEAD /.well-known/est/cacerts HTTP/1.1\r\nHost: est\r\nConnection: close\r\n\r\n")
		if field(head, "Content-Length") != strconv.Itoa(len(body)) {
			t.Errorf("%d certificates: HEAD says\n%s", n, head)
		}
	}
}

// libest looks for the header in exactly this spelling.
func TestChallenge(t *testing.T) {
	d := open(t, 2, nil)
	header, body, _ := d.raw(t, "POST /.well-known/est/simpleenroll HTTP/1.1\r\nHost: est\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
	if !strings.HasPrefix(header, "HTTP/1.1 401 ") || !strings.Contains(header, "\r\nWWW-Authenticate: Basic realm=\"est\"\r\n") {
		t.Errorf("got\n%s", header)
	}
	if !strings.HasPrefix(body, "proof_missing: ") {
		t.Errorf("got %q", body)
	}
}

// Every refusal that no enrolment is needed for: its status, and a body of a
// reason and a reference that the log knows.
func TestRefusals(t *testing.T) {
	d := open(t, 2, nil)
	const enrol, pkcs10 = "/.well-known/est/simpleenroll", "application/pkcs10"
	large := strings.Repeat("A", est.MaxRequest+1)
	for name, c := range map[string]struct {
		method, path, contentType, body string
		status                          int
		code                            string
	}{
		"no operation":        {"GET", "/.well-known/est/", "", "", 404, "path_unknown"},
		"unknown operation":   {"GET", "/.well-known/est/crls", "", "", 404, "path_unknown"},
		"nonce":               {"GET", "/.well-known/est/nonce", "", "", 404, "path_unknown"},
		"unknown label":       {"GET", "/.well-known/est/elsewhere/cacerts", "", "", 404, "profile_unknown"},
		"unknown label, POST": {"POST", "/elsewhere/.well-known/est/simpleenroll", pkcs10, "QUFB", 404, "profile_unknown"},
		"an operation's name": {"GET", "/.well-known/est/csrattrs/cacerts", "", "", 404, "path_unknown"},
		"final slash":         {"GET", "/.well-known/est/cacerts/", "", "", 404, "path_unknown"},
		"double slash":        {"GET", "//.well-known/est/cacerts", "", "", 404, "path_unknown"},
		"double slash inside": {"GET", "/.well-known/est//cacerts", "", "", 404, "path_unknown"},
		"dots":                {"GET", "/.well-known/est/../est/cacerts", "", "", 404, "path_unknown"},
		"escaped dots":        {"GET", "/.well-known/est/%2e%2e/cacerts", "", "", 404, "path_unknown"},
		"escaped slash":       {"GET", "/.well-known/est/default%2fcacerts", "", "", 404, "path_unknown"},
		"escaped letter":      {"GET", "/.well-known/est/%63acerts", "", "", 404, "path_unknown"},
		"full CMC":            {"POST", "/.well-known/est/fullcmc", "application/pkcs7-mime", "QUFB", 501, "not_implemented"},
		"no key generation":   {"POST", "/.well-known/est/serverkeygen", pkcs10, "QUFB", 404, "serverkeygen_off"},
		"GET to enrol":        {"GET", enrol, "", "", 405, "method"},
		"PUT to enrol":        {"PUT", enrol, pkcs10, "QUFB", 405, "method"},
		"POST for the CA":     {"POST", "/.well-known/est/cacerts", pkcs10, "QUFB", 405, "method"},
		"DELETE attributes":   {"DELETE", "/.well-known/est/csrattrs", "", "", 405, "method"},
		"form":                {"POST", enrol, "application/x-www-form-urlencoded", "QUFB", 415, "content_type"},
		"garbled type":        {"POST", enrol, ";;", "QUFB", 415, "content_type"},
		"too large":           {"POST", enrol, pkcs10, large, 413, "too_large"},
		"no body":             {"POST", enrol, pkcs10, "", 400, "body_empty"},
		"no base64":           {"POST", enrol, pkcs10, "{}", 400, "base64_malformed"},
		"half a PEM":          {"POST", enrol, pkcs10, "-----BEGIN CERTIFICATE REQUEST-----\nQUFB", 400, "pem_malformed"},
		"no type":             {"POST", enrol, "", "{}", 400, "base64_malformed"},
	} {
		request, err := http.NewRequest(c.method, d.URL+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		request.SetBasicAuth("dev-1", "token")
		if c.contentType != "" {
			request.Header.Set("Content-Type", c.contentType)
		}
		answer, err := d.Client().Transport.RoundTrip(request)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		body, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		if answer.StatusCode != c.status || !strings.HasPrefix(string(body), c.code+": ") {
			t.Errorf("%s: got %d %q, want %d %s", name, answer.StatusCode, body, c.status, c.code)
		}
		lines := strings.Split(string(body), "\n")
		if len(lines) != 3 || lines[2] != "" || !strings.HasPrefix(lines[1], "ref: ") || !strings.Contains(d.log.String(), lines[1][5:]) {
			t.Errorf("%s: want a reason and a reference that is in the log, got %q", name, body)
		}
		if kind := answer.Header.Get("Content-Type"); kind != "text/plain; charset=utf-8" || answer.ContentLength != int64(len(body)) {
			t.Errorf("%s: %s, %d bytes declared of %d", name, kind, answer.ContentLength, len(body))
		}
		if allow := answer.Header.Get("Allow"); (c.status == 405) != (allow != "") {
			t.Errorf("%s: Allow: %q", name, allow)
		}
	}
}

func TestTooLargeWithoutLength(t *testing.T) {
	d := open(t, 2, nil)
	request, _ := http.NewRequest("POST", d.URL+"/.well-known/est/simpleenroll", io.MultiReader(strings.NewReader(strings.Repeat("A", est.MaxRequest+1))))
	request.SetBasicAuth("dev-1", "token")
	answer, err := d.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != 413 {
		t.Errorf("got %d", answer.StatusCode)
	}
}

func TestIncompleteBody(t *testing.T) {
	d := open(t, 2, nil)
	plain, err := tls.Dial("tcp", d.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	fmt.Fprintf(plain, "POST /.well-known/est/simpleenroll HTTP/1.1\r\nHost: est\r\nAuthorization: Basic eDp5\r\nContent-Length: 500\r\n\r\nQUFB")
	plain.CloseWrite()
	answer, err := http.ReadResponse(bufio.NewReader(plain), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if body, _ := io.ReadAll(answer.Body); answer.StatusCode != 400 || !strings.HasPrefix(string(body), "body_incomplete: ") {
		t.Errorf("got %d %q", answer.StatusCode, body)
	}
}

func TestProblemDocuments(t *testing.T) {
	d := open(t, 2, nil)
	request, _ := http.NewRequest("GET", d.URL+"/.well-known/est/elsewhere/cacerts", nil)
	request.Header.Set("Accept", "application/problem+json")
	answer, err := d.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var problem struct {
		Status            int
		Detail, Code, Ref string
	}
	if err := json.NewDecoder(answer.Body).Decode(&problem); err != nil {
		t.Fatal(err)
	}
	if problem.Status != 404 || problem.Code != "profile_unknown" || problem.Ref == "" || answer.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("got %+v", problem)
	}
}

func TestCSRAttributesOfProfiles(t *testing.T) {
	d := open(t, 2, nil)
	for label, want := range map[string]string{
		// challengePassword, P-256, ECDSA with SHA-256
		"linked": "MCwGCSqGSIb3DQEJBzAVBgcqhkjOPQIBMQoGCCqGSM49AwEHBggqhkjOPQQDAg==\n",
		// the template with serverAuth and clientAuth comes first
		"default": "MIGbMHgGCyqGSIb3DQEJEAI9",
	} {
		answer, err := d.Client().Get(d.URL + "/.well-known/est/" + label + "/csrattrs")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		if answer.Header.Get("Content-Type") != "application/csrattrs" || !strings.HasPrefix(string(body), want) {
			t.Errorf("%s: %s %q", label, answer.Header.Get("Content-Type"), body)
		}
	}
}

func TestRateLimit(t *testing.T) {
	d := open(t, 2, func(d *est.Door) { d.Limiter = limit.New(limit.Config{IdentityBurst: 3, IdentityRate: 0.01}) })
	ask := func(user string) *http.Response {
		request, _ := http.NewRequest("POST", d.URL+"/.well-known/est/simpleenroll", strings.NewReader("{}"))
		request.SetBasicAuth(user, "token")
		answer, err := d.Client().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		return answer
	}
	for range 3 {
		if got := ask("dev-1"); got.StatusCode != 400 {
			t.Fatalf("got %d", got.StatusCode)
		}
	}
	got := ask("dev-1")
	if seconds, err := strconv.Atoi(got.Header.Get("Retry-After")); got.StatusCode != 429 || err != nil || seconds < 1 {
		t.Errorf("got %d, Retry-After %q", got.StatusCode, got.Header.Get("Retry-After"))
	}
	if got := ask("dev-2"); got.StatusCode != 400 {
		t.Errorf("another device is throttled: %d", got.StatusCode)
	}
	if answer, err := d.Client().Get(d.URL + "/.well-known/est/cacerts"); err != nil || answer.StatusCode != 200 {
		t.Errorf("the certificates of the authority are withheld: %v", err)
	}
}

func TestObserved(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]int{}
	d := open(t, 2, func(d *est.Door) {
		d.Observe = func(operation string, status int, took time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			if took <= 0 {
				t.Error("no time has passed")
			}
			seen[fmt.Sprint(operation, " ", status)]++
		}
	})
	for _, path := range []string{"/.well-known/est/cacerts", "/.well-known/est/x/y/z", "/.well-known/est/elsewhere/csrattrs"} {
		answer, err := d.Client().Get(d.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
	}
	mu.Lock()
	defer mu.Unlock()
	if len(seen) != 3 || seen["cacerts 200"] != 1 || seen["none 404"] != 1 || seen["csrattrs 404"] != 1 {
		t.Errorf("got %v", seen)
	}
}

func TestWithoutTLS(t *testing.T) {
	d := open(t, 2, nil)
	w := httptest.NewRecorder()
	d.ServeHTTP(w, httptest.NewRequest("GET", "http://host/.well-known/est/cacerts", nil))
	if w.Code != 403 {
		t.Errorf("got %d", w.Code)
	}
}

// A bug behind the door is a 500 that says nothing but where to look.
func TestPanic(t *testing.T) {
	d := open(t, 2, func(d *est.Door) { d.Chain = func() []*x509.Certificate { panic("a secret") } })
	answer, err := d.Client().Get(d.URL + "/.well-known/est/cacerts")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, _ := io.ReadAll(answer.Body)
	says, ref, _ := strings.Cut(string(body), "\nref: ")
	if answer.StatusCode != 500 || says != "internal: internal error" || !strings.Contains(d.log.String(), "a secret") || !strings.Contains(d.log.String(), strings.TrimSpace(ref)) {
		t.Errorf("got %d %q", answer.StatusCode, body)
	}
}

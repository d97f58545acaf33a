package console

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/attest/tpm"
	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/decisionlog"
	"github.com/hallmark-pki/hallmark/enroll"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/internal/pgtest"
	"github.com/hallmark-pki/hallmark/operators"
	"github.com/hallmark-pki/hallmark/policy"
	"github.com/hallmark-pki/hallmark/policy/rego"
	"github.com/hallmark-pki/hallmark/policy/release"
	"github.com/hallmark-pki/hallmark/store"
)

// house is a console on real parts: SQLite, the default policy, a TLS listener.
type house struct {
	*Console
	t        testing.TB
	dir      string
	db       *store.DB
	url      string
	founded  *ca.Founded
	verifier note.Verifier

	running   *release.Running
	operators *ca.Operators
	operator  crypto.Signer // the key of the operators' authority
	admin     *tls.Certificate
	viewer    *tls.Certificate
	roots     *x509.CertPool
	tls       *tls.Config  // the listener's
	ahead     atomic.Int64 // how far the console's clock is before ours, in nanoseconds
}

// cluster is the PostgreSQL that all tests of this package share.
var cluster *pgtest.Cluster

func TestMain(m *testing.M) {
	var err error
	if cluster, err = pgtest.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := cluster.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// onBoth runs a test on a house of each engine.
func onBoth(t *testing.T, test func(*testing.T, *house)) {
	t.Run("SQLite", func(t *testing.T) { test(t, newHouse(t)) })
	t.Run("PostgreSQL", func(t *testing.T) { test(t, newHouseOn(t, store.Config{URL: cluster.Database(t)})) })
}

func newHouse(t testing.TB) *house {
	t.Helper()
	return newHouseOn(t, store.Config{Path: filepath.Join(t.TempDir(), "hallmark.db")})
}

func newHouseOn(t testing.TB, database store.Config) *house {
	t.Helper()
	h := &house{t: t, dir: t.TempDir()}
	now := time.Now()
	root, issuing, adminKey, serverKey := newKey(t), newKey(t), newKey(t), newKey(t)
	h.operator = newKey(t)
	var err error
	h.founded, err = ca.Found(ca.Founding{RootKey: root, IssuingKey: issuing, OperatorCAKey: h.operator,
		AdminKey: adminKey.Public(), ServerKey: serverKey.Public(), Now: now})
	check(t, err)
	h.operators, err = ca.NewOperators(h.founded.OperatorCA, h.operator)
	check(t, err)
	h.admin = credential(adminKey, h.founded.Admin)

	h.db, err = store.Open(t.Context(), database)
	check(t, err)
	t.Cleanup(func() { h.db.Close() })
	h.Console, err = New(h.config(issuing))
	check(t, err)
	working, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- h.Releases.Run(working) }()
	t.Cleanup(func() { stop(); <-ended })
	adopted, err := h.People.Adopt(t.Context(), h.founded.Admin, operators.Role{Name: "admin"})
	if check(t, err); !adopted {
		t.Fatal("the register was not empty")
	}
	h.viewer = h.certified("viewer")

	h.roots = x509.NewCertPool()
	h.roots.AddCert(h.founded.Root)
	server := httptest.NewUnstartedServer(held(t, h.Console))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.EnableHTTP2 = true
	h.tls = &tls.Config{ClientAuth: tls.RequestClientCert, Certificates: []tls.Certificate{
		{Certificate: [][]byte{h.founded.Server.Raw, h.founded.Issuing.Raw}, PrivateKey: serverKey}}}
	server.TLS = h.tls.Clone()
	server.StartTLS()
	t.Cleanup(server.Close)
	h.url = server.URL
	return h
}

// config puts the rooms together as the server does.
func (h *house) config(issuing crypto.Signer) Config {
	t := h.t
	check(t, os.CopyFS(filepath.Join(h.dir, "policy"), rego.Default()))
	h.grantRole("viewer", "viewer")
	h.running = &release.Running{Proposals: h.db, Revisions: h.db, Language: release.Rego{}, Now: time.Now, Log: slog.New(slog.DiscardHandler),
		Directory: func(context.Context) ([]byte, error) {
			b, err := rego.ReadDir(filepath.Join(h.dir, "policy"))
			if err != nil {
				return nil, err
			}
			return b.Pack(nil)
		}}
	check(t, h.running.Start(t.Context()))
	people := &operators.Register{Store: h.db, Roster: h.db, Seals: h.db, Sessions: h.db, Authority: h.operators, Now: time.Now}
	secret, public, err := audit.NewKey("console.test/log")
	check(t, err)
	signer, err := note.NewSigner(secret)
	check(t, err)
	h.verifier, err = audit.ReadKey([]byte(public))
	check(t, err)
	issuer, err := ca.NewLocal(issuing, []*x509.Certificate{h.founded.Issuing, h.founded.Root})
	check(t, err)
	authority, err := ca.New(ca.Config{Issuer: issuer, Store: h.db, Ledger: h.db, Profiles: []ca.Profile{{Name: "device", TrustDomain: "console.test"}}})
	check(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(h.founded.OperatorCA)
	check(t, os.MkdirAll(filepath.Join(h.dir, "keys"), 0o700))
	check(t, os.WriteFile(filepath.Join(h.dir, "keys", "issuing.key"), []byte("secret"), 0o600))
	return Config{
		Events:    func() *decisionlog.Scribe { return h.scribe() },
		Now:       func() time.Time { return time.Now().Add(time.Duration(h.ahead.Load())) },
		Policy:    &policy.Point{Engine: fitting{h.running, t}, Journal: h.db, Uphold: h.uphold},
		Operators: pool,
		People:    people,
		Releases: &release.Releases{Proposals: h.db, Revisions: h.db, Trials: h.db, Replays: h.db, Differences: h.db, Record: h.db, Journal: h.db, Running: h.running,
			Language: release.Rego{}, Now: time.Now, Log: slog.New(slog.DiscardHandler), Operators: people.Subjects},
		Outlet:    &release.Outlet{Running: h.running, Seal: policySeal(t)},
		Fleet:     &fleet.Register{Store: h.db, Now: time.Now},
		Tokens:    &enroll.Tokens{Store: h.db, Now: time.Now},
		Anchors:   &enroll.Anchors{Store: h.db, Now: time.Now},
		Requests:  &enroll.Waiting{Store: h.db, Journal: h.db, Now: time.Now},
		Bonds:     &attest.Bonds{Store: h.db, Now: time.Now},
		Baselines: &attest.Baselines{Store: h.db, Bonds: h.db, Evidence: h.db, Now: time.Now, Replay: tpm.ReplayLog, Device: h.specimen},
		Authority: authority,
		Shelf:     h.db,
		Log:       &audit.Log{Store: h.db, Signer: signer, Verifier: h.verifier},
		Record:    h.db,
		Backup:    Backup{Dir: h.dir, Files: []string{"keys", "policy", "missing"}, Database: "hallmark.db", Snapshot: h.db.Backup},
		Attempts:  h.db,
		Logger:    slog.New(slog.NewTextHandler(testWriter{t}, nil)),
	}
}

// uphold are the guard rails of the server.
func (h *house) uphold(q *policy.Request) (policy.Reason, bool) {
	if why, allowed := operators.Uphold(q); allowed {
		return why, true
	}
	return h.running.Uphold(q)
}

// grantRole gives an operator a role in data.json.
func (h *house) grantRole(operator, role string) {
	name := filepath.Join(h.dir, "policy", "data.json")
	check(h.t, os.Chmod(name, 0o644))
	text, err := os.ReadFile(name)
	check(h.t, err)
	var data struct {
		Settings map[string]any `json:"settings"`
	}
	check(h.t, json.Unmarshal(text, &data))
	data.Settings["operators"].(map[string]any)[operator] = []string{role}
	text, err = json.Marshal(data)
	check(h.t, err)
	check(h.t, os.WriteFile(name, text, 0o644))
}

// testWriter sends the log to the test.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	return key
}

func credential(key crypto.Signer, chain ...*x509.Certificate) *tls.Certificate {
	c := &tls.Certificate{PrivateKey: key}
	for _, cert := range chain {
		c.Certificate = append(c.Certificate, cert.Raw)
	}
	return c
}

// certified is an operator of that name, who is taken into the register if need be.
func (h *house) certified(name string, roles ...operators.Role) *tls.Certificate {
	h.t.Helper()
	if len(roles) == 0 {
		roles = []operators.Role{{Name: name}}
	}
	key := newKey(h.t)
	_, cert, err := h.People.Add(h.t.Context(), h.permit(policy.AddOperator, name), operators.Operator{Name: name, Roles: roles}, key.Public())
	if fault.Is(err, fault.Conflict) {
		cert, err = h.People.Certify(h.t.Context(), h.permit(policy.CertifyOperator, name), name, key.Public())
	}
	check(h.t, err)
	return credential(key, cert)
}

// permit is the administrator's for one thing that is done to an operator.
func (h *house) permit(a policy.Action, name string) policy.Permit {
	h.t.Helper()
	d, err := policy.Decide(h.t.Context(), h.Policy, policy.Request{
		Subject: policy.Entity{Type: "user", ID: "admin", Properties: policy.Properties{"roles": []string{"admin"}, "scopes": map[string]any{}}}, Action: a,
		Resource: policy.Entity{Type: "operator", ID: name}, At: time.Now(),
	})
	check(h.t, err)
	p, err := d.Permit()
	check(h.t, err)
	return p
}

// odd is a certificate under parent that change makes odd.
func odd(t testing.TB, parent *x509.Certificate, parentKey crypto.Signer, change func(*x509.Certificate)) *tls.Certificate {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "admin"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	change(template)
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	check(t, err)
	cert, err := x509.ParseCertificate(der)
	check(t, err)
	return credential(key, cert)
}

// authorityOf makes a self-signed authority of that name.
func authorityOf(t testing.TB, name string) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	c := odd(t, nil, nil, func(c *x509.Certificate) {
		c.Subject, c.IsCA, c.KeyUsage, c.ExtKeyUsage = pkix.Name{CommonName: name}, true, x509.KeyUsageCertSign, nil
	})
	cert, err := x509.ParseCertificate(c.Certificate[0])
	check(t, err)
	return cert, c.PrivateKey.(crypto.Signer)
}

// enrolled issues a certificate to a device, as the walk would.
func (h *house) enrolled(id string) (*tls.Certificate, *ca.Certificate) {
	h.t.Helper()
	key := newKey(h.t)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	check(h.t, err)
	csr, err := ca.ParseCSR(der)
	check(h.t, err)
	device, err := h.Fleet.Device(h.t.Context(), id)
	check(h.t, err)
	d, err := policy.Decide(h.t.Context(), h.Policy, policy.Request{
		Subject:    policy.Entity{Type: "device", ID: id, Properties: policy.Properties{"auth": map[string]any{"method": "token"}}},
		Action:     policy.IssueCertificate,
		Resource:   policy.Entity{Type: "device", ID: id, Properties: policy.Properties{"known": true, "state": string(device.State)}},
		Parameters: policy.Properties{"profile": "device"}, At: time.Now(),
	})
	check(h.t, err)
	grant, err := d.Grant()
	check(h.t, err)
	cert, err := h.Authority.Issue(h.t.Context(), grant, ca.Order{CSR: csr, Device: device, Known: true, Profile: "device"})
	check(h.t, err)
	return credential(key, cert.Parsed, h.founded.Issuing), cert
}

// held makes an enrolment that waits for a person.
func (h *house) held(device string) string {
	h.t.Helper()
	id := audit.NewID(time.Now())
	e := audit.Event{ID: id, At: time.Now(), Action: "certificate.issue", Actor: audit.Party{Type: "device", ID: device},
		Object: audit.Party{Type: "device", ID: device}, Outcome: audit.Held}
	_, err := h.db.Hold(context.Background(), enroll.Held{ID: id.String(), Key: [32]byte(append(id[:], id[:]...)), Device: device, Profile: "device",
		State: enroll.Pending, Created: time.Now(), Expires: time.Now().Add(time.Hour), Attempts: 1, Reasons: []string{"needs_approval"}}, e)
	check(h.t, err)
	return id.String()
}

// reply is an answer, read whole.
type reply struct {
	*http.Response
	body []byte
}

func (r *reply) problem(t testing.TB) Problem {
	t.Helper()
	var p Problem
	if got := r.Header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("%s: Content-Type %q, want a problem: %s", r.Status, got, r.body)
	}
	if err := json.Unmarshal(r.body, &p); err != nil {
		t.Errorf("%s: %v: %s", r.Status, err, r.body)
	}
	return p
}

func (r *reply) into(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal(r.body, v); err != nil {
		t.Fatalf("%s: %v: %s", r.Status, err, r.body)
	}
}

// client is somebody with a credential, or with none.
func (h *house) client(c *tls.Certificate) *http.Client {
	config := &tls.Config{RootCAs: h.roots}
	if c != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c, nil }
	}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	h.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// send calls the API; target may be any bytes that fit a request line.
func (h *house) send(client *http.Client, method, target, kind, body string) *reply {
	h.t.Helper()
	request, err := http.NewRequestWithContext(h.t.Context(), method, h.url+target, strings.NewReader(body))
	check(h.t, err)
	if kind != "" {
		request.Header.Set("Content-Type", kind)
	}
	response, err := client.Do(request)
	if err != nil {
		h.t.Fatalf("%s %s: %v", method, target, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		h.t.Fatalf("%s %s: %v", method, target, err)
	}
	return &reply{response, text}
}

// want sends a call with a JSON body, or without any, and checks its status.
func (h *house) want(client *http.Client, status int, method, target, body string) *reply {
	h.t.Helper()
	kind := ""
	if body != "" {
		kind = "application/json"
	}
	r := h.send(client, method, target, kind, body)
	if r.StatusCode != status {
		h.t.Fatalf("%s %s: %s, want %d: %s", method, target, r.Status, status, r.body)
	}
	return r
}

// imports takes devices into the register through the door.
func (h *house) imports(client *http.Client, ids ...string) {
	h.t.Helper()
	r := h.send(client, "POST", "/api/v1/devices/import", "text/csv", "id\n"+strings.Join(ids, "\n")+"\n")
	if r.StatusCode != http.StatusOK {
		h.t.Fatalf("import: %s %s", r.Status, r.body)
	}
}

func pemOf(c *x509.Certificate) string { return pemBlock(c.Raw) }

func pemBlock(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func jsonOf(v any) string {
	var b bytes.Buffer
	_ = json.NewEncoder(&b).Encode(v)
	return b.String()
}

package housetest_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/hallmark-pki/hallmark/internal/housetest"
)

// person is somebody who calls the API of a server: with a credential, or with none.
type person struct {
	t          testing.TB
	h          *housetest.House
	name       string
	client     *http.Client
	key        crypto.Signer
	credential *tls.Certificate // nil: none
	serial     string
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return key
}

// csrText is a certification request over a key, in PEM.
func csrText(t testing.TB, key crypto.Signer) string {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	must(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// somebody calls with that credential; nil is none.
func somebody(t testing.TB, h *housetest.House, name string, credential *tls.Certificate) *person {
	t.Helper()
	client, config := h.Client()
	if credential != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return credential, nil }
	}
	p := &person{t: t, h: h, name: name, client: client, credential: credential}
	if credential != nil {
		leaf, err := x509.ParseCertificate(credential.Certificate[0])
		must(t, err)
		p.serial = hex.EncodeToString(leaf.SerialNumber.Bytes())
		p.key, _ = credential.PrivateKey.(crypto.Signer)
	}
	return p
}

// firstOperator is who was made with the data directory.
func firstOperator(t testing.TB, h *housetest.House) *person {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(h.Dir, "operators", "admin.crt"), filepath.Join(h.Dir, "operators", "admin.key"))
	must(t, err)
	return somebody(t, h, "admin", &pair)
}

// role is one as the API takes it.
type role struct {
	Role  string            `json:"role"`
	Scope map[string]string `json:"scope,omitempty"`
}

// adds takes somebody into the register.
func (p *person) adds(name string, roles ...role) *person {
	p.t.Helper()
	key := newKey(p.t)
	var made struct{ Certificate string }
	p.calls("POST", "/api/v1/operators", jsonText(map[string]any{"name": name, "roles": roles, "csr": csrText(p.t, key)})).wants(201).into(&made)
	return somebody(p.t, p.h, name, pairOf(p.t, key, made.Certificate))
}

func pairOf(t testing.TB, key crypto.Signer, certificate string) *tls.Certificate {
	t.Helper()
	block, _ := pem.Decode([]byte(certificate))
	if block == nil {
		t.Fatalf("no certificate: %s", certificate)
	}
	return &tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: key}
}

// reply is an answer, read whole.
type reply struct {
	t         testing.TB
	what      string
	status    int
	requestID string
	protocol  string
	body      []byte
	problem   struct {
		Status                           int
		Code, Detail, Ref, Decision, Why string
	}
}

// calls makes a call with a JSON body, or none if that is empty.
func (p *person) calls(method, target, body string) *reply {
	p.t.Helper()
	kind := ""
	if body != "" {
		kind = "application/json"
	}
	return p.sends(method, target, kind, body)
}

func (p *person) sends(method, target, kind, body string) *reply {
	p.t.Helper()
	r, err := p.tries(method, target, kind, body)
	must(p.t, err)
	return r
}

// tries is sends for calls that may break off.
func (p *person) tries(method, target, kind, body string) (*reply, error) {
	request, err := http.NewRequestWithContext(p.t.Context(), method, p.h.URL+target, bytes.NewReader([]byte(body)))
	if err != nil {
		return nil, err
	}
	if kind != "" {
		request.Header.Set("Content-Type", kind)
	}
	return p.does(request)
}

// does makes a call, and reads its answer whole.
func (p *person) does(request *http.Request) (*reply, error) {
	answer, err := p.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	r := &reply{t: p.t, what: p.name + ": " + request.Method + " " + request.URL.RequestURI(), status: answer.StatusCode, requestID: answer.Header.Get("X-Request-Id"),
		protocol: answer.Proto, body: text}
	if answer.Header.Get("Content-Type") == "application/problem+json" {
		err = json.Unmarshal(text, &r.problem)
	}
	return r, err
}

// wants stops the test unless the answer has that status.
func (r *reply) wants(status int) *reply {
	r.t.Helper()
	if r.status != status {
		r.t.Fatalf("%s: %d, want %d: %s", r.what, r.status, status, r.body)
	}
	return r
}

// refuses fails the test unless the answer is that problem.
func (r *reply) refuses(status int, code string) *reply {
	r.t.Helper()
	if r.status != status || r.problem.Code != code {
		r.t.Errorf("%s: %d %s, want %d %s", r.what, r.status, r.problem.Code, status, code)
	}
	return r
}

func (r *reply) into(v any) {
	r.t.Helper()
	if err := json.Unmarshal(r.body, v); err != nil {
		r.t.Fatalf("%s: %v: %s", r.what, err, r.body)
	}
}

// id is the member id of the answer.
func (r *reply) id() string {
	r.t.Helper()
	var made struct{ ID string }
	r.into(&made)
	return made.ID
}

func jsonText(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// operatorsAuthority is the authority of operators' certificates, with its key.
func operatorsAuthority(t testing.TB, h *housetest.House) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	read := func(name string) []byte {
		text, err := os.ReadFile(filepath.Join(h.Dir, name))
		must(t, err)
		block, _ := pem.Decode(text)
		return block.Bytes
	}
	authority, err := x509.ParseCertificate(read("operators/ca.crt"))
	must(t, err)
	key, err := x509.ParsePKCS8PrivateKey(read("keys/operator-ca.key"))
	must(t, err)
	return authority, key.(crypto.Signer)
}

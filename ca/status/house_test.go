package status_test

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/ca/status"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/store"
)

const address = "http://status.example"

// house is an issuer with a database and boards over it, and a clock.
type house struct {
	t       testing.TB
	dir     string
	db      *store.DB
	issuing *x509.Certificate
	root    *x509.Certificate
	signer  *faulty
	issuer  *ca.Local
	ahead   atomic.Int64
	records atomic.Int64
}

// faulty is a key that can be told to fail.
type faulty struct {
	crypto.Signer
	fails atomic.Bool
}

func (f *faulty) Sign(r io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	if f.fails.Load() {
		return nil, errors.New("the key is out of reach")
	}
	return f.Signer.Sign(r, digest, o)
}

func newHouse(t testing.TB) *house {
	t.Helper()
	h := &house{t: t, dir: t.TempDir(), signer: &faulty{Signer: newKey(t)}}
	founded, err := ca.Found(ca.Founding{Name: "Example", Now: time.Now(), RootKey: newKey(t), IssuingKey: h.signer, OperatorCAKey: newKey(t),
		ServerKey: newKey(t).Public(), AdminKey: newKey(t).Public()})
	check(t, err)
	h.issuing, h.root = founded.Issuing, founded.Root
	h.issuer, err = ca.NewLocal(h.signer, []*x509.Certificate{h.issuing, h.root})
	check(t, err)
	h.db = h.open()
	_, err = h.db.ChangeDevices(t.Context(), fleet.Change{Import: []fleet.Line{{Number: 1, Device: fleet.Device{ID: "gw-1"}}}, At: time.Now(),
		EventWith: func(fleet.Imported) (audit.Event, error) { return event("device.import"), nil }})
	check(t, err)
	return h
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func event(action string) audit.Event {
	now := time.Now()
	return audit.Event{ID: audit.NewID(now), At: now, Action: action, Actor: audit.Party{Type: "user", ID: "admin"},
		Object: audit.Party{Type: "certificate", ID: "x"}, Outcome: audit.Granted}
}

func (h *house) open() *store.DB {
	h.t.Helper()
	db, err := store.Open(context.Background(), store.Config{Path: filepath.Join(h.dir, "hallmark.db")})
	check(h.t, err)
	h.t.Cleanup(func() { db.Close() })
	return db
}

func (h *house) now() time.Time { return time.Now().Add(time.Duration(h.ahead.Load())) }

func (h *house) config(db *store.DB) status.Config {
	return status.Config{Issuer: h.issuer, Ledger: db, Shelf: db, URLs: []string{address}, Shards: 4, Now: h.now,
		Record: func(context.Context, audit.Event) error { h.records.Add(1); return nil }}
}

// board puts up a board that follows the database until the test ends.
func (h *house) board(db *store.DB) (*status.Board, *httptest.Server) {
	h.t.Helper()
	return h.run(h.config(db))
}

func (h *house) run(c status.Config) (*status.Board, *httptest.Server) {
	h.t.Helper()
	b, err := status.New(h.t.Context(), c)
	check(h.t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	server := httptest.NewServer(&status.Door{Boards: []*status.Board{b}})
	h.t.Cleanup(func() { server.Close(); stop(); <-done })
	return b, server
}

// certify issues a certificate that ends after that time.
func (h *house) certify(life time.Duration) *x509.Certificate {
	h.t.Helper()
	responder, err := h.issuer.Responder(newKey(h.t).Public(), h.now()) // any certificate of the issuer's will do
	check(h.t, err)
	check(h.t, h.db.Issue(context.Background(), ca.Issuance{Event: event("certificate.issue"), Certificate: &ca.Certificate{
		Serial: ca.SerialText(responder.SerialNumber), Device: "gw-1", Profile: "device", DER: responder.Raw,
		NotBefore: responder.NotBefore, NotAfter: h.now().Add(life), KeySHA256: sha256.Sum256(responder.RawSubjectPublicKeyInfo)}}))
	return responder
}

// revoke revokes a certificate in the database.
func (h *house) revoke(c *x509.Certificate, reason ca.RevocationReason) {
	h.t.Helper()
	_, err := h.db.Revoke(context.Background(), ca.Withdrawal{Target: ca.Target{Serial: ca.SerialText(c.SerialNumber)}, Reason: reason, By: "admin",
		At: h.now().UTC().Truncate(time.Second), EventWith: func(*ca.Revoked) (audit.Event, error) { return event("certificate.revoke"), nil }})
	check(h.t, err)
}

// answerOf is what a server sent.
type answerOf struct {
	status int
	header http.Header
	body   []byte
}

func get(t testing.TB, url string, header ...string) answerOf {
	t.Helper()
	r, err := http.NewRequest("GET", url, nil)
	check(t, err)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultClient.Do(r)
	check(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	check(t, err)
	return answerOf{response.StatusCode, response.Header, body}
}

// path is where the list of a certificate's shard is.
func (h *house) path(c *x509.Certificate) string {
	return "/crl/" + ca.IssuerName(h.issuing.SubjectKeyId) + "/" + strconv.Itoa(ca.CRLShard(c.SerialNumber, 4)) + ".crl"
}

// list reads the list of a certificate's shard and verifies it; nil where none is served.
func (h *house) list(server *httptest.Server, c *x509.Certificate) *x509.RevocationList {
	h.t.Helper()
	a := get(h.t, server.URL+h.path(c))
	if a.status != 200 {
		return nil
	}
	l, err := x509.ParseRevocationList(a.body)
	check(h.t, err)
	check(h.t, l.CheckSignatureFrom(h.issuing))
	return l
}

func listed(l *x509.RevocationList, serial *big.Int) bool {
	for _, e := range l.RevokedCertificateEntries {
		if e.SerialNumber.Cmp(serial) == 0 {
			return true
		}
	}
	return false
}

// ask asks by OCSP.
func (h *house) ask(server *httptest.Server, serial *big.Int) *ocsp.Response {
	h.t.Helper()
	request, err := ocsp.CreateRequest(&x509.Certificate{SerialNumber: serial}, h.issuing, &ocsp.RequestOptions{Hash: crypto.SHA256})
	check(h.t, err)
	a := get(h.t, server.URL+"/ocsp/"+url.PathEscape(base64.StdEncoding.EncodeToString(request)))
	if a.status != 200 {
		h.t.Fatalf("OCSP answered %d", a.status)
	}
	r, err := ocsp.ParseResponse(a.body, h.issuing)
	check(h.t, err)
	return r
}

// eventually waits until something holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for range 1000 {
		if holds() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("never: " + what)
}

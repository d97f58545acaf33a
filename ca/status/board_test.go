package status_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/ca/status"
)

// TestBoard: lists and answers tell of a revocation by themselves, at a replica too, where the lists are the same to the byte.
func TestBoard(t *testing.T) {
	h := newHouse(t)
	good, bad := h.certify(time.Hour), h.certify(time.Hour)
	board, one := h.board(h.db)
	_, two := h.board(h.open())
	for _, server := range []*httptest.Server{one, two} {
		if l := h.list(server, bad); l == nil || listed(l, bad.SerialNumber) {
			t.Fatalf("got %+v", l)
		}
		if r := h.ask(server, bad.SerialNumber); r.Status != ocsp.Good {
			t.Fatalf("got %d", r.Status)
		}
		if r := h.ask(server, big.NewInt(4711)); r.Status != ocsp.Unknown {
			t.Fatalf("got %d", r.Status)
		}
	}
	before := h.list(one, bad).Number
	h.revoke(bad, ca.KeyCompromise)
	board.Wake()
	for _, server := range []*httptest.Server{one, two} {
		eventually(t, "the list tells of the revocation", func() bool { return listed(h.list(server, bad), bad.SerialNumber) })
		l := h.list(server, bad)
		if l.Number.Cmp(before) <= 0 || l.RevokedCertificateEntries[0].ReasonCode != 1 {
			t.Errorf("list %d after %d: %+v", l.Number, before, l.RevokedCertificateEntries)
		}
		r := h.ask(server, bad.SerialNumber)
		if r.Status != ocsp.Revoked || r.RevocationReason != 1 || !r.RevokedAt.Equal(l.RevokedCertificateEntries[0].RevocationTime) {
			t.Errorf("got %+v", r)
		}
		if r := h.ask(server, good.SerialNumber); r.Status != ocsp.Good {
			t.Errorf("got %d", r.Status)
		}
	}
	eventually(t, "both serve the same", func() bool {
		return bytes.Equal(get(t, one.URL+h.path(bad)).body, get(t, two.URL+h.path(bad)).body)
	})
	if h.records.Load() != 2 {
		t.Errorf("%d responders are on the record, want one for each replica", h.records.Load())
	}
	if board.Revoked() != 1 || board.Overdue() != 0 {
		t.Errorf("%d revoked, %d overdue", board.Revoked(), board.Overdue())
	}
}

// TestAgreement: at no moment does OCSP say one thing and the list another.
func TestAgreement(t *testing.T) {
	h := newHouse(t)
	board, server := h.board(h.db)
	for round := range 12 {
		c := h.certify(time.Hour)
		done := make(chan struct{})
		go func() {
			defer close(done)
			h.revoke(c, ca.Superseded)
			board.Wake()
		}()
		for n := 0; ; n++ {
			if n%2 == 0 { // what one has said the other says from then on
				if h.ask(server, c.SerialNumber).Status == ocsp.Revoked && !listed(h.list(server, c), c.SerialNumber) {
					t.Fatalf("round %d: OCSP says revoked, the list does not", round)
				}
			} else if listed(h.list(server, c), c.SerialNumber) {
				if h.ask(server, c.SerialNumber).Status != ocsp.Revoked {
					t.Fatalf("round %d: the list says revoked, OCSP does not", round)
				}
				break
			}
		}
		<-done
	}
}

// TestExpiry: a revoked certificate stands in one list after its end, and then in none; OCSP remembers. A clock that was ahead loses nothing.
func TestExpiry(t *testing.T) {
	h := newHouse(t)
	c, d := h.certify(90*time.Minute), h.certify(300*time.Hour)
	h.revoke(c, ca.Superseded)
	h.revoke(d, ca.Superseded)
	board, server := h.board(h.db)
	first := h.list(server, c)
	if !listed(first, c.SerialNumber) {
		t.Fatal("not in the list")
	}
	at := func(ahead time.Duration) *x509.RevocationList {
		t.Helper()
		h.ahead.Store(int64(ahead))
		for range 3 {
			board.Wake()
			time.Sleep(20 * time.Millisecond)
		}
		var l *x509.RevocationList
		eventually(t, "a list of that time", func() bool {
			l = h.list(server, c)
			return l != nil && l.ThisUpdate.Sub(h.now()).Abs() < time.Minute
		})
		return l
	}
	if l := at(95 * time.Minute); !listed(l, c.SerialNumber) {
		t.Error("the list that was made first after its end does not tell of it")
	}
	board.Wake()
	if l := at(4 * time.Hour); listed(l, c.SerialNumber) {
		t.Error("a later list tells of it still")
	}
	if r := h.ask(server, c.SerialNumber); r.Status != ocsp.Revoked {
		t.Errorf("OCSP says %d of what was revoked and has expired", r.Status)
	}
	at(400 * time.Hour)
	at(800 * time.Hour)
	at(0)
	eventually(t, "back in the lists after the clock was ahead", func() bool { return listed(h.list(server, d), d.SerialNumber) })
	if l := h.list(server, c); l.Number.Cmp(first.Number) <= 0 {
		t.Errorf("number %d after %d", l.Number, first.Number)
	}
}

// TestFailingSigner: a list that lacks a revocation is not served, one whose time is over neither, and it shows.
func TestFailingSigner(t *testing.T) {
	h := newHouse(t)
	var failures atomic.Int64
	c := h.config(h.db)
	c.Published = func(_ int, _ time.Duration, err error) {
		if err != nil {
			failures.Add(1)
		}
	}
	bad, good := h.certify(time.Hour), h.certify(time.Hour)
	for h.path(bad) == h.path(good) {
		good = h.certify(time.Hour)
	}
	board, server := h.run(c)
	h.ask(server, bad.SerialNumber) // the responder has its certificate by now
	h.list(server, bad)
	h.list(server, good)
	h.signer.fails.Store(true)
	h.revoke(bad, ca.KeyCompromise)
	board.Wake()
	eventually(t, "the list is withheld", func() bool { return get(t, server.URL+h.path(bad)).status == 503 })
	if r := h.ask(server, bad.SerialNumber); r.Status != ocsp.Revoked {
		t.Errorf("OCSP says %d", r.Status)
	}
	if l := h.list(server, good); l == nil || failures.Load() == 0 || board.Overdue() != 1 {
		t.Errorf("another list: %v; %d failures; %d overdue", l, failures.Load(), board.Overdue())
	}
	h.ahead.Store(int64(3 * time.Hour))
	if a := get(t, server.URL+h.path(good)); a.status != 503 {
		t.Errorf("a list whose time is over is answered with %d", a.status)
	}
	h.signer.fails.Store(false)
	eventually(t, "the lists are served again", func() bool {
		l := h.list(server, bad)
		return l != nil && listed(l, bad.SerialNumber) && h.list(server, good) != nil
	})
	if board.Overdue() != 0 {
		t.Errorf("%d overdue", board.Overdue())
	}
}

// TestRestart: numbers grow, and what was served is served again.
func TestRestart(t *testing.T) {
	h := newHouse(t)
	c := h.certify(time.Hour)
	h.revoke(c, ca.PrivilegeWithdrawn)
	_, one := h.board(h.db)
	eventually(t, "a list", func() bool { l := h.list(one, c); return l != nil && listed(l, c.SerialNumber) })
	before := get(t, one.URL+h.path(c))
	_, two := h.board(h.open())
	after := get(t, two.URL+h.path(c))
	if !bytes.Equal(before.body, after.body) || before.header.Get("ETag") != after.header.Get("ETag") {
		t.Error("a restart has made another list")
	}
	moved := h.config(h.db)
	moved.URLs = []string{address, "http://new.example"}
	_, three := h.run(moved)
	l := h.list(three, c)
	old, err := x509.ParseRevocationList(before.body)
	check(t, err)
	if l.Number.Cmp(old.Number) <= 0 || !listed(l, c.SerialNumber) {
		t.Errorf("number %d after %d", l.Number, old.Number)
	}
	for _, base := range moved.URLs {
		if !bytes.Contains(l.Raw, []byte(base+h.path(c))) {
			t.Errorf("the list does not say that it is that of %s", base+h.path(c))
		}
	}
}

// TestDoor: what caches and clients rely on.
func TestDoor(t *testing.T) {
	h := newHouse(t)
	c := h.certify(time.Hour)
	_, server := h.board(h.db)
	a := get(t, server.URL+h.path(c))
	if a.status != 200 || a.header.Get("Content-Type") != "application/pkix-crl" || a.header.Get("Last-Modified") == "" || !strings.Contains(a.header.Get("Cache-Control"), "max-age=60") {
		t.Errorf("got %d, %v", a.status, a.header)
	}
	if again := get(t, server.URL+h.path(c), "If-None-Match", a.header.Get("ETag")); again.status != 304 || len(again.body) > 0 {
		t.Errorf("got %d", again.status)
	}
	if again := get(t, server.URL+h.path(c), "If-Modified-Since", a.header.Get("Last-Modified")); again.status != 200 {
		t.Errorf("got %d", again.status)
	}
	name := ca.IssuerName(h.issuing.SubjectKeyId)
	for path, want := range map[string]int{
		"/crl/" + name + "/4.crl": 404, "/crl/" + name + "/-1.crl": 404, "/crl/" + name + "/01.crl": 404, "/crl/" + name + "/+1.crl": 404,
		"/crl/" + name + ".crl": 404, "/crl/" + name + "/0": 404, "/crl/ffffffff/0.crl": 404, "/crl/": 404, "/crl/" + name + "/0.crl/": 404,
		"/crl/" + name + "/0.crl": 200, "/ocsp": 400, "/ocsp/": 400, "/ocsp/%%": 400,
	} {
		r, err := http.NewRequest("GET", server.URL, nil)
		check(t, err)
		r.URL.Opaque = path
		response, err := http.DefaultClient.Do(r)
		check(t, err)
		response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, response.StatusCode, want)
		}
	}

	request, err := ocsp.CreateRequest(&x509.Certificate{SerialNumber: c.SerialNumber}, h.issuing, nil)
	check(t, err)
	for n := 0; !strings.ContainsAny(base64.StdEncoding.EncodeToString(request), "+") || !strings.Contains(base64.StdEncoding.EncodeToString(request), "/"); n++ {
		request, err = ocsp.CreateRequest(&x509.Certificate{SerialNumber: h.certify(time.Hour).SerialNumber}, h.issuing, nil)
		check(t, err)
	}
	text := base64.StdEncoding.EncodeToString(request)
	forms := map[string]string{
		"as it is": text, "escaped": url.PathEscape(text), "all escaped": url.QueryEscape(text), "no padding": strings.TrimRight(text, "="),
		"for URLs": base64.URLEncoding.EncodeToString(request), "spaces": strings.ReplaceAll(text, "+", "%20"),
	}
	for name, form := range forms {
		a := get(t, server.URL+"/ocsp/"+form)
		r, err := ocsp.ParseResponse(a.body, h.issuing)
		if err != nil || r.Status != ocsp.Good || a.header.Get("Content-Type") != "application/ocsp-response" || !strings.Contains(a.header.Get("Cache-Control"), "max-age=60") || a.header.Get("ETag") == "" {
			t.Errorf("%s: %v, %v", name, err, a.header)
		}
	}
	for name, body := range map[string][]byte{"nothing": nil, "noise": []byte("hello"), "too much": make([]byte, status.MaxRequest+2)} {
		response, err := http.Post(server.URL+"/ocsp", "application/ocsp-request", bytes.NewReader(body))
		check(t, err)
		text, err := io.ReadAll(response.Body)
		check(t, err)
		response.Body.Close()
		if hex.EncodeToString(text) != "30030a0101" || response.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %x", name, response.StatusCode, text)
		}
	}
	foreign, err := ocsp.CreateRequest(c, h.root, nil)
	check(t, err)
	response, err := http.Post(server.URL+"/ocsp", "application/ocsp-request", bytes.NewReader(foreign))
	check(t, err)
	body, err := io.ReadAll(response.Body)
	check(t, err)
	response.Body.Close()
	if hex.EncodeToString(body) != "30030a0106" {
		t.Errorf("of another issuer: %x", body)
	}
	response, err = http.Post(server.URL+"/crl/x.crl", "", nil)
	check(t, err)
	response.Body.Close()
	if response.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("got %d", response.StatusCode)
	}
}

// TestWholeList: a root has one list, of everything.
func TestWholeList(t *testing.T) {
	h := newHouse(t)
	c := h.config(h.db)
	c.Shards, c.ListLife = 0, 24*time.Hour
	_, server := h.run(c)
	a := get(t, server.URL+"/crl/"+ca.IssuerName(h.issuing.SubjectKeyId)+".crl")
	l, err := x509.ParseRevocationList(a.body)
	if a.status != 200 || err != nil || len(l.Extensions) != 2 || l.NextUpdate.Sub(l.ThisUpdate) != 24*time.Hour {
		t.Fatalf("got %d, %+v, %v", a.status, l, err)
	}
}

// BenchmarkBoard is what a revocation costs where many stand, and what an answer does.
func BenchmarkBoard(b *testing.B) {
	h := newHouse(b)
	c := h.certify(time.Hour)
	_, server := h.board(h.db)
	_ = server
	door := func() *status.Board {
		board, err := status.New(context.Background(), h.config(h.db))
		check(b, err)
		return board
	}()
	request, err := ocsp.CreateRequest(&x509.Certificate{SerialNumber: c.SerialNumber}, h.issuing, nil)
	check(b, err)
	handler := &status.Door{Boards: []*status.Board{door}}
	for name, path := range map[string]string{"OCSP": "/ocsp/" + url.PathEscape(base64.StdEncoding.EncodeToString(request)), "CRL": h.path(c)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w := httptest.NewRecorder()
				handler.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
				if w.Code != 200 {
					b.Fatal(fmt.Sprint(w.Code))
				}
			}
		})
	}
}

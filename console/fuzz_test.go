package console

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"testing"
)

// FuzzCall: whatever an administrator sends, it is never our failure.
func FuzzCall(f *testing.F) {
	h := newHouse(f)
	h.Logger = slog.New(slog.DiscardHandler)
	admin, err := x509.ParseCertificate(h.admin.Certificate[0])
	check(f, err)
	f.Add("POST", "/api/v1/tokens", "application/json", []byte(`{"device":"gw-1","uses":2,"ttl":"7d"}`))
	f.Add("GET", "/api/v1/decisions?verdict=deny&since=2026-01-01T00:00:00Z&limit=5&cursor=9", "", []byte(nil))
	f.Add("POST", "/api/v1/devices/import", "text/csv", []byte("id,model\ngw-1,m\n"))
	f.Add("POST", "/api/v1/devices/import", "application/x-ndjson", []byte(`{"id":"gw-1","labels":{"a":"b"}}`))
	f.Add("POST", "/api/v1/devices/gw-1/quarantine", "application/json; charset=utf-8", []byte(`{"reason":"x"}`))
	f.Add("DELETE", "/api/v1/anchors/00?profile=device", "", []byte(nil))
	f.Add("GET", "/api/v1/devices?limit=1&cursor=ZGV2aWNlLmxpc3QgZ3ctMDAwMQ", "", []byte(nil))
	f.Add("POST", "/api/v1/policy/proposals?note=n", "application/gzip", []byte(h.changed("unaffirmed_lifetime", "2h", nil)))
	f.Add("POST", "/api/v1/policy/proposals/x/activate", "application/json", []byte(`{"stage":"profiles","profiles":["device"],"accept_refusals":1}`))
	f.Add("POST", "/api/v1/policy/rollback", "application/json", []byte(`{"to":1,"reason":"x"}`))
	f.Add("GET", "/api/v1/audit/proof/00ff", "", []byte(nil))
	f.Add("GET", "/log/tile/entries/x001/234.p/17", "", []byte(nil))
	f.Fuzz(func(t *testing.T, method, target, kind string, body []byte) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return // no server gets to see it
		}
		r := (&http.Request{Method: method, URL: u, Proto: "HTTP/1.1", Header: http.Header{"Content-Type": {kind}}, RemoteAddr: "192.0.2.1:1",
			Body: http.NoBody, ContentLength: int64(len(body)), TLS: &tls.ConnectionState{PeerCertificates: []*x509.Certificate{admin}}}).WithContext(t.Context())
		if len(body) > 0 {
			r.Body = http.MaxBytesReader(nil, readCloser{bytes.NewReader(body)}, 1<<20)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Errorf("%s %q: %d %s", method, target, w.Code, w.Body)
		}
		if w.Code >= 400 && w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %q: %d as %q", method, target, w.Code, w.Header().Get("Content-Type"))
		}
	})
}

type readCloser struct{ *bytes.Reader }

func (readCloser) Close() error { return nil }

// FuzzRestore: whatever the archive is, nothing is written outside the new
// directory, and nothing is left of a bad one.
func FuzzRestore(f *testing.F) {
	var good bytes.Buffer
	out := tar.NewWriter(&good)
	m := manifestMember(`{"name":"config.yaml","size":0,"sha256":"` + emptySHA256 + `"}`)
	m.Size = int64(len(m.content))
	config := file("config.yaml")
	check(f, errors.Join(out.WriteHeader(&config.Header), out.WriteHeader(&m.Header)))
	_, err := out.Write([]byte(m.content))
	check(f, errors.Join(err, out.Close()))
	f.Add(good.Bytes())
	f.Add([]byte("hello"))
	f.Fuzz(func(t *testing.T, tarball []byte) {
		parent := t.TempDir()
		var b bytes.Buffer
		zipped := gzip.NewWriter(&b)
		_, err := zipped.Write(tarball)
		check(t, errors.Join(err, zipped.Close()))
		_, err = Restore(&b, filepath.Join(parent, "data"))
		left := entriesOf(t, parent)
		if err != nil && len(left) > 0 || err == nil && (len(left) != 1 || !left["data"]) {
			t.Errorf("%v, and there is %v", err, left)
		}
	})
}

// FuzzSpan: a length of time is positive and not too long to be one.
func FuzzSpan(f *testing.F) {
	for _, text := range []string{"7d", "24h", "1.5d", "-1h", "106752d", "9223372036854775807ns", "1e9d", "d", ""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if span, err := parseSpan("ttl", text); err == nil && span <= 0 {
			t.Errorf("%q is %v", text, span)
		}
	})
}

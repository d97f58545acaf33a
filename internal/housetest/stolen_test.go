package housetest_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/internal/housetest"
)

// line is a connection that somebody has opened, and how it is known to be the same one still.
type line struct {
	name string
	open func(t *testing.T, p *person) (again func() *reply)
}

// lines are the ways to go on with what was opened before.
var lines = []line{
	{"HTTP/1.1 keep-alive", func(t *testing.T, p *person) func() *reply { return keeps(t, p, false) }},
	{"HTTP/2", func(t *testing.T, p *person) func() *reply { return keeps(t, p, true) }},
	{"a resumed TLS session", resumes},
}

// keeps calls over one connection, which has to be the same each time.
func keeps(t *testing.T, p *person, http2 bool) func() *reply {
	transport := p.client.Transport.(*http.Transport)
	transport.ForceAttemptHTTP2, transport.MaxConnsPerHost = http2, 1
	protocol := map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[http2]
	opening := true
	return func() *reply {
		reused := false
		trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { reused = i.Reused }}
		request, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), "GET", p.h.URL+"/api/v1/devices", nil)
		must(t, err)
		r, err := p.does(request)
		must(t, err)
		if r.protocol != protocol || reused == opening {
			t.Errorf("%s over %s, reused: %v", p.name, r.protocol, reused)
		}
		opening = false
		return r
	}
}

// resumes calls over a new connection each time, of which all but the first resume the session.
func resumes(t *testing.T, p *person) func() *reply {
	transport := p.client.Transport.(*http.Transport)
	transport.DisableKeepAlives = true
	transport.TLSClientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	opening := true
	return func() *reply {
		resumed := false
		trace := &httptrace.ClientTrace{TLSHandshakeDone: func(s tls.ConnectionState, _ error) { resumed = s.DidResume }}
		request, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), "GET", p.h.URL+"/api/v1/devices", nil)
		must(t, err)
		r, err := p.does(request)
		must(t, err)
		if resumed == opening {
			t.Errorf("%s: resumed: %v", p.name, resumed)
		}
		opening = false
		return r
	}
}

// TestAStolenCertificateStopsWorkingAtOnce: whoever holds it has connections open. The very next
// call on each of them is refused, and on record; and nothing else is any better.
func TestAStolenCertificateStopsWorkingAtOnce(t *testing.T) {
	h := housetest.Start(t, "--rate-limits=off")
	admin := firstOperator(t, h)
	for i, act := range []struct {
		verb, body string
		status     int
		code       string
	}{
		{"revoke", `{"all":true,"reason":"stolen"}`, 401, "certificate_revoked"},
		{"suspend", `{"reason":"stolen"}`, 403, "operator_suspended"},
		{"remove", `{"reason":"stolen"}`, 403, "operator_removed"},
	} {
		victim := admin.adds(fmt.Sprintf("eve-%d", i), role{Role: "admin"})
		var thieves []func() *reply
		for _, l := range lines {
			thief := somebody(t, h, victim.name+" over "+l.name, victim.credential)
			again := l.open(t, thief)
			again().wants(200)
			again().wants(200)
			thieves = append(thieves, again)
		}
		admin.calls("POST", "/api/v1/operators/"+victim.name+"/"+act.verb, act.body).wants(204)
		for _, again := range thieves {
			if r := again().refuses(act.status, act.code); r.problem.Decision == "" {
				t.Errorf("%s: not on record: %s", r.what, r.body)
			}
		}
		// Nor does it help to get another certificate for the one that was stolen, or to sign oneself back in.
		somebody(t, h, victim.name, victim.credential).calls("POST", "/api/v1/operators/"+victim.name+"/renew",
			jsonText(map[string]string{"csr": csrText(t, newKey(t))})).refuses(act.status, act.code)
		somebody(t, h, victim.name, victim.credential).calls("POST", "/api/v1/operators/"+victim.name+"/resume", "").refuses(act.status, act.code)
	}
}

// TestALongDownloadOfWhoIsBarredIsCut: somebody who may, takes all there is, slowly; and is suspended meanwhile.
func TestALongDownloadOfWhoIsBarredIsCut(t *testing.T) {
	h := housetest.Start(t, "--rate-limits=off")
	admin := firstOperator(t, h)
	devices := []byte("id,serial,batch\n")
	for i := range 60_000 {
		devices = fmt.Appendf(devices, "gw-%06d,%s,%s\n", i, noise(), noise())
	}
	admin.sends("POST", "/api/v1/devices/import", "text/csv", string(devices)).wants(200)
	for _, http2 := range []bool{false, true} {
		eve := admin.adds(fmt.Sprintf("eve-%v", http2), role{Role: "admin"})
		transport := eve.client.Transport.(*http.Transport)
		transport.ForceAttemptHTTP2 = http2
		transport.DialContext = (&net.Dialer{Control: smallWindow}).DialContext
		request, err := http.NewRequestWithContext(t.Context(), "POST", h.URL+"/api/v1/backup", nil)
		must(t, err)
		answer, err := eve.client.Do(request)
		must(t, err)
		if answer.StatusCode != 200 {
			t.Fatal(answer.Status)
		}
		must(t, first(io.ReadFull(answer.Body, make([]byte, 16<<10))))
		cut := strings.Count(h.Log(), "answer cut short")
		admin.calls("POST", "/api/v1/operators/"+eve.name+"/suspend", `{"reason":"takes everything"}`).wants(204)
		for deadline := time.Now().Add(30 * time.Second); strings.Count(h.Log(), "answer cut short") == cut; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("HTTP/2 %v: the server goes on sending to who is suspended", http2)
			}
		}
		if n, err := io.Copy(io.Discard, answer.Body); err == nil {
			t.Errorf("HTTP/2 %v: all of it came through, %d bytes", http2, n)
		}
		answer.Body.Close()
	}
}

// first is the error of a call that returns a number with it.
func first(_ int, err error) error { return err }

// noise is text that does not get smaller when it is packed.
func noise() string {
	var b [60]byte
	for i := range b {
		b[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._"[rand.IntN(64)]
	}
	return string(b[:])
}

// smallWindow keeps the kernel from taking a download in before it is read.
func smallWindow(_, _ string, c syscall.RawConn) error {
	var wrong error
	err := c.Control(func(fd uintptr) {
		wrong = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 16<<10)
	})
	if wrong != nil {
		return wrong
	}
	return err
}

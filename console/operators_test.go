package console

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/operators"
	"github.com/hallmark-pki/hallmark/policy"
	"github.com/hallmark-pki/hallmark/store"
)

// csrOf is a certification request over that key.
func csrOf(t testing.TB, key crypto.Signer) string {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	check(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// serialOf is the serial number of a credential's certificate.
func serialOf(t testing.TB, c *tls.Certificate) string {
	t.Helper()
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	check(t, err)
	return ca.SerialText(leaf.SerialNumber)
}

// act is something done to an operator behind their back.
type act struct {
	name   string
	do     func(h *house, name string, c *tls.Certificate) error
	status int
	code   string
}

// acts are the ways to lose what one may do.
var acts = []act{
	{"suspended", func(h *house, name string, _ *tls.Certificate) error {
		return h.People.Suspend(h.t.Context(), h.permit(policy.SuspendOperator, name), name, "on leave")
	}, 403, "operator_suspended"},
	{"removed", func(h *house, name string, _ *tls.Certificate) error {
		return h.People.Remove(h.t.Context(), h.permit(policy.RemoveOperator, name), name, "has left")
	}, 403, "operator_removed"},
	{"robbed", func(h *house, name string, c *tls.Certificate) error {
		return h.People.Revoke(h.t.Context(), h.permit(policy.RevokeOperator, name), name, serialOf(h.t, c), "the laptop was stolen")
	}, 401, "certificate_revoked"},
	{"robbed of all", func(h *house, name string, _ *tls.Certificate) error {
		return h.People.Revoke(h.t.Context(), h.permit(policy.RevokeOperator, name), name, "", "the laptop was stolen")
	}, 401, "certificate_revoked"},
}

// administrator is another one, with a name of their own.
func (h *house) administrator(name string) *tls.Certificate {
	h.t.Helper()
	return h.certified(name, operators.Role{Name: "admin"})
}

// TestWhoIsBarredIsOut: an administrator loses what they may do while their
// connection stands, over HTTP/2 and HTTP/1.1; the next call on it is refused, and so is one on a session that is resumed.
func TestWhoIsBarredIsOut(t *testing.T) {
	onBoth(t, func(t *testing.T, h *house) {
		for n, a := range acts {
			for protocol, http2 := range map[string]bool{"HTTP/2.0": true, "HTTP/1.1": false} {
				name := "eve-" + string(rune('a'+n)) + "-" + protocol[5:6]
				h.grantRole(name, "admin")
				check(t, h.running.Reload(t.Context()))
				eve := h.administrator(name)
				client := h.client(eve)
				transport := client.Transport.(*http.Transport)
				transport.ForceAttemptHTTP2 = http2
				transport.TLSClientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(1)
				if r := h.want(client, 200, "GET", "/api/v1/tokens", ""); r.Proto != protocol {
					t.Fatalf("spoke %s", r.Proto)
				}
				check(t, a.do(h, name, eve))
				r := h.want(client, a.status, "GET", "/api/v1/tokens", "")
				p := r.problem(t)
				if p.Code != a.code || p.Decision == "" {
					t.Errorf("%s, %s: %+v", a.name, protocol, p)
				}
				h.wantRefusal(p.Decision, name, a.code)
				transport.CloseIdleConnections()
				if r := h.want(client, a.status, "GET", "/api/v1/tokens", ""); !r.TLS.DidResume {
					t.Errorf("%s, %s: the session was not resumed: nothing is shown", a.name, protocol)
				}
			}
		}
	})
}

// wantRefusal makes sure that the record holds the refusal of an operator under that id.
func (h *house) wantRefusal(id, name, code string) {
	h.t.Helper()
	parsed, err := audit.ParseID(id)
	check(h.t, err)
	e, err := h.Record.Entry(h.t.Context(), parsed)
	check(h.t, err)
	l, err := readLeaf(e)
	check(h.t, err)
	if l.Outcome != audit.Refused || l.Actor.ID != name || l.Decision == nil || l.Decision.Reasons[0].Code != code {
		h.t.Errorf("the refusal of %s stands as %s", name, e.Leaf)
	}
}

// TestEveryRouteIsShutToWhoIsBarred walks every route as somebody who was an
// administrator a moment ago.
func TestEveryRouteIsShutToWhoIsBarred(t *testing.T) {
	h := newHouse(t)
	samples := h.samples()
	for n, a := range acts {
		name := "eve-" + string(rune('a'+n))
		eve := h.administrator(name)
		check(t, a.do(h, name, eve))
		client := h.client(eve)
		for _, rt := range routes {
			if rt.proof != nil {
				continue // certificates count for nothing here; see TestBreakglass
			}
			s := samples[rt.method+" "+rt.pattern]
			r := h.send(client, rt.method, s.target, s.kind, s.body)
			if r.StatusCode != a.status {
				t.Errorf("%s: %s %s: %s", a.name, rt.method, rt.pattern, r.Status)
			}
		}
	}
}

// TestACertificateOfNobodys: the operators' authority has signed it, and that is not enough.
func TestACertificateOfNobodys(t *testing.T) {
	h := newHouse(t)
	for _, name := range []string{"somebody", "admin"} { // one whose name is not in the register, and one whose certificate is not
		key := newKey(t)
		cert, err := h.operators.Certify(name, key.Public(), time.Hour, time.Now())
		check(t, err)
		if p := h.want(h.client(credential(key, cert)), 401, "GET", "/api/v1/tokens", "").problem(t); p.Code != "not_an_operator" || p.Decision != "" {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

// TestOtherReplicasKnow: an operator's certificate is revoked at one server, and
// the connection that stands with another is worth nothing from then on.
func TestOtherReplicasKnow(t *testing.T) {
	url := cluster.Database(t)
	h := newHouseOn(t, store.Config{URL: url})
	db, err := store.Open(t.Context(), store.Config{URL: url})
	check(t, err)
	t.Cleanup(func() { db.Close() })
	config := h.Config
	config.People = &operators.Register{Store: db, Roster: db, Seals: db, Sessions: db, Authority: h.operators, Now: time.Now}
	replica, err := New(config)
	check(t, err)
	server := httptest.NewUnstartedServer(replica)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.EnableHTTP2, server.TLS = true, h.tls.Clone()
	server.StartTLS()
	t.Cleanup(server.Close)
	here := h.url
	h.url = server.URL
	client := h.client(h.viewer)
	h.want(client, 200, "GET", "/api/v1/devices", "")
	h.url = here
	check(t, acts[2].do(h, "viewer", h.viewer))
	h.url = server.URL
	h.want(client, 401, "GET", "/api/v1/devices", "")
}

// TestALongTransferIsCut: who is barred while sending a file is not heard to the end.
func TestALongTransferIsCut(t *testing.T) {
	h := newHouse(t)
	h.grantRole("eve", "admin")
	check(t, h.running.Reload(t.Context()))
	eve := h.administrator("eve")
	client := h.client(eve)
	h.want(client, 200, "GET", "/api/v1/tokens", "")
	body, file := io.Pipe()
	request, err := http.NewRequestWithContext(t.Context(), "POST", h.url+"/api/v1/devices/import", body)
	check(t, err)
	request.Header.Set("Content-Type", csvType)
	over := make(chan struct{})
	go func() {
		defer close(over)
		if response, err := client.Do(request); err == nil {
			response.Body.Close()
			if response.StatusCode < 400 {
				t.Errorf("the import came to an end: %s", response.Status)
			}
		}
	}()
	_, err = io.WriteString(file, "id\ngw-1\n")
	check(t, err)
	check(t, acts[2].do(h, "eve", eve))
	<-over
	file.Close()
	if _, err := h.Fleet.Device(t.Context(), "gw-1"); !fault.Is(err, fault.NotFound) {
		t.Errorf("the device is in the register: %v", err)
	}
}

// rule puts one more rule among those in force.
func (h *house) rule(text string) {
	h.t.Helper()
	check(h.t, os.WriteFile(filepath.Join(h.dir, "policy", "more.rego"), []byte("package hallmark\n\n"+text), 0o644))
	check(h.t, h.running.Reload(h.t.Context()))
}

// sealed seals a key and returns it put together again.
func (h *house) sealed() crypto.Signer {
	h.t.Helper()
	key, err := operators.NewBreakglassKey()
	check(h.t, err)
	h.want(h.client(h.admin), 201, "POST", "/api/v1/breakglass", jsonOf(newSeal{csrOf(h.t, key)}))
	return key
}

func TestBreakglass(t *testing.T) {
	onBoth(t, func(t *testing.T, h *house) {
		var told []operators.Operator
		h.People.Opened = func(o operators.Operator) { told = append(told, o) }
		nobody := h.client(nil)
		open := func(key crypto.Signer, reason string, status int, code string) *reply {
			t.Helper()
			r := h.want(nobody, status, "POST", "/api/v1/breakglass/open", jsonOf(opening{CSR: csrOf(t, key), Reason: reason}))
			if code != "" && r.problem(t).Code != code {
				t.Errorf("refused with %s", r.body)
			}
			return r
		}
		h.want(h.client(h.viewer), 403, "POST", "/api/v1/breakglass", jsonOf(newSeal{csrOf(t, newKey(t))}))
		old, key := h.sealed(), h.sealed()
		open(newKey(t), "let me in", 401, "not_sealed")
		open(old, "let me in", 403, "seal_used") // another was sealed in its place
		open(key, "", 400, "reason_missing")

		h.rule("deny contains {\"code\": \"shut\", \"detail\": \"nobody may do anything\"}\n")
		h.want(h.client(h.admin), 403, "GET", "/api/v1/tokens", "")
		var opened openedSeal
		open(key, "the rules lock everybody out", 200, "").into(t, &opened)
		open(key, "once more", 403, "seal_used")
		if len(told) != 1 || told[0].Breakglass.Reason != "the rules lock everybody out" {
			t.Errorf("told of %+v", told)
		}
		block, _ := pem.Decode([]byte(opened.Certificate))
		cert, err := x509.ParseCertificate(block.Bytes)
		check(t, err)
		if life := cert.NotAfter.Sub(cert.NotBefore); life > time.Hour {
			t.Errorf("it is valid for %s", life)
		}
		caller := credential(key, cert)
		client := h.client(caller)
		h.want(client, 403, "GET", "/api/v1/tokens", "") // rules are asked: it is no way past them
		h.rule("# nothing more\n")
		h.want(client, 200, "GET", "/api/v1/tokens", "")
		h.wantInRecord(opened.Name, "breakglass.open", "token.list")
		if err := acts[2].do(h, opened.Name, caller); err != nil {
			t.Fatal(err)
		}
		h.want(client, 401, "GET", "/api/v1/tokens", "")
		_, err = h.People.Certify(t.Context(), h.permit(policy.CertifyOperator, opened.Name), opened.Name, newKey(t).Public())
		if !fault.Is(err, fault.Conflict) {
			t.Errorf("a caller by break-glass was certified anew: %v", err)
		}
	})
}

// wantInRecord makes sure that the record holds what a caller by break-glass was allowed, each with how they came.
func (h *house) wantInRecord(name string, actions ...string) {
	h.t.Helper()
	entries, err := h.Record.Entries(h.t.Context(), audit.Query{Actor: name, Outcome: audit.Granted, Limit: 100})
	check(h.t, err)
	var found []string
	for _, e := range entries {
		l, err := readLeaf(e)
		check(h.t, err)
		if !strings.Contains(string(l.Decision.Input), `"breakglass":{`) {
			h.t.Errorf("%s was decided without the word break-glass: %s", l.Action, l.Decision.Input)
		}
		found = append(found, l.Action)
	}
	slices.Sort(found)
	if !slices.Equal(found, actions) {
		h.t.Errorf("granted were %q", found)
	}
}

// TestARoleForAPartOfTheFleet: a line operator of one model works with that model, and with nothing else.
func TestARoleForAPartOfTheFleet(t *testing.T) {
	h := newHouse(t)
	h.send(h.client(h.admin), "POST", "/api/v1/devices/import", csvType, "id,model\ngw-1,gw-2\nother,s-1\n")
	scoped := h.client(h.certified("lin", operators.Role{Name: "line", Scope: operators.Scope{Model: "gw-2"}}))
	h.want(scoped, 200, "GET", "/api/v1/devices/gw-1", "")
	h.want(scoped, 403, "GET", "/api/v1/devices/other", "")
	h.want(scoped, 403, "GET", "/api/v1/devices/nowhere", "")
	h.want(scoped, 200, "GET", "/api/v1/devices?model=gw-2", "")
	h.want(scoped, 403, "GET", "/api/v1/devices", "")
	h.want(scoped, 201, "POST", "/api/v1/tokens", `{"device":"gw-1"}`)
	h.want(scoped, 403, "POST", "/api/v1/tokens", `{"device":"other"}`)
	h.want(scoped, 403, "POST", "/api/v1/tokens", `{}`)
	_, cert := h.enrolled("gw-1")
	h.want(scoped, 200, "GET", "/api/v1/certificates/"+cert.Serial, "")
	_, cert = h.enrolled("other")
	h.want(scoped, 403, "GET", "/api/v1/certificates/"+cert.Serial, "")

	file := "id,model\ngw-7,gw-2\ngw-8,s-1\nother,gw-2\n" // one of theirs, one of another model, and one that is to become theirs
	if r := h.send(scoped, "POST", "/api/v1/devices/import", csvType, file); r.StatusCode != 403 {
		t.Errorf("an import of anything: %s", r.Status)
	}
	var done fleet.Imported
	h.send(scoped, "POST", "/api/v1/devices/import?model=gw-2", csvType, file).into(t, &done)
	if done.Created != 1 || done.Updated != 0 || len(done.Errors) != 2 {
		t.Errorf("the import came to %+v", done)
	}
}

package housetest_test

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/internal/housetest"
)

// operation is one of the API's, as its OpenAPI document tells of it.
type operation struct {
	method, path string
	action       string // empty: anybody may
	byProof      bool   // something else than a certificate says who calls
	needsBody    bool
}

func (o *operation) String() string { return o.method + " " + o.path }

// reads reports whether the operation changes nothing, as far as the record is concerned.
func (o *operation) reads() bool { return o.method == "GET" || o.action == "backup.create" }

// operationsOf reads the document that the server serves.
func operationsOf(t *testing.T, h *housetest.House) (all []operation, actions []string) {
	t.Helper()
	var document struct {
		Paths map[string]map[string]struct {
			Action   string                  `json:"x-hallmark-action"`
			Security *[]map[string][]string  `json:"security"`
			Body     struct{ Required bool } `json:"requestBody"`
		}
	}
	somebody(t, h, "nobody", nil).calls("GET", "/api/v1/openapi.json", "").wants(200).into(&document)
	for path, methods := range document.Paths {
		for method, told := range methods {
			open := told.Security != nil && slices.ContainsFunc(*told.Security, func(s map[string][]string) bool { return len(s) == 0 })
			if told.Action == "" && !open {
				t.Errorf("%s %s takes no right and is not open", method, path)
			}
			all = append(all, operation{strings.ToUpper(method), path, told.Action, open && told.Action != "", told.Body.Required})
			if told.Action != "" {
				actions = append(actions, told.Action)
			}
		}
	}
	slices.SortFunc(all, func(a, b operation) int { return strings.Compare(a.path+a.method, b.path+b.method) })
	slices.Sort(actions)
	return all, slices.Compact(actions)
}

// caller is somebody who walks every route, and what becomes of them.
type caller struct {
	*person
	role   string // what the table is asked for; empty for those who get nowhere
	status int    // of every answer, for those who get nowhere
	code   string
	known  bool // the register knows them: their refusal is on record
}

// probe is one walk of all routes.
type probe struct {
	t      *testing.T
	h      *housetest.House
	admin  *person
	device *housetest.Identity
	things map[string]string // by what stands before the parameter of a path: something that exists
	bodies map[string]string // of operations that want one
	kinds  map[string]string // of their bodies; JSON if it is not said
	made   []witness

	operations []operation
	digest     string // of the rules in force
}

// witness is an answer whose leaf has to be in the record.
type witness struct {
	reply             *reply
	actor, action     string
	outcome, decision string // outcome empty: there must be no leaf
	policy            string
	pattern           string // of the operation, of a change that was made
}

// TestEveryRouteAsEverybody walks every route of the OpenAPI document through
// real TLS as strangers, as each role, and as operators who are barred. It holds each
// answer against the table of roles, and the record against each answer.
func TestEveryRouteAsEverybody(t *testing.T) {
	h := housetest.Start(t, "--rate-limits=off")
	operations, actions := operationsOf(t, h)
	checkRoles(t, h, actions)
	p := newProbe(t, h)
	p.operations = operations
	callers := p.callers()
	for _, c := range callers {
		for i := range operations {
			p.walk(c, &operations[i])
		}
	}
	if len(operations) < 60 || len(callers) < 14 {
		t.Errorf("only %d operations by %d callers", len(operations), len(callers))
	}
	p.deeds()
	p.checkRecord()
	p.checkExplanations()
}

// newProbe furnishes the house with one of each thing that a path may name.
func newProbe(t *testing.T, h *housetest.House) *probe {
	admin := firstOperator(t, h)
	p := &probe{t: t, h: h, admin: admin, things: map[string]string{}}
	h.Import("gw-1", "gw-2", "gw-3")
	token := h.Token("--uses", "100")
	device, err := housetest.Enrol(h.EST("gw-1", token))
	must(t, err)
	p.device = device
	p.holdEverything()
	if _, err := housetest.Enrol(h.EST("gw-2", token)); err == nil {
		t.Fatal("nothing was held")
	}
	var held struct{ Items []struct{ ID string } }
	admin.calls("GET", "/api/v1/requests", "").wants(200).into(&held)
	var decisions struct{ Items []struct{ ID string } }
	admin.calls("GET", "/api/v1/decisions", "").wants(200).into(&decisions)
	admin.adds("mia", role{Role: "viewer"})
	maker, another := housetest.NewMaker(t, "Maker"), housetest.NewMaker(t, "Another")
	baseline := `{"model":"m","firmware":"2.4","pcrs":{"sha256":{"0":["` + strings.Repeat("ab", 32) + `"]}}}`
	p.bodies = map[string]string{
		"POST /api/v1/anchors":                      anchorText(maker),
		"POST /api/v1/baselines":                    baseline,
		"POST /api/v1/baselines/learn":              `{"device":"gw-3"}`,
		"POST /api/v1/breakglass":                   jsonText(map[string]string{"csr": csrText(t, newKey(t))}),
		"POST /api/v1/breakglass/open":              jsonText(map[string]string{"csr": csrText(t, newKey(t)), "reason": "a probe"}),
		"POST /api/v1/certificates/revoke":          `{"device":"no-such-device","reason":"superseded"}`,
		"POST /api/v1/certificates/{serial}/revoke": `{"reason":"superseded"}`,
		"POST /api/v1/devices/import":               "id\ngw-1\n",
		"POST /api/v1/operators":                    jsonText(map[string]any{"name": "mia", "roles": []role{{Role: "viewer"}}, "csr": csrText(t, newKey(t))}),
		"POST /api/v1/operators/{name}/certify":     jsonText(map[string]string{"csr": csrText(t, newKey(t))}),
		"POST /api/v1/operators/{name}/renew":       jsonText(map[string]string{"csr": csrText(t, newKey(t))}),
		"POST /api/v1/operators/{name}/revoke":      `{"serial":"ab","reason":"a probe"}`,
		"PUT /api/v1/operators/{name}/roles":        `{"roles":[{"role":"viewer"}]}`,
		"POST /api/v1/policy/proposals":             "no bundle",
		"POST /api/v1/login/device/token":           `{"device_code":"a guess"}`,
		"POST /api/v1/login/token":                  `{"code":"a guess","verifier":"a guess"}`,
		"PUT /api/v1/operators/{name}/oidc":         `{"oidc_subject":"a guess"}`,
		"POST /api/v1/devices/{id}/quarantine":      `{"reason":"a probe"}`,
		"POST /api/v1/devices/{id}/unbind":          `{"reason":"a probe"}`,
		"POST /api/v1/requests/{id}/deny":           `{"reason":"a probe"}`,
		"POST /api/v1/operators/{name}/suspend":     `{"reason":"a probe"}`,
		"POST /api/v1/operators/{name}/remove":      `{"reason":"a probe"}`,
	}
	p.kinds = map[string]string{"POST /api/v1/devices/import": "text/csv", "POST /api/v1/policy/proposals": "application/gzip"}
	proposal := admin.sends("POST", "/api/v1/policy/proposals", "application/gzip", p.bundle("1h")).wants(201).id()
	p.things = map[string]string{
		"/api/v1/anchors/": admin.calls("POST", "/api/v1/anchors", anchorText(another)).wants(201).id(), "/api/v1/audit/proof/": device.Serial(),
		"/api/v1/baselines/": admin.calls("POST", "/api/v1/baselines", baseline).wants(201).id(), "/api/v1/certificates/": device.Serial(),
		"/api/v1/decisions/": decisions.Items[0].ID, "/api/v1/devices/": "gw-1", "/api/v1/operators/": "mia", "/api/v1/policy/proposals/": proposal,
		"/api/v1/requests/": held.Items[0].ID, "/api/v1/tokens/": admin.calls("POST", "/api/v1/tokens", "").wants(201).id(), "/log/tile/entries/": "000.p/1",
	}
	var force struct{ Digest string }
	admin.calls("GET", "/api/v1/policy", "").wants(200).into(&force)
	p.digest = force.Digest
	return p
}

func anchorText(m *housetest.Maker) string {
	return jsonText(map[string]string{"profile": "device", "kind": "idevid",
		"certificate": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: m.Certificate.Raw}))})
}

// holdEverything changes data.json so that first certificates wait for approval, and waits until that counts.
func (p *probe) holdEverything() {
	p.t.Helper()
	name := filepath.Join(p.h.Dir, "policy", "data.json")
	text, err := os.ReadFile(name)
	must(p.t, err)
	changed := bytes.Replace(text, []byte(`"hold_profiles": []`), []byte(`"hold_profiles": ["device"]`), 1)
	must(p.t, os.Chmod(name, 0o600))
	must(p.t, os.WriteFile(name, changed, 0o600))
	p.h.Signal(syscall.SIGHUP)
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(p.h.Log(), "policy reloaded"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatal("the policy was not reloaded")
		}
	}
}

// callers are everybody who walks.
func (p *probe) callers() []caller {
	t, h, admin := p.t, p.h, p.admin
	maker := housetest.NewMaker(t, "Hallmark Operators")
	authority, key := operatorsAuthority(t, h)
	foreign := maker.Device(pkix.Name{CommonName: "admin"}, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
	callers := []caller{
		{person: somebody(t, h, "nobody", nil), status: 401, code: "no_operator_certificate"},
		{person: somebody(t, h, "a device", p.device.TLS()), status: 401, code: "not_an_operator"},
		{person: somebody(t, h, "an expired operator", signed(t, authority, key, "admin", -time.Minute)), status: 401, code: "not_an_operator"},
		{person: somebody(t, h, "signed behind the register's back", signed(t, authority, key, "admin", time.Hour)), status: 401, code: "not_an_operator"},
		{person: somebody(t, h, "a foreign authority's admin", foreign.TLS()), status: 401, code: "not_an_operator"},
		{person: admin.adds("sue", role{Role: "admin"}), status: 403, code: "operator_suspended", known: true},
		{person: admin.adds("rob", role{Role: "admin"}), status: 401, code: "certificate_revoked", known: true},
		{person: admin.adds("rex", role{Role: "admin"}), status: 403, code: "operator_removed", known: true},
		{person: admin.adds("elsa", role{Role: "fleet", Scope: map[string]string{"model": "elsewhere"}}), role: "nothing of this"},
		{person: admin.adds("tom", role{Role: "trainee"}), role: "no role at all"},
		{person: admin, role: "admin"},
	}
	admin.calls("POST", "/api/v1/operators/sue/suspend", `{"reason":"a probe"}`).wants(204)
	admin.calls("POST", "/api/v1/operators/rob/revoke", `{"all":true,"reason":"a probe"}`).wants(204)
	admin.calls("POST", "/api/v1/operators/rex/remove", `{"reason":"a probe"}`).wants(204)
	for _, name := range probeRoles {
		callers = append(callers, caller{person: admin.adds(name+"-1", role{Role: name}), role: name})
	}
	return callers
}

// signed is a certificate of an authority for an operator of that name, for so long from now on.
func signed(t testing.TB, authority *x509.Certificate, by crypto.Signer, name string, life time.Duration) *tls.Certificate {
	t.Helper()
	key := newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
	}, authority, key.Public(), by)
	must(t, err)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

var parameter = regexp.MustCompile(`\{[a-z]+\}`)

// proofless are the answers where a certificate counts for nothing, to who brings a guess instead of the proof.
var proofless = map[string]string{
	"/api/v1/breakglass/open":    "401 not_sealed",
	"/api/v1/login/token":        "401 login_unknown",
	"/api/v1/login/device/token": "409 oidc_not_configured",
}

// targets are the addresses to call: of something that is not there, and of something that is, if there is any.
func (p *probe) targets(c *caller, o *operation) (missing, existing string) {
	at := parameter.FindStringIndex(o.path)
	if o.path == "/api/v1/sessions" { // of all, and not only one's own
		return o.path + "?operator=*", ""
	}
	if at == nil {
		return o.path, ""
	}
	before, after := o.path[:at[0]], o.path[at[1]:]
	absent := map[string]string{"/log/tile/entries/": "999.p/1", "/log/tile/": "0/999.p/1", "/api/v1/policy/revisions/": "77"}[before]
	if absent == "" {
		absent = "06h0ksg103pjsk82qtkrabgd0k"
	}
	if thing := p.things[before]; thing != "" {
		existing = before + url.PathEscape(thing) + after
		if strings.HasPrefix(before, "/log/") {
			existing = before + thing + after
		}
	}
	if o.action == "operator.renew" && (c.role != "") { // everybody renews their own certificate
		return before + c.name + after, existing
	}
	return before + absent + after, existing
}

// walk makes the calls of one operation as one caller.
func (p *probe) walk(c caller, o *operation) {
	body, kind := p.bodies[o.String()], p.kinds[o.String()]
	if o.needsBody && body == "" {
		p.t.Fatalf("%s has no body to be tried with: every route is tried by everybody", o)
	}
	if kind == "" && body != "" {
		kind = "application/json"
	}
	missing, existing := p.targets(&c, o)
	first := c.sends(o.method, missing, kind, body)
	switch {
	case o.action == "":
		if first.status == 401 || first.status == 403 || first.status >= 500 {
			p.t.Errorf("%s: %d %s", first.what, first.status, first.body)
		}
	case o.byProof:
		if answer := fmt.Sprint(first.status, " ", first.problem.Code); answer != proofless[o.path] {
			p.t.Errorf("%s: %s, want %q", first.what, answer, proofless[o.path])
		}
	case c.status != 0:
		p.getsNowhere(&c, o, first)
	case o.path == "/api/v1/logout": // who comes with a certificate has no session to end
		first.refuses(409, "no_session")
	case p.allowed(&c, o, missing):
		p.getsThrough(&c, o, first)
		if existing != "" && o.reads() {
			p.getsThrough(&c, o, c.sends(o.method, existing, kind, body))
		}
	default:
		p.isDenied(&c, o, first)
		if existing != "" {
			second := c.sends(o.method, existing, kind, body)
			p.isDenied(&c, o, second)
			if first.problem.Detail != second.problem.Detail {
				p.t.Errorf("%s: a refusal tells whether a thing exists: %q, %q", first.what, first.problem.Detail, second.problem.Detail)
			}
		}
	}
}

// allowed is what the table says, and that everybody may do a few things for themselves.
func (p *probe) allowed(c *caller, o *operation, target string) bool {
	return may(c.role, o.action) || o.path == "/api/v1/session" || o.action == "operator.renew" && strings.Contains(target, "/"+c.name+"/")
}

// getsNowhere is the answer to a stranger, or to somebody who is barred.
func (p *probe) getsNowhere(c *caller, o *operation, r *reply) {
	r.refuses(c.status, c.code)
	expected := witness{reply: r}
	if c.known {
		expected = witness{reply: r, actor: c.name, action: o.action, outcome: "refused", decision: r.problem.Decision, policy: "builtin"}
	} else if r.problem.Decision != "" {
		p.t.Errorf("%s: a stranger's call was decided: %s", r.what, r.body)
	}
	p.made = append(p.made, expected)
}

// getsThrough is the answer to somebody who may: whatever comes of the deed.
func (p *probe) getsThrough(c *caller, o *operation, r *reply) {
	if r.status == 401 || r.status == 403 || r.status >= 500 {
		p.t.Errorf("%s: %d, though %s may: %s", r.what, r.status, c.role, r.body)
	}
	if r.status < 300 || o.reads() { // a change that came to nothing has changed nothing
		p.made = append(p.made, witness{reply: r, actor: c.name, action: o.action, outcome: "granted", policy: p.digest, pattern: o.String()})
	}
}

// isDenied is the answer to somebody who may not.
func (p *probe) isDenied(c *caller, o *operation, r *reply) {
	r.refuses(403, "not_permitted")
	if r.problem.Decision == "" || r.problem.Ref != r.problem.Decision {
		p.t.Errorf("%s: no decision in %s", r.what, r.body)
	}
	p.made = append(p.made, witness{reply: r, actor: c.name, action: o.action, outcome: "refused", decision: r.problem.Decision, policy: p.digest})
}

// actionOf is the action of the operation with that method and path.
func (p *probe) actionOf(pattern string) string {
	for i := range p.operations {
		if p.operations[i].String() == pattern {
			return p.operations[i].action
		}
	}
	p.t.Fatalf("the document has no %s", pattern)
	return ""
}

// leaf is what the record holds of a call.
type leaf struct {
	ID, Action, Outcome, Request string
	Actor                        struct{ ID string }
	Decision                     struct {
		Policy, Verdict string
		Input           json.RawMessage
	}
}

// checkRecord holds the record against what callers were told, and has the whole of it verified offline.
func (p *probe) checkRecord() {
	file := ""
	for waiting := true; waiting; { // the youngest entries have no place in the tree yet
		file = filepath.Join(p.t.TempDir(), "record.ndjson")
		p.h.Hallmark("audit", "export", "--out", file)
		text, err := os.ReadFile(file)
		must(p.t, err)
		waiting = !bytes.Contains(text, []byte(p.made[len(p.made)-1].reply.requestID))
	}
	p.h.Hallmark("audit", "verify", file)
	byRequest := map[string]leaf{}
	text, err := os.ReadFile(file)
	must(p.t, err)
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line struct{ Leaf leaf }
		must(p.t, json.Unmarshal(lines.Bytes(), &line))
		byRequest[line.Leaf.Request] = line.Leaf
	}
	must(p.t, lines.Err())
	for _, m := range p.made {
		l, there := byRequest[m.reply.requestID]
		switch {
		case m.outcome == "":
			if there {
				p.t.Errorf("%s: a stranger is in the record: %+v", m.reply.what, l)
			}
		case !there:
			p.t.Errorf("%s: %d, and not in the record", m.reply.what, m.reply.status)
		case l.Actor.ID != m.actor || l.Action != m.action || l.Outcome != m.outcome || m.decision != "" && l.ID != m.decision || l.ID == "",
			l.Decision.Policy != m.policy || len(l.Decision.Input) == 0 || (l.Decision.Verdict == "allow") != (m.outcome == "granted"):
			p.t.Errorf("%s: %s told %+v, the record says %+v", m.reply.what, m.reply.body, m, l)
		}
	}
	p.t.Logf("%d answers held against %d entries", len(p.made), len(byRequest))
}

// checkExplanations has the command line explain a refusal by rules, and one by the
// server itself.
func (p *probe) checkExplanations() {
	for by, says := range map[string][]string{
		"builtin": {"whatever the rules say", "hallmark operator resume sue"},
		"rules":   {"DENY, as on record", "(in force)", "not_permitted", "hallmark operator assign", "→"},
	} {
		at := slices.IndexFunc(p.made, func(m witness) bool {
			return m.outcome == "refused" && (m.policy == by && m.actor == "sue" || by == "rules" && m.policy != "builtin" && m.actor == "viewer-1")
		})
		if at < 0 {
			continue
		}
		out := p.h.Hallmark("policy", "explain", p.made[at].decision)
		for _, words := range says {
			if !strings.Contains(out, words) {
				p.t.Errorf("the explanation of what %s was refused does not say %q:\n%s", p.made[at].actor, words, out)
			}
		}
	}
}

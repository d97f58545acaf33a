package console

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/operators"
	"github.com/hallmark-pki/hallmark/policy"
)

func TestEveryRouteTakesARight(t *testing.T) {
	seen := map[string]bool{}
	for _, rt := range routes {
		key := rt.method + " " + rt.pattern
		if rt.plan == nil || !rt.action.Known() {
			t.Errorf("%s has no known action", key)
		}
		if seen[key] {
			t.Errorf("%s stands twice", key)
		}
		seen[key] = true
		if rt.method == "GET" && !rt.action.Reads() {
			t.Errorf("%s changes something (%s)", key, rt.action)
		}
	}
	want := map[string]bool{"GET /log/checkpoint": true, "GET /log/tile/{path...}": true, "GET /api/v1/openapi.json": true,
		"GET /api/v1/login": true, "GET /api/v1/login/callback": true, "POST /api/v1/login/device": true}
	for _, rt := range publicRoutes {
		if !want[rt.method+" "+rt.pattern] {
			t.Errorf("%s %s is open to everybody", rt.method, rt.pattern)
		}
	}
}

// sample is a call of a route that is in order, and what it answers to those who may.
type sample struct {
	target, kind, body string
	status             int
}

// samples has a row for every route; each is called once by the administrator.
func (h *house) samples() map[string]sample {
	const asJSON, none = "application/json", ""
	h.imports(h.client(h.admin), "gw-1", "gw-2", "gw-3", "gw-4")
	_, issued := h.enrolled("gw-1")
	maker, _ := authorityOf(h.t, "Maker")
	var token struct{ ID string }
	h.want(h.client(h.admin), 201, "POST", "/api/v1/tokens", "").into(h.t, &token)
	var anchor struct{ ID string }
	other, _ := authorityOf(h.t, "Other maker")
	h.want(h.client(h.admin), 201, "POST", "/api/v1/anchors",
		jsonOf(newAnchor{Profile: "device", Kind: "idevid", Certificate: pemOf(other)})).into(h.t, &anchor)
	var decisions struct{ Items []struct{ ID string } }
	h.want(h.client(h.admin), 200, "GET", "/api/v1/decisions", "").into(h.t, &decisions)
	h.models("gw-5", "gw-6")
	h.attested("gw-5", time.Now())
	h.attested("gw-6", time.Now())
	active, old := h.baseline(), h.baseline()
	h.want(h.client(h.admin), 200, "POST", "/api/v1/baselines/"+old+"/activate", "")
	reason := `{"reason":"because"}`
	h.want(h.client(h.admin), 204, "POST", "/api/v1/devices/gw-3/quarantine", reason)
	for _, name := range []string{"lin", "mia", "max", "kim"} {
		h.certified(name)
	}
	check(h.t, h.People.Suspend(h.t.Context(), h.permit(policy.SuspendOperator, "mia"), "mia", "on leave"))
	ann := h.client(h.certified("ann", operators.Role{Name: "admin"}))
	ben := h.client(h.certified("ben", operators.Role{Name: "admin"}))
	// Rules in force, and rules before them to return to; and then changes to do something with.
	first, rules := h.proposed(ann, ben), map[string]string{}
	h.want(ben, 200, "POST", proposals+"/"+first.ID+"/approve", "")
	h.want(ben, 200, "POST", proposals+"/"+first.ID+"/activate", "")
	another := h.changed("unaffirmed_lifetime", "3h", nil)
	for name, author := range map[string]*http.Client{"look": ann, "approve": ann, "reject": ann, "activate": ann, "withdraw": h.client(h.admin)} {
		var made struct{ ID string }
		h.send(author, "POST", proposals, bundleType, another).into(h.t, &made)
		rules[name] = proposals + "/" + made.ID
		h.replayed(ben, made.ID)
	}
	h.want(ben, 200, "POST", rules["activate"]+"/approve", "")
	return map[string]sample{
		"GET /api/v1/policy":                             {"/api/v1/policy", none, "", 200},
		"GET /api/v1/policy/actions":                     {"/api/v1/policy/actions", none, "", 200},
		"GET /api/v1/policy/bundle":                      {"/api/v1/policy/bundle", none, "", 200},
		"GET /api/v1/policy/key":                         {"/api/v1/policy/key", none, "", 200},
		"GET /api/v1/policy/revisions":                   {"/api/v1/policy/revisions?limit=2", none, "", 200},
		"GET /api/v1/policy/revisions/{revision}/bundle": {"/api/v1/policy/revisions/1/bundle", none, "", 200},
		"POST /api/v1/policy/proposals":                  {proposals + "?note=n", bundleType, h.changed("unaffirmed_lifetime", "1h", nil), 201},
		"GET /api/v1/policy/proposals":                   {proposals + "?state=open&author=ann", none, "", 200},
		"GET /api/v1/policy/proposals/{id}":              {rules["look"], none, "", 200},
		"GET /api/v1/policy/proposals/{id}/bundle":       {rules["look"] + "/bundle", none, "", 200},
		"POST /api/v1/policy/proposals/{id}/replay":      {rules["look"] + "/replay", asJSON, `{"last":"1d"}`, 201},
		"GET /api/v1/policy/proposals/{id}/replay":       {rules["look"] + "/replay", none, "", 200},
		"DELETE /api/v1/policy/proposals/{id}/replay":    {rules["reject"] + "/replay", none, "", 200},
		"GET /api/v1/policy/proposals/{id}/differences":  {rules["look"] + "/differences?of=fleet&class=allow_to_deny", none, "", 200},
		"POST /api/v1/policy/proposals/{id}/approve":     {rules["approve"] + "/approve", asJSON, `{"note":"good"}`, 200},
		"POST /api/v1/policy/proposals/{id}/reject":      {rules["reject"] + "/reject", asJSON, reason, 200},
		"POST /api/v1/policy/proposals/{id}/withdraw":    {rules["withdraw"] + "/withdraw", asJSON, reason, 200},
		"POST /api/v1/policy/proposals/{id}/activate":    {rules["activate"] + "/activate", asJSON, `{"stage":"all","reason":"because"}`, 200},
		"POST /api/v1/policy/rollback":                   {"/api/v1/policy/rollback", asJSON, reason, 200},

		"POST /api/v1/tokens":                       {"/api/v1/tokens", asJSON, `{"uses":2,"ttl":"7d"}`, 201},
		"GET /api/v1/tokens":                        {"/api/v1/tokens", none, "", 200},
		"GET /api/v1/tokens/{id}":                   {"/api/v1/tokens/" + token.ID, none, "", 200},
		"DELETE /api/v1/tokens/{id}":                {"/api/v1/tokens/" + token.ID, none, "", 204},
		"GET /api/v1/requests":                      {"/api/v1/requests?state=pending", none, "", 200},
		"GET /api/v1/requests/{id}":                 {"/api/v1/requests/" + h.held("gw-2"), none, "", 200},
		"POST /api/v1/requests/{id}/approve":        {"/api/v1/requests/" + h.held("gw-2") + "/approve", none, "", 204},
		"POST /api/v1/requests/{id}/deny":           {"/api/v1/requests/" + h.held("gw-2") + "/deny", asJSON, reason, 204},
		"POST /api/v1/devices/import":               {"/api/v1/devices/import", jsonlType, `{"id":"gw-9"}`, 200},
		"GET /api/v1/devices":                       {"/api/v1/devices?state=active", none, "", 200},
		"GET /api/v1/devices/{id}":                  {"/api/v1/devices/gw-1", none, "", 200},
		"POST /api/v1/devices/{id}/quarantine":      {"/api/v1/devices/gw-2/quarantine", asJSON, reason, 204},
		"POST /api/v1/devices/{id}/release":         {"/api/v1/devices/gw-3/release", none, "", 204},
		"POST /api/v1/devices/{id}/retire":          {"/api/v1/devices/gw-4/retire", asJSON, reason, 204},
		"POST /api/v1/devices/{id}/unbind":          {"/api/v1/devices/gw-6/unbind", asJSON, reason, 204},
		"GET /api/v1/devices/{id}/attestation":      {"/api/v1/devices/gw-5/attestation", none, "", 200},
		"POST /api/v1/baselines":                    {"/api/v1/baselines", asJSON, someBaseline, 201},
		"POST /api/v1/baselines/learn":              {"/api/v1/baselines/learn", asJSON, `{"device":"gw-5"}`, 201},
		"GET /api/v1/baselines":                     {"/api/v1/baselines?model=m", none, "", 200},
		"GET /api/v1/baselines/{id}":                {"/api/v1/baselines/" + active, none, "", 200},
		"POST /api/v1/baselines/{id}/activate":      {"/api/v1/baselines/" + active + "/activate", none, "", 200},
		"POST /api/v1/baselines/{id}/deprecate":     {"/api/v1/baselines/" + old + "/deprecate", asJSON, reason, 200},
		"POST /api/v1/baselines/{id}/deny":          {"/api/v1/baselines/" + h.baseline() + "/deny", asJSON, reason, 200},
		"POST /api/v1/anchors":                      {"/api/v1/anchors", asJSON, jsonOf(newAnchor{"device", "idevid", pemOf(maker)}), 201},
		"GET /api/v1/anchors":                       {"/api/v1/anchors?profile=device", none, "", 200},
		"DELETE /api/v1/anchors/{id}":               {"/api/v1/anchors/" + anchor.ID, none, "", 204},
		"GET /api/v1/certificates":                  {"/api/v1/certificates?valid=true", none, "", 200},
		"GET /api/v1/certificates/{serial}":         {"/api/v1/certificates/" + issued.Serial, none, "", 200},
		"POST /api/v1/certificates/{serial}/revoke": {"/api/v1/certificates/" + issued.Serial + "/revoke", asJSON, `{"reason":"superseded"}`, 200},
		"POST /api/v1/certificates/revoke":          {"/api/v1/certificates/revoke", asJSON, `{"reason":"superseded","device":"gw-1","keep_device":true}`, 200},
		"GET /api/v1/decisions":                     {"/api/v1/decisions?verdict=deny", none, "", 200},
		"GET /api/v1/decisions/events":              {"/api/v1/decisions/events?verdict=deny", none, "", 200},
		"GET /api/v1/decisions/{id}/event":          {"/api/v1/decisions/" + decisions.Items[0].ID + "/event", none, "", 200},
		"GET /api/v1/decisions/{id}":                {"/api/v1/decisions/" + decisions.Items[0].ID, none, "", 200},
		"GET /api/v1/decisions/{id}/explanation":    {"/api/v1/decisions/" + decisions.Items[0].ID + "/explanation?rules=active", none, "", 200},
		"GET /api/v1/audit/entries":                 {"/api/v1/audit/entries", none, "", 200},
		"GET /api/v1/audit/export":                  {"/api/v1/audit/export", none, "", 200},
		"GET /api/v1/audit/proof/{name}":            {"/api/v1/audit/proof/" + issued.Serial, none, "", 200},
		"GET /log/tile/entries/{path...}":           {"/log/tile/entries/000.p/1", none, "", 200},
		"POST /api/v1/operators":                    {"/api/v1/operators", asJSON, jsonOf(newOperator{Name: "new", Roles: []operators.Role{{Name: "viewer"}}, CSR: csrOf(h.t, newKey(h.t))}), 201},
		"GET /api/v1/operators":                     {"/api/v1/operators?state=active", none, "", 200},
		"GET /api/v1/operators/{name}":              {"/api/v1/operators/lin", none, "", 200},
		"PUT /api/v1/operators/{name}/roles":        {"/api/v1/operators/lin/roles", asJSON, `{"roles":[{"role":"line","scope":{"model":"m"}}]}`, 204},
		"POST /api/v1/operators/{name}/suspend":     {"/api/v1/operators/lin/suspend", asJSON, reason, 204},
		"POST /api/v1/operators/{name}/resume":      {"/api/v1/operators/mia/resume", asJSON, reason, 204},
		"POST /api/v1/operators/{name}/remove":      {"/api/v1/operators/max/remove", asJSON, reason, 204},
		"POST /api/v1/operators/{name}/certify":     {"/api/v1/operators/kim/certify", asJSON, jsonOf(request{csrOf(h.t, newKey(h.t))}), 200},
		"POST /api/v1/operators/{name}/renew":       {"/api/v1/operators/admin/renew", asJSON, jsonOf(request{csrOf(h.t, newKey(h.t))}), 200},
		"POST /api/v1/operators/{name}/revoke":      {"/api/v1/operators/kim/revoke", asJSON, `{"all":true,"reason":"lost"}`, 204},
		"PUT /api/v1/operators/{name}/oidc":         {"/api/v1/operators/lin/oidc", asJSON, `{"oidc_subject":"4711"}`, 409}, // there is no provider
		"GET /api/v1/session":                       {"/api/v1/session", none, "", 200},
		"GET /api/v1/sessions":                      {"/api/v1/sessions?operator=lin", none, "", 200},
		"DELETE /api/v1/sessions/{id}":              {"/api/v1/sessions/none", none, "", 404},
		"POST /api/v1/logout":                       {"/api/v1/logout", none, "", 409}, // a certificate is no session
		"POST /api/v1/login/token":                  {"/api/v1/login/token", asJSON, `{"code":"guess","verifier":"guess"}`, 401},
		"POST /api/v1/login/device/token":           {"/api/v1/login/device/token", asJSON, `{"handle":"guess"}`, 409},
		"POST /api/v1/breakglass":                   {"/api/v1/breakglass", asJSON, jsonOf(newSeal{csrOf(h.t, newKey(h.t))}), 201},
		"POST /api/v1/breakglass/open":              {"/api/v1/breakglass/open", asJSON, jsonOf(opening{CSR: csrOf(h.t, newKey(h.t)), Reason: "because"}), 401}, // halves of nothing
		"POST /api/v1/backup":                       {"/api/v1/backup", none, "", 200},
	}
}

// callers are those who may try, each with whether they are anybody here.
func (h *house) callers() map[string]struct {
	credential *tls.Certificate
	operator   bool
} {
	ca, key := h.founded.OperatorCA, h.operator
	foreign, foreignKey := authorityOf(h.t, ca.Subject.CommonName)
	maker, makerKey := authorityOf(h.t, "Maker")
	h.imports(h.client(h.admin), "dev-1", "admin")
	device, _ := h.enrolled("dev-1")
	namesake, _ := h.enrolled("admin")
	with := func(change func(*x509.Certificate)) *tls.Certificate { return odd(h.t, ca, key, change) }
	// One who was certified and plays authority for a friend.
	viewer, err := x509.ParseCertificate(h.viewer.Certificate[0])
	check(h.t, err)
	friend := odd(h.t, viewer, h.viewer.PrivateKey.(crypto.Signer), func(*x509.Certificate) {})
	friend.Certificate = append(friend.Certificate, h.viewer.Certificate[0], ca.Raw)
	type caller = struct {
		credential *tls.Certificate
		operator   bool
	}
	return map[string]caller{
		"nobody":             {nil, false},
		"device":             {device, false},
		"device named admin": {namesake, false},
		"factory certificate": {odd(h.t, maker, makerKey, func(c *x509.Certificate) {
			c.Subject = pkix.Name{CommonName: "admin", SerialNumber: "gw-1"}
		}), false},
		"expired operator":       {with(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), false},
		"operator to be":         {with(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }), false},
		"a namesake authority's": {odd(h.t, foreign, foreignKey, func(*x509.Certificate) {}), false},
		"for servers":            {with(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), false},
		"for any use":            {with(func(c *x509.Certificate) { c.ExtKeyUsage = nil }), false},
		"nameless":               {with(func(c *x509.Certificate) { c.Subject = pkix.Name{Organization: []string{"x"}} }), false},
		"control name":           {with(func(c *x509.Certificate) { c.Subject.CommonName = "admin\x00" }), false},
		"an authority":           {with(func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign }), false},
		"friend":                 {friend, false},
		"self-signed":            {odd(h.t, nil, nil, func(*x509.Certificate) {}), false},
		"stranger":               {h.certified("stranger"), true},
		"viewer":                 {h.viewer, true},
		"admin":                  {h.admin, true},
	}
}

func TestWhoMayDoWhat(t *testing.T) {
	h := newHouse(t)
	samples, callers := h.samples(), h.callers()
	for _, name := range []string{"nobody", "device", "device named admin", "factory certificate", "expired operator", "operator to be",
		"a namesake authority's", "for servers", "for any use", "nameless", "control name", "an authority", "friend", "self-signed",
		"stranger", "viewer", "admin"} {
		caller := callers[name]
		client := h.client(caller.credential)
		for _, rt := range routes {
			key := rt.method + " " + rt.pattern
			s, there := samples[key]
			if !there {
				t.Fatalf("%s has no sample: every route is tried by everybody", key)
			}
			want := s.status
			switch {
			case rt.proof != nil: // certificates count for nothing here; see TestBreakglass
			case !caller.operator:
				want = http.StatusUnauthorized
			case rt.pattern == "/api/v1/session", rt.pattern == "/api/v1/logout": // who one is, everybody may know
			case name == "stranger", name == "viewer" && !viewerMay(rt.action):
				want = http.StatusForbidden
			}
			r := h.send(client, rt.method, s.target, s.kind, s.body)
			if r.StatusCode != want {
				t.Errorf("%s, %s: %s, want %d: %s", name, key, r.Status, want, r.body)
				continue
			}
			if want < 400 {
				continue
			}
			p := r.problem(t)
			if p.Status != want || p.Code == "" || p.Detail == "" || p.Ref == "" || !strings.HasPrefix(p.Type, "urn:hallmark:problem:") {
				t.Errorf("%s, %s: incomplete problem %+v", name, key, p)
			}
			if (p.Decision != "") != (want == http.StatusForbidden) {
				t.Errorf("%s, %s: decision %q", name, key, p.Decision)
			}
			if want == http.StatusUnauthorized && r.Header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s, %s: a 401 without a challenge", name, key)
			}
		}
	}
}

// TestEveryVerdictIsOnRecord: what was permitted and what was refused has its
// entry, under the id that the caller was told; strangers at the door leave none.
func TestEveryVerdictIsOnRecord(t *testing.T) {
	h := newHouse(t)
	samples := h.samples()
	count := func(q audit.Query) int {
		q.Limit = 1000
		entries, err := h.Record.Entries(t.Context(), q)
		check(t, err)
		return len(entries)
	}
	admin, viewer, nobody := h.client(h.admin), h.client(h.viewer), h.client(nil)
	for _, rt := range routes {
		if rt.proof != nil {
			continue // see TestBreakglass
		}
		s := samples[rt.method+" "+rt.pattern]
		before := count(audit.Query{})
		h.send(nobody, rt.method, s.target, s.kind, s.body)
		if after := count(audit.Query{}); after != before {
			t.Errorf("%s by nobody wrote %d entries", rt.action, after-before)
		}
		granted := audit.Query{Action: string(rt.action), Actor: "admin", Outcome: audit.Granted, Decided: true}
		before = count(granted)
		h.send(admin, rt.method, s.target, s.kind, s.body)
		if after := count(granted); s.status < 400 && after != before+1 {
			t.Errorf("%s by the administrator wrote %d entries", rt.action, after-before)
		}
		r := h.send(viewer, rt.method, s.target, s.kind, s.body)
		if r.StatusCode != http.StatusForbidden {
			continue
		}
		id, err := audit.ParseID(r.problem(t).Decision)
		check(t, err)
		e, err := h.Record.Entry(t.Context(), id)
		check(t, err)
		if l, err := readLeaf(e); err != nil || l.Outcome != audit.Refused || l.Action != string(rt.action) || l.Actor.ID != "viewer" {
			t.Errorf("the refusal of %s stands as %s", rt.action, e.Leaf)
		}
	}
}

// viewerMay is what the default policy's role "viewer" allows: to look at the fleet, and not at who manages it or by which rules.
func viewerMay(a policy.Action) bool {
	noun, verb, _ := strings.Cut(string(a), ".")
	return (verb == "list" || verb == "show") && !slices.Contains([]string{"decision", "operator", "policy", "session"}, noun)
}

func TestEveryoneReadsHashesOnly(t *testing.T) {
	h := newHouse(t)
	h.imports(h.client(h.admin), "gw-1")
	check(t, h.sequenceAll(t.Context()))
	nobody := h.client(nil)
	h.want(nobody, 200, "GET", "/log/checkpoint", "")
	tile := h.want(nobody, 200, "GET", "/log/tile/0/000.p/1", "")
	if len(tile.body) != 32 {
		t.Errorf("a tile of one hash has %d bytes", len(tile.body))
	}
	h.want(nobody, 401, "GET", "/log/tile/entries/000.p/1", "")
	h.want(nobody, 404, "GET", "/log/tile/0/000", "")
	for _, odd := range []string{"/log/tile/%65ntries/000.p/1", "/log/tile/0/../entries/000.p/1", "/log/tile//entries/000.p/1", "/log/tile/entries%2F000.p/1"} {
		if r := h.send(nobody, "GET", odd, "", ""); r.StatusCode == 200 {
			t.Errorf("%s: %s", odd, r.Status)
		}
	}
}

func TestPathsThatAreNone(t *testing.T) {
	h := newHouse(t)
	admin := h.client(h.admin)
	for _, target := range []string{"/", "/api", "/api/v1", "/api/v1/", "/api/v1/tokens/", "/api/v1/token", "/api/v2/tokens", "/api/v1/tokens/a/b", "/log/", "/api/v1/./tokens", "//api/v1/tokens"} {
		if p := h.want(admin, 404, "GET", target, "").problem(t); p.Code != "no_such_path" {
			t.Errorf("%s: %+v", target, p)
		}
	}
	for target, allow := range map[string]string{
		"/api/v1/tokens": "GET, HEAD, POST", "/api/v1/backup": "POST", "/log/checkpoint": "GET, HEAD", "/api/v1/devices/x/retire": "POST",
	} {
		r := h.want(admin, 405, "PUT", target, "")
		if got := r.Header.Get("Allow"); got != allow {
			t.Errorf("PUT %s: Allow: %s, want %s", target, got, allow)
		}
		r.problem(t)
	}
}

// TestNoConnectionOutlivesItsCertificate keeps one connection open until the
// operator's certificate has expired, and resumes its TLS session after that.
func TestNoConnectionOutlivesItsCertificate(t *testing.T) {
	h := newHouse(t)
	client := h.client(h.admin)
	transport := client.Transport.(*http.Transport)
	transport.TLSClientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	h.want(client, 200, "GET", "/api/v1/tokens", "")
	h.ahead.Store(int64(91 * 24 * time.Hour))
	h.want(client, 401, "GET", "/api/v1/tokens", "")
	transport.CloseIdleConnections()
	if r := h.want(client, 401, "GET", "/api/v1/tokens", ""); !r.TLS.DidResume {
		t.Error("the session was not resumed: nothing is shown")
	}
}

func TestALongChainIsNotWalked(t *testing.T) {
	h := newHouse(t)
	long := h.certified("admin")
	for range 60 {
		long.Certificate = append(long.Certificate, h.founded.OperatorCA.Raw)
	}
	h.want(h.client(long), 401, "GET", "/api/v1/tokens", "")
}

func TestAConfigThatLacksAPartIsRefused(t *testing.T) {
	h := newHouse(t)
	lacking := h.Config
	lacking.Record = nil
	if _, err := New(lacking); err == nil || !strings.Contains(err.Error(), "Record") {
		t.Errorf("without Record: %v", err)
	}
}

func TestTheDocumentationHasEveryRoute(t *testing.T) {
	text, err := os.ReadFile("../docs/api.md")
	check(t, err)
	for _, rt := range routes {
		if row := fmt.Sprintf("| `%s` | `%s` | `%s` |", rt.method, rt.pattern, rt.action); !strings.Contains(string(text), row) {
			t.Errorf("docs/api.md has no row %s", row)
		}
	}
	for _, rt := range publicRoutes {
		if row := fmt.Sprintf("| `%s` | `%s` | none: public |", rt.method, rt.pattern); !strings.Contains(string(text), row) {
			t.Errorf("docs/api.md has no row %s", row)
		}
	}
}

// TestNoMethodIsAWayRound tries methods that no route has, as nobody and as a device.
func TestNoMethodIsAWayRound(t *testing.T) {
	h := newHouse(t)
	h.imports(h.client(h.admin), "gw-1")
	device, _ := h.enrolled("gw-1")
	for name, client := range map[string]*http.Client{"nobody": h.client(nil), "device": h.client(device)} {
		for _, rt := range routes {
			for _, method := range []string{"HEAD", "GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"} {
				r := h.send(client, method, pathParameter.ReplaceAllString(rt.pattern, "x"), "", "")
				if rt.proof != nil && (r.StatusCode == 415 || r.StatusCode == 409) { // the body is the proof, and there is none; or there is no provider to sign in at
					continue
				}
				if r.StatusCode != 401 && r.StatusCode != 404 && r.StatusCode != 405 {
					t.Errorf("%s: %s %s: %s", name, method, rt.pattern, r.Status)
				}
			}
		}
	}
	for _, override := range []string{"X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"} {
		request, err := http.NewRequest("GET", h.url+"/api/v1/devices/gw-1", nil)
		check(t, err)
		request.Header.Set(override, "DELETE")
		response, err := h.client(h.viewer).Do(request)
		check(t, err)
		response.Body.Close()
		if response.StatusCode != 200 {
			t.Errorf("%s changes a call: %s", override, response.Status)
		}
	}
}

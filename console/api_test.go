package console

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/fleet"
)

func TestATokensLife(t *testing.T) { onBoth(t, aTokensLife) }

func aTokensLife(t *testing.T, h *house) {
	admin := h.client(h.admin)
	var made struct {
		ID, Device, Token string
		Uses              int
		Expires           time.Time
		By                string `json:"created_by"`
	}
	r := h.want(admin, 201, "POST", "/api/v1/tokens", `{"device":"gw-1","uses":3,"ttl":"7d"}`)
	r.into(t, &made)
	if made.ID == "" || made.Device != "gw-1" || made.Uses != 3 || made.By != "admin" || !strings.HasPrefix(made.Token, "hmt_") {
		t.Errorf("made %+v", made)
	}
	if life := time.Until(made.Expires); life < 167*time.Hour || life > 169*time.Hour {
		t.Errorf("it lives for %v", life)
	}
	if got := r.Header.Get("Location"); got != "/api/v1/tokens/"+made.ID {
		t.Errorf("Location %q", got)
	}
	for _, target := range []string{"/api/v1/tokens", "/api/v1/tokens/" + made.ID, "/api/v1/audit/entries", "/api/v1/audit/export"} {
		if r := h.want(admin, 200, "GET", target, ""); strings.Contains(string(r.body), made.Token) {
			t.Errorf("%s tells the secret", target)
		}
	}
	h.want(admin, 204, "DELETE", "/api/v1/tokens/"+made.ID, "")
	var shown struct{ Revoked bool }
	h.want(admin, 200, "GET", "/api/v1/tokens/"+made.ID, "").into(t, &shown)
	if !shown.Revoked {
		t.Error("a revoked token does not say so")
	}
	h.want(admin, 404, "DELETE", "/api/v1/tokens/nope", "").problem(t)
	h.want(admin, 404, "GET", "/api/v1/tokens/nope", "").problem(t)
	for _, body := range []string{`{"uses":0}`, `{"uses":-1}`, `{"uses":1000001}`, `{"ttl":"0h"}`, `{"ttl":"-1h"}`, `{"ttl":"400d"}`,
		`{"ttl":"99999999999d"}`, `{"ttl":"x"}`, `{"device":"../x"}`, `{"device":"a\u0000b"}`, `{"profile":"\u001b[31m"}`} {
		if p := h.want(admin, 400, "POST", "/api/v1/tokens", body).problem(t); p.Code == "" || p.Detail == "" {
			t.Errorf("%s: %+v", body, p)
		}
	}
}

func TestBodiesAreReadStrictly(t *testing.T) {
	h := newHouse(t)
	admin := h.client(h.admin)
	for _, c := range []struct {
		kind, body, query string
		status            int
		code, says        string
	}{
		{"application/json", `{"uses":1,"user":"x"}`, "", 400, "unknown_field", `"user"`},
		{"application/json", `{"uses":"1"}`, "", 400, "bad_field", `"uses"`},
		{"application/json", `{"uses":1}{}`, "", 400, "bad_json", "more than one"},
		{"application/json", `{"uses":1`, "", 400, "bad_json", ""},
		{"application/json", `[]`, "", 400, "bad_field", ""},
		{"application/json", "\xff\xfe", "", 400, "bad_json", "byte 1"},
		{"application/json", strings.Repeat("[", 100_000), "", 400, "bad_json", ""},
		{"application/json", `{"device":"` + strings.Repeat("a", maxBody) + `"}`, "", 413, codeTooLarge, ""},
		{"text/plain", `{"uses":1}`, "", 415, codeMediaType, "application/json"},
		{"", `{"uses":1}`, "", 415, codeMediaType, ""},
		{"application/json; charset", `{"uses":1}`, "", 415, codeMediaType, ""},
		{"application/x-www-form-urlencoded", `uses=1`, "", 415, codeMediaType, ""},
		{"application/json", `{"uses":1}`, "?device=x", 400, "unknown_parameter", `"device"`},
	} {
		r := h.send(admin, "POST", "/api/v1/tokens"+c.query, c.kind, c.body)
		p := r.problem(t)
		if r.StatusCode != c.status || p.Code != c.code || !strings.Contains(p.Detail, c.says) {
			t.Errorf("%.40q as %q: %s %+v", c.body, c.kind, r.Status, p)
		}
	}
	if r := h.send(admin, "POST", "/api/v1/tokens", "application/json; charset=utf-8", `{}`); r.StatusCode != 201 {
		t.Errorf("an empty object: %s %s", r.Status, r.body)
	}
}

// walked goes through a list page by page and returns the ids met.
func walked(t *testing.T, h *house, target, id string) []string {
	t.Helper()
	var ids []string
	cursor := ""
	for range 50 {
		var page struct {
			Items []map[string]any
			Next  *string
		}
		h.want(h.client(h.admin), 200, "GET", target+"limit=2"+cursor, "").into(t, &page)
		for _, item := range page.Items {
			ids = append(ids, fmt.Sprint(item[id]))
		}
		if page.Next == nil {
			return ids
		}
		if len(page.Items) != 2 {
			t.Fatalf("%s: a page of %d before the last", target, len(page.Items))
		}
		cursor = "&cursor=" + url.QueryEscape(*page.Next)
	}
	t.Fatalf("%s: there is no end to it", target)
	return nil
}

func TestListsComeInPages(t *testing.T) { onBoth(t, listsComeInPages) }

func listsComeInPages(t *testing.T, h *house) {
	admin := h.client(h.admin)
	h.imports(admin, "gw-1", "gw-2", "gw-3", "gw-4", "gw-5")
	for i := range 5 {
		h.want(admin, 201, "POST", "/api/v1/tokens", "")
		h.enrolled(fmt.Sprintf("gw-%d", i+1))
		h.held("gw-1")
		maker, _ := authorityOf(t, fmt.Sprintf("Maker %d", i))
		h.want(admin, 201, "POST", "/api/v1/anchors", jsonOf(newAnchor{"device", "idevid", pemOf(maker)}))
	}
	for target, id := range map[string]string{
		"/api/v1/tokens?": "id", "/api/v1/devices?": "id", "/api/v1/requests?": "id", "/api/v1/certificates?": "serial", "/api/v1/anchors?": "id",
		"/api/v1/decisions?action=token.create&": "id", "/api/v1/audit/entries?action=certificate.issue&outcome=granted&": "id",
	} {
		ids := walked(t, h, target, id)
		met := map[string]bool{}
		for _, id := range ids {
			met[id] = true
		}
		if len(ids) != 5 || len(met) != 5 {
			t.Errorf("%s: %d items, %d different: %v", target, len(ids), len(met), ids)
		}
	}
	for _, query := range []string{"limit=0", "limit=1001", "limit=x", "limit=-1", "limit=1&limit=2", "cursor=x", "cursor=-1",
		"cursor=99999999999999999999", "state=active", "since=yesterday", "verdict=maybe", "valid=1"} {
		h.want(admin, 400, "GET", "/api/v1/decisions?"+query, "").problem(t)
	}
	if r := h.want(admin, 200, "GET", "/api/v1/devices?model=none", ""); string(r.body) != `{"items":[],"next":null}`+"\n" {
		t.Errorf("an empty list is %s", r.body)
	}
}

func TestFiltersSelect(t *testing.T) { onBoth(t, filtersSelect) }

func filtersSelect(t *testing.T, h *house) {
	admin := h.client(h.admin)
	h.imports(admin, "gw-1", "gw-2")
	h.enrolled("gw-1")
	h.want(h.client(h.viewer), 403, "POST", "/api/v1/tokens", "")
	count := func(target string) int {
		var page struct{ Items []json.RawMessage }
		h.want(admin, 200, "GET", target, "").into(t, &page)
		return len(page.Items)
	}
	for target, want := range map[string]int{
		"/api/v1/certificates?device=gw-1": 1, "/api/v1/certificates?device=gw-2": 0, "/api/v1/certificates?profile=none": 0,
		"/api/v1/devices?state=active": 1, "/api/v1/devices?state=expected": 1,
		"/api/v1/decisions?verdict=deny": 1, "/api/v1/decisions?device=gw-1": 1, "/api/v1/decisions?verdict=deny&actor=admin": 0,
		"/api/v1/decisions?actor=viewer&until=2020-01-01T00:00:00Z": 0, "/api/v1/decisions?action=device.import&since=2020-01-01T00:00:00%2B02:00": 1,
		"/api/v1/audit/entries?outcome=refused": 1, "/api/v1/audit/entries?object=gw-1&action=certificate.issue": 1,
	} {
		if got := count(target); got != want {
			t.Errorf("%s: %d items, want %d", target, got, want)
		}
	}
}

func TestHeldRequestsAreSettledOnce(t *testing.T) { onBoth(t, heldRequestsAreSettledOnce) }

func heldRequestsAreSettledOnce(t *testing.T, h *house) {
	admin := h.client(h.admin)
	h.imports(admin, "gw-1")
	approve, deny := h.held("gw-1"), h.held("gw-1")
	h.want(admin, 204, "POST", "/api/v1/requests/"+approve+"/approve", `{"reason":"seen it"}`)
	h.want(admin, 409, "POST", "/api/v1/requests/"+approve+"/approve", "").problem(t)
	if p := h.want(admin, 400, "POST", "/api/v1/requests/"+deny+"/deny", "").problem(t); p.Code != "reason_missing" {
		t.Errorf("%+v", p)
	}
	h.want(admin, 204, "POST", "/api/v1/requests/"+deny+"/deny", `{"reason":"unknown van"}`)
	h.want(admin, 404, "POST", "/api/v1/requests/nope/approve", "").problem(t)
	h.want(admin, 404, "GET", "/api/v1/requests/nope", "").problem(t)
	var shown struct {
		State, Reason string
		By            string `json:"decided_by"`
	}
	h.want(admin, 200, "GET", "/api/v1/requests/"+deny, "").into(t, &shown)
	if shown.State != "denied" || shown.By != "admin" || shown.Reason != "unknown van" {
		t.Errorf("%+v", shown)
	}
}

func TestDevicesComeAndGo(t *testing.T) { onBoth(t, devicesComeAndGo) }

func devicesComeAndGo(t *testing.T, h *house) {
	admin := h.client(h.admin)
	file := "id,model,serial,label.site\ngw-1,m,s1,north\nbad id,m,s2,\ngw-2,m,s3\ngw-3,m,s1,\n"
	r := h.send(admin, "POST", "/api/v1/devices/import", "text/csv; charset=utf-8", file)
	var done fleet.Imported
	r.into(t, &done)
	if r.StatusCode != 200 || done.Created != 1 || len(done.Errors) != 3 {
		t.Fatalf("%s %s", r.Status, r.body)
	}
	r = h.send(admin, "POST", "/api/v1/devices/import", jsonlType, `{"id":"gw-1","model":"m","serial":"s1","labels":{"site":"north"}}`)
	done = fleet.Imported{}
	if r.into(t, &done); done.Unchanged != 1 {
		t.Errorf("a second import of the same: %s", r.body)
	}
	for kind, status := range map[string]int{"text/csv": 400, jsonlType: 400, "application/json": 415, "": 415} {
		if r := h.send(admin, "POST", "/api/v1/devices/import", kind, "\n\n"); r.StatusCode != status {
			t.Errorf("an empty import as %q: %s", kind, r.Status)
		}
	}
	h.want(admin, 400, "POST", "/api/v1/devices/gw-1/quarantine", "").problem(t)
	h.want(admin, 204, "POST", "/api/v1/devices/gw-1/quarantine", `{"reason":"seal broken"}`)
	h.want(admin, 409, "POST", "/api/v1/devices/gw-1/quarantine", `{"reason":"again"}`).problem(t)
	var d fleet.Device
	h.want(admin, 200, "GET", "/api/v1/devices/gw-1", "").into(t, &d)
	if d.State != fleet.Quarantined || d.Reason != "seal broken" || d.Labels["site"] != "north" {
		t.Errorf("%+v", d)
	}
	h.want(admin, 204, "POST", "/api/v1/devices/gw-1/release", "")
	h.want(admin, 204, "POST", "/api/v1/devices/gw-1/retire", `{"reason":"scrapped"}`)
	h.want(admin, 409, "POST", "/api/v1/devices/gw-1/release", "").problem(t)
	h.want(admin, 404, "GET", "/api/v1/devices/gw-9", "").problem(t)
}

func TestAnImportHasAnEnd(t *testing.T) {
	h := newHouse(t)
	r := h.send(h.client(h.admin), "POST", "/api/v1/devices/import", "text/csv", "id\n"+strings.Repeat("\n", maxImport))
	if p := r.problem(t); r.StatusCode != http.StatusRequestEntityTooLarge || p.Code != codeTooLarge {
		t.Errorf("%s %+v", r.Status, p)
	}
}

func TestAnchorsAreTrustedOneByOne(t *testing.T) { onBoth(t, anchorsAreTrustedOneByOne) }

func anchorsAreTrustedOneByOne(t *testing.T, h *house) {
	admin := h.client(h.admin)
	one, key := authorityOf(t, "Maker")
	two, _ := authorityOf(t, "Other")
	evil, _ := authorityOf(t, "Maker\x00")
	leaf := odd(t, one, key, func(*x509.Certificate) {})
	add := func(status int, a newAnchor) *reply {
		return h.want(admin, status, "POST", "/api/v1/anchors", jsonOf(a))
	}
	var added struct{ ID, Subject, Certificate string }
	add(201, newAnchor{"device", "idevid", pemOf(one)}).into(t, &added)
	if added.Subject != "CN=Maker" || added.Certificate != pemOf(one) {
		t.Errorf("%+v", added)
	}
	add(201, newAnchor{"device", "idevid", pemOf(one)}) // again is no harm
	add(400, newAnchor{"device", "idevid", pemOf(one) + pemOf(two)})
	add(400, newAnchor{"device", "idevid", "not a certificate"})
	add(400, newAnchor{"device", "idevid", pemOf(evil)})
	add(400, newAnchor{"device", "idevid", pemBlock(leaf.Certificate[0])})
	add(400, newAnchor{"device", "other", pemOf(two)})
	add(400, newAnchor{"", "idevid", pemOf(two)})
	h.want(admin, 404, "DELETE", "/api/v1/anchors/"+added.ID+"?profile=other", "")
	h.want(admin, 204, "DELETE", "/api/v1/anchors/"+added.ID+"?profile=device", "")
	h.want(admin, 404, "DELETE", "/api/v1/anchors/"+added.ID, "")
}

func TestACertificateIsShownWhole(t *testing.T) {
	h := newHouse(t)
	admin := h.client(h.admin)
	h.imports(admin, "gw-1")
	_, issued := h.enrolled("gw-1")
	var shown shownCertificate
	h.want(admin, 200, "GET", "/api/v1/certificates/"+issued.Serial, "").into(t, &shown)
	if shown.Serial != issued.Serial || shown.PEM != pemBlock(issued.DER) || shown.Device != "gw-1" || len(shown.URIs) != 1 {
		t.Errorf("%+v", shown)
	}
	for _, serial := range []string{"0", "ff", "xyz", strings.ToUpper(issued.Serial) + "0", strings.Repeat("f", 200)} {
		h.want(admin, 404, "GET", "/api/v1/certificates/"+serial, "").problem(t)
	}
}

func TestADecisionOpens(t *testing.T) {
	h := newHouse(t)
	refused := h.want(h.client(h.viewer), 403, "POST", "/api/v1/tokens", `{"device":"gw-1","uses":7}`).problem(t)
	var d struct {
		ID, Verdict, Outcome, Policy, Action string
		Actor                                audit.Party
		Reasons                              []struct{ Code, Detail string }
		Input                                struct {
			Subject struct {
				Properties struct {
					Auth struct {
						Method     string
						CertSHA256 string `json:"cert_sha256"`
					}
				}
			}
			Action struct{ Properties map[string]any }
		}
	}
	admin := h.client(h.admin)
	h.want(admin, 200, "GET", "/api/v1/decisions/"+refused.Decision, "").into(t, &d)
	if d.ID != refused.Decision || d.Verdict != "deny" || d.Outcome != "refused" || d.Actor.ID != "viewer" ||
		!strings.HasPrefix(d.Policy, "sha256:") || len(d.Reasons) != 1 || d.Reasons[0].Code != refused.Code || d.Reasons[0].Detail != refused.Detail {
		t.Errorf("%+v\n%+v", d, refused)
	}
	auth := d.Input.Subject.Properties.Auth
	if auth.Method != "mtls" || len(auth.CertSHA256) != 64 || d.Input.Action.Properties["uses"] != 7.0 {
		t.Errorf("the rules saw %+v", d.Input)
	}
	for _, id := range []string{"nope", strings.Repeat("0", 26), d.ID[:25]} {
		h.want(admin, 404, "GET", "/api/v1/decisions/"+id, "").problem(t)
	}
}

func TestTheRecordIsProvenOffline(t *testing.T) {
	h := newHouse(t)
	admin := h.client(h.admin)
	h.imports(admin, "gw-1")
	_, issued := h.enrolled("gw-1")
	refused := h.want(h.client(h.viewer), 403, "POST", "/api/v1/tokens", "").problem(t)
	dir, keys := t.TempDir(), note.VerifierList(h.verifier)
	export, proof := filepath.Join(dir, "export"), filepath.Join(dir, "proof")
	check(t, os.WriteFile(export, h.want(admin, 200, "GET", "/api/v1/audit/export", "").body, 0o600))
	// At once, before the sequencer has come by on its own.
	for _, name := range []string{issued.Serial, refused.Decision} {
		check(t, os.WriteFile(proof, h.want(admin, 200, "GET", "/api/v1/audit/proof/"+name, "").body, 0o600))
		report, err := audit.Verify(keys, export, proof)
		check(t, err)
		if !report.Verified {
			t.Errorf("%s: %s", name, report)
		}
	}
	for _, name := range []string{"nope", strings.Repeat("0", 26), "ff", strings.Repeat("v", 25) + "0"} {
		h.want(admin, 404, "GET", "/api/v1/audit/proof/"+name, "").problem(t)
	}
}

func TestPagesOfOthersCannotCall(t *testing.T) {
	h := newHouse(t)
	request, err := http.NewRequest("POST", h.url+"/api/v1/tokens", nil)
	check(t, err)
	request.Header.Set("Sec-Fetch-Site", "cross-site")
	response, err := h.client(h.admin).Do(request)
	check(t, err)
	defer response.Body.Close()
	if response.StatusCode != http.StatusForbidden {
		t.Errorf("a call from a foreign page: %s", response.Status)
	}
}

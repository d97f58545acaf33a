package housetest_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/internal/housetest"
)

// Rules that allow everything to everybody, and hold one thing, so that somebody has to approve it.
const anarchy = `package hallmark

# METADATA
# title: The decision
# entrypoint: true
decision := {"verdict": "hold", "reasons": [{"code": "look", "detail": "somebody has to look"}]} if {
	input.action.name == "token.revoke"
	not input.context.approval
} else := {"verdict": "allow"}
`

// Rules that allow nobody anything.
const tyranny = `package hallmark

# METADATA
# title: The decision
# entrypoint: true
decision := {"verdict": "deny", "reasons": [{"code": "shut", "detail": "nobody may do anything"}]}
`

// Rules that allow everything but to take them back.
const noWayBack = `package hallmark

# METADATA
# title: The decision
# entrypoint: true
decision := {"verdict": "deny", "reasons": [{"code": "no_way_back", "detail": "nobody takes these back"}]} if {
	input.action.name == "policy.rollback"
} else := {"verdict": "allow"}
`

const someTests = `package hallmark_test

import data.hallmark

test_all if {
	every name in ["policy.rollback", "token.revoke", "device.list"] {
		hallmark.decision.verdict with input as {"action": {"name": name}, "context": {}}
	}
}
`

// rulesAlone are the files of a policy of these rules, with a setting that no other has.
func rulesAlone(rules, mark string) map[string]string {
	return map[string]string{"p.rego": rules, "p_test.rego": someTests, "data.json": `{"settings": {"mark": "` + mark + `", "spoken_of": ["*"]}}`}
}

// packed are files as an OPA bundle.
func packed(t testing.TB, files map[string]string) string {
	t.Helper()
	var b bytes.Buffer
	zipped := gzip.NewWriter(&b)
	archive := tar.NewWriter(zipped)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		must(t, archive.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name]))}))
		_, err := archive.Write([]byte(files[name]))
		must(t, err)
	}
	must(t, archive.Close())
	must(t, zipped.Close())
	return b.String()
}

// writeRules makes these rules the policy directory of a server.
func writeRules(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	must(t, os.RemoveAll(filepath.Join(dir, "policy")))
	must(t, os.MkdirAll(filepath.Join(dir, "policy"), 0o700))
	for name, text := range files {
		must(t, os.WriteFile(filepath.Join(dir, "policy", name), []byte(text), 0o600))
	}
}

const proposalsPath = "/api/v1/policy/proposals"

// offers proposes rules, and has them replayed; it returns where the proposal is.
func (p *person) offers(rules, mark string) string {
	p.t.Helper()
	at := proposalsPath + "/" + p.sends("POST", proposalsPath, "application/gzip", packed(p.t, rulesAlone(rules, mark))).wants(201).id()
	if r := p.calls("POST", at+"/replay", ""); r.status/100 != 2 {
		p.t.Fatalf("%s: %d %s", r.what, r.status, r.body)
	}
	p.awaitsReplay(at)
	return at
}

// awaitsReplay waits until the replay of the proposal there has ended.
func (p *person) awaitsReplay(at string) {
	p.t.Helper()
	for range 1000 {
		var found struct{ Replay *struct{} }
		if p.calls("GET", at, "").wants(200).into(&found); found.Replay != nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	p.t.Fatal("the replay does not end")
}

// alsoKnownAs is the same operator with another certificate over another key.
func (p *person) alsoKnownAs(by *person) *person {
	p.t.Helper()
	key := newKey(p.t)
	var made struct{ Certificate string }
	by.calls("POST", "/api/v1/operators/"+p.name+"/certify", jsonText(map[string]string{"csr": csrText(p.t, key)})).wants(200).into(&made)
	return somebody(p.t, p.h, p.name, pairOf(p.t, key, made.Certificate))
}

// seals seals a break-glass key, which this server's people then hold in halves.
func (p *person) seals() crypto.Signer {
	p.t.Helper()
	key := newKey(p.t)
	p.calls("POST", "/api/v1/breakglass", jsonText(map[string]string{"csr": csrText(p.t, key)})).wants(201)
	return key
}

// opens is who comes by the key of a seal.
func opens(t testing.TB, h *housetest.House, key crypto.Signer) *person {
	t.Helper()
	var made struct{ Name, Certificate string }
	somebody(t, h, "nobody", nil).calls("POST", "/api/v1/breakglass/open",
		jsonText(map[string]string{"csr": csrText(t, key), "reason": "a test"})).wants(200).into(&made)
	return somebody(t, h, made.Name, pairOf(t, key, made.Certificate))
}

// TestRulesThatAllowEverybodyEverything: what no rules can allow.
func TestRulesThatAllowEverybodyEverything(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	must(t, os.MkdirAll(dir, 0o700))
	writeRules(t, dir, rulesAlone(anarchy, "first"))
	h := housetest.StartIn(t, dir, "--rate-limits=off")
	admin := firstOperator(t, h)
	seal := admin.seals()
	nobodyApprovesTheirOwn(t, h, admin, seal)
	noNameIsGivenTwice(t, admin)
	nobodyRewritesTheRecord(t, h, admin)
	somebodyIsAlwaysLeft(t, admin)
}

func nobodyApprovesTheirOwn(t *testing.T, h *housetest.House, admin *person, seal crypto.Signer) {
	ann := admin.adds("ann", role{Role: "anything"})
	at := ann.offers(anarchy, "second")
	ann.calls("POST", at+"/approve", "").refuses(403, "self_approval")
	ann.alsoKnownAs(admin).calls("POST", at+"/approve", "").refuses(403, "self_approval")
	glass := opens(t, h, seal)
	own := glass.offers(anarchy, "third")
	glass.calls("POST", own+"/approve", "").refuses(403, "self_approval")
	// Who comes by break-glass is no other operator: anybody may have held the halves.
	glass.calls("POST", at+"/approve", "")
	for _, who := range []*person{ann, glass, admin} {
		if r := who.calls("POST", at+"/activate", ""); r.status != 409 && r.status != 403 {
			t.Errorf("%s: %d %s", r.what, r.status, r.body)
		}
	}
	// Nor is somebody who was removed since.
	gone := admin.adds("gus", role{Role: "anything"})
	gone.calls("POST", at+"/approve", "").wants(200)
	admin.calls("POST", "/api/v1/operators/gus/remove", `{"reason":"has left"}`).wants(204)
	admin.calls("POST", at+"/activate", "").refuses(403, "approvals_missing")
	// What rules hold of an operator's is another's to approve.
	token := ann.calls("POST", "/api/v1/tokens", "").wants(201).id()
	ann.calls("DELETE", "/api/v1/tokens/"+token, "")
	var held struct{ Items []struct{ ID string } }
	ann.calls("GET", "/api/v1/requests?state=pending", "").wants(200).into(&held)
	if len(held.Items) != 1 {
		t.Fatalf("held are %+v", held)
	}
	ann.calls("POST", "/api/v1/requests/"+held.Items[0].ID+"/approve", "").refuses(403, "self_approval")
	ann.alsoKnownAs(admin).calls("POST", "/api/v1/requests/"+held.Items[0].ID+"/approve", "").refuses(403, "self_approval")
	admin.calls("POST", "/api/v1/requests/"+held.Items[0].ID+"/approve", "").wants(204)
}

// noNameIsGivenTwice: nobody gets a name that could be taken for another's.
func noNameIsGivenTwice(t *testing.T, admin *person) {
	for name, code := range map[string]string{
		"ann": "operator_exists", "ANN": "operator_alike", "Ann": "operator_alike", // she is there
		"gus": "operator_exists", "Gus": "operator_alike", // he was
		"аnn": "operator_name", "ann\u200b": "operator_name", "ann ": "operator_name", "ａｎｎ": "operator_name", // a Cyrillic а, a space of no width, a space, wide letters
		"breakglass-1": "operator_name", "": "operator_name",
	} {
		status := 409
		if code == "operator_name" {
			status = 400
		}
		admin.calls("POST", "/api/v1/operators", jsonText(map[string]any{
			"name": name, "roles": []role{{Role: "anything"}}, "csr": csrText(t, newKey(t))})).refuses(status, code)
	}
	admin.calls("POST", "/api/v1/operators/gus/resume", "").refuses(409, "operator_state")
	admin.calls("POST", "/api/v1/operators/gus/certify", jsonText(map[string]string{"csr": csrText(t, newKey(t))})).refuses(409, "operator_state")
}

// nobodyRewritesTheRecord tries every method on every path of the record; what was in it before is in it after.
func nobodyRewritesTheRecord(t *testing.T, h *housetest.House, admin *person) {
	before := entriesOf(t, h)
	operations, _ := operationsOf(t, h)
	for i := range operations {
		o := &operations[i]
		if strings.Contains(o.path, "/audit/") || strings.Contains(o.path, "/log/") || strings.Contains(o.path, "/decisions") {
			if o.method != "GET" {
				t.Errorf("%s: the record is for reading", o)
			}
			target := parameter.ReplaceAllString(o.path, "0")
			for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
				if r := admin.calls(method, target, `{}`); r.status != 405 && r.status != 404 {
					t.Errorf("%s: %d %s", r.what, r.status, r.body)
				}
			}
		}
	}
	after := entriesOf(t, h)
	if len(after) <= len(before) || !slices.Equal(after[:len(before)], before) {
		t.Errorf("of %d entries %d are left", len(before), len(after))
	}
}

// entriesOf are the entries of the record, verified offline.
func entriesOf(t *testing.T, h *housetest.House) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "record.ndjson")
	h.Hallmark("audit", "export", "--out", file)
	h.Hallmark("audit", "verify", file)
	text, err := os.ReadFile(file)
	must(t, err)
	return slices.DeleteFunc(strings.Split(string(text), "\n"), func(line string) bool { return !strings.HasPrefix(line, `{"index":`) })
}

func somebodyIsAlwaysLeft(t *testing.T, admin *person) {
	t.Helper()
	ben := admin.adds("ben", role{Role: "anything"})
	shut := admin.offers(tyranny, "shut")
	ben.calls("POST", shut+"/approve", "").wants(200)
	admin.calls("POST", shut+"/activate", "").refuses(403, "nobody_left")
	admin.calls("POST", shut+"/activate", `{"stage":"percent","percent":1}`).refuses(403, "nobody_left")
	// Rules that nobody may take back can be taken back by who put them in force, and by nobody else.
	locked := admin.offers(noWayBack, "locked")
	ben.calls("POST", locked+"/approve", "").wants(200)
	admin.calls("POST", locked+"/activate", "").wants(200)
	ann := admin.adds("bystander", role{Role: "anything"})
	ann.calls("POST", "/api/v1/policy/rollback", `{"reason":"x"}`).refuses(403, "no_way_back")
	ben.calls("POST", "/api/v1/policy/rollback", `{"to":77,"reason":"x"}`).refuses(403, "no_way_back")
	ben.calls("POST", "/api/v1/policy/rollback", `{"reason":"x"}`).wants(200)
	// The last operator can neither leave nor be put out.
	var people struct{ Items []struct{ Name string } }
	admin.calls("GET", "/api/v1/operators?state=active", "").wants(200).into(&people)
	for _, o := range people.Items {
		if o.Name != "admin" && !strings.HasPrefix(o.Name, "breakglass-") {
			admin.calls("POST", "/api/v1/operators/"+o.Name+"/remove", `{"reason":"a test"}`).wants(204)
		}
	}
	for _, verb := range []string{"remove", "suspend"} {
		admin.calls("POST", "/api/v1/operators/admin/"+verb, `{"reason":"a test"}`).refuses(409, "last_operator")
	}
}

// TestRulesThatAllowNobodyAnything: what no rules can forbid.
func TestRulesThatAllowNobodyAnything(t *testing.T) {
	h := housetest.Start(t, "--rate-limits=off")
	admin := firstOperator(t, h)
	seal := admin.seals()
	writeRules(t, h.Dir, rulesAlone(tyranny, "shut"))
	h.Signal(syscall.SIGHUP)
	for admin.calls("GET", "/api/v1/tokens", "").status != 403 {
		time.Sleep(10 * time.Millisecond)
	}
	operations, _ := operationsOf(t, h)
	p := &probe{t: t, h: h, admin: admin}
	glass := opens(t, h, seal)
	for i := range operations {
		o := &operations[i]
		if o.action == "" || o.byProof || o.needsBody || o.path == "/api/v1/logout" {
			continue
		}
		target, _ := p.targets(&caller{person: admin}, o)
		admin.calls(o.method, target, "").refuses(403, "shut")
		r := glass.calls(o.method, target, "")
		switch o.action {
		case "policy.show", "policy.list", "policy.history", "policy.explain", "policy.rollback": // to look at the rules, and to take them back
			if r.status == 401 || r.status == 403 || r.status >= 500 {
				t.Errorf("%s: %d %s", r.what, r.status, r.body)
			}
		default:
			r.refuses(403, "shut")
		}
	}
}

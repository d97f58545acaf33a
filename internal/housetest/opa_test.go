package housetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/policy"
	"github.com/hallmark-pki/hallmark/policy/rego"
)

// opa runs the real command and returns its standard output.
func opa(t *testing.T, args ...string) string {
	t.Helper()
	c := exec.Command(OPA(t), args...)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		t.Fatalf("opa %s: %v\n%s%s", strings.Join(args, " "), err, &out, &errs)
	}
	return out.String()
}

// signingKey writes a key for opa build and its public half.
func signingKey(t *testing.T, dir, name string) (private, public string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	private = filepath.Join(dir, name+".key")
	must(t, os.WriteFile(private, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	der, err = x509.MarshalPKIXPublicKey(key.Public())
	must(t, err)
	public = filepath.Join(dir, name+".pem")
	must(t, os.WriteFile(public, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o644))
	return private, public
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// edited is the policy of a directory with a setting changed, in a new directory.
func edited(t *testing.T, dir, setting string, value any) string {
	t.Helper()
	to := t.TempDir()
	must(t, os.CopyFS(to, os.DirFS(dir)))
	name := filepath.Join(to, "data.json")
	text, err := os.ReadFile(name)
	must(t, err)
	var data map[string]map[string]any
	must(t, json.Unmarshal(text, &data))
	data["settings"][setting] = value
	text, err = json.Marshal(data)
	must(t, err)
	must(t, os.WriteFile(name, text, 0o644))
	return to
}

// built is the directory as opa build packs and signs it.
func builtBundle(t *testing.T, dir, key string, flags ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "bundle.tar.gz")
	opa(t, append([]string{"build", "--bundle", dir, "--signing-alg", "ES256", "--signing-key", key, "--output", out}, flags...)...)
	return out
}

// tampered is the bundle with one word of its rules changed.
func tampered(t *testing.T, path string) string {
	t.Helper()
	packed, err := os.ReadFile(path)
	must(t, err)
	zipped, err := gzip.NewReader(bytes.NewReader(packed))
	must(t, err)
	var out bytes.Buffer
	again := gzip.NewWriter(&out)
	from, to := tar.NewReader(zipped), tar.NewWriter(again)
	for {
		header, err := from.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		text, err := io.ReadAll(from)
		must(t, err)
		text = bytes.ReplaceAll(text, []byte(`"policy.propose"`), []byte(`"policy.*"`))
		header.Size = int64(len(text))
		must(t, to.WriteHeader(header))
		_, err = to.Write(text)
		must(t, err)
	}
	must(t, errors.Join(to.Close(), again.Close()))
	name := filepath.Join(t.TempDir(), "tampered.tar.gz")
	must(t, os.WriteFile(name, out.Bytes(), 0o644))
	return name
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Fatalf("%s: not within a minute", what)
}

// TestOPAAgrees holds our reading of rules against that of the opa command: what it checks,
// formats, tests and decides, and what it builds and signs.
func TestOPAAgrees(t *testing.T) {
	dir := t.TempDir()
	must(t, os.CopyFS(dir, rego.Default()))
	capabilities, _, _ := Exec(t, "hallmark", "policy", "capabilities")
	file := filepath.Join(t.TempDir(), "capabilities.json")
	must(t, os.WriteFile(file, []byte(capabilities), 0o644))
	opa(t, "check", "--strict", "--bundle", "--capabilities", file, dir)
	if changes := opa(t, "fmt", "--diff", dir); changes != "" {
		t.Errorf("opa fmt would change\n%s", changes)
	}
	var theirs, ours []struct{ Fail, Passed bool }
	must(t, json.Unmarshal([]byte(opa(t, "test", "--bundle", "--format", "json", dir)), &theirs))
	results, err := rego.Test(t.Context(), dir)
	must(t, err)
	if len(theirs) != len(results.Cases) || len(ours) > 0 || slices.ContainsFunc(theirs, func(c struct{ Fail, Passed bool }) bool { return c.Fail }) || !results.Passed() {
		t.Errorf("opa runs %d tests, we %d", len(theirs), len(results.Cases))
	}
	key, _ := signingKey(t, t.TempDir(), "ci")
	agree(t, builtBundle(t, edited(t, dir, "hold_profiles", []string{"gateway"}), key), questions(600))
}

// agree asks the opa command and our engine the same questions of the same bundle.
func agree(t *testing.T, bundle string, asked []map[string]any) {
	t.Helper()
	packed, err := os.ReadFile(bundle)
	must(t, err)
	engine, err := rego.LoadBundle(t.Context(), packed, nil)
	must(t, err)
	text, err := json.Marshal(asked)
	must(t, err)
	input := filepath.Join(t.TempDir(), "input.json")
	must(t, os.WriteFile(input, text, 0o600))
	// A question without an answer is undefined: the comprehension keeps its place.
	var answers struct {
		Result []struct {
			Expressions []struct{ Value []decided }
		}
	}
	query := `[d | some x in input; d := object.union({"verdict": "undefined"}, data.hallmark.decision) with input as x]`
	must(t, json.Unmarshal([]byte(opa(t, "eval", "--bundle", bundle, "--input", input, "--format", "json", query)), &answers))
	theirs := answers.Result[0].Expressions[0].Value
	if len(theirs) != len(asked) {
		t.Fatalf("%d answers to %d questions", len(theirs), len(asked))
	}
	seen := map[string]int{}
	var failed []map[string]any
	for i, question := range asked {
		answer, err := engine.Evaluate(t.Context(), question)
		if err != nil { // a built-in function that fails is an error here, and undefined there unless that is asked for
			failed = append(failed, question)
			continue
		}
		if ours := settled(&answer); ours != theirs[i].text() {
			text, _ := json.Marshal(question)
			t.Errorf("%s\nwe say  %s\nopa says %s", text, ours, theirs[i].text())
		}
		seen[theirs[i].Verdict]++
	}
	t.Logf("%d questions: %v, and %d errors", len(asked), seen, len(failed))
	if len(failed) > len(asked)/4 {
		t.Errorf("%d of %d questions are errors", len(failed), len(asked))
	}
	for _, question := range failed[:min(len(failed), 2)] {
		text, err := json.Marshal(question)
		must(t, err)
		must(t, os.WriteFile(input, text, 0o600))
		c := exec.Command(OPA(t), "eval", "--strict-builtin-errors", "--bundle", bundle, "--input", input, "data.hallmark.decision")
		if out, err := c.CombinedOutput(); err == nil || !strings.Contains(string(out), "eval_type_error") && !strings.Contains(string(out), "eval_builtin_error") {
			t.Errorf("%s\nis an error for us, and for opa\n%s", text, out)
		}
	}
	if seen["allow"] < 20 || seen["deny"] < 20 || seen["hold"] < 3 {
		t.Errorf("the questions are too much alike: %v", seen)
	}
}

// decided is a decision as rules write it.
type decided struct {
	Verdict     string            `json:"verdict"`
	Reasons     []policy.Reason   `json:"reasons"`
	Profile     string            `json:"profile"`
	Lifetime    string            `json:"lifetime"`
	Obligations []json.RawMessage `json:"obligations"`
}

// text is the decision so that two can be compared.
func (d *decided) text() string {
	var reasons, kinds []string
	for _, r := range d.Reasons {
		reasons = append(reasons, r.Code+": "+r.Detail)
	}
	for _, o := range d.Obligations {
		kinds = append(kinds, strings.Trim(string(o), `"`))
	}
	slices.Sort(reasons)
	slices.Sort(kinds)
	life, _ := time.ParseDuration(d.Lifetime)
	return fmt.Sprintf("%s %q %s %s %q", d.Verdict, reasons, d.Profile, life, kinds)
}

func settled(a *policy.Answer) string {
	d := decided{Verdict: a.Verdict.String(), Reasons: a.Reasons, Profile: a.Profile, Lifetime: a.Lifetime.String()}
	for _, o := range a.Obligations {
		d.Obligations = append(d.Obligations, json.RawMessage(o.Type))
	}
	return d.text()
}

// questions makes up so many inputs: every action, likely and unlikely values, and some of the wrong type.
func questions(n int) []map[string]any {
	chance := mathrand.New(mathrand.NewPCG(1, 2))
	one := func(values ...any) any { return values[chance.IntN(len(values))] }
	object := func(members map[string]any) map[string]any {
		for name := range members {
			if chance.IntN(8) == 0 {
				delete(members, name)
			}
		}
		return members
	}
	actions := policy.Actions()
	var all []map[string]any
	for i := range n {
		if i%4 == 3 { // somebody who means it
			all = append(all, enrolling(one))
			continue
		}
		name := any(string(actions[i%len(actions)]))
		switch {
		case i%3 == 0:
			name = one("certificate.issue", "certificate.renew", "device.attest")
		case i%41 == 0:
			name = one("no.such", 7, nil)
		}
		kind := one("device", "device", "user", "user", "service", 3)
		attestation := object(map[string]any{"case": one("A", "B", "C", "D", "E"), "verdict": one("affirmed", "none", "warning", "contraindicated"), "trusted": one(true, false),
			"affirmed": one(true, false), "denied": one(true, false), "findings": one([]any{}, []any{map[string]any{"code": "boot_changed"}}), "claims": map[string]any{}})
		all = append(all, map[string]any{
			"subject": map[string]any{"type": kind, "id": one("gw-1", "admin", "berta", "bundle:main", ""), "properties": object(map[string]any{
				"roles": one([]any{"admin"}, []any{"viewer"}, []any{"line", "security"}, []any{}, []any{"gateway"}, "admin"), "scopes": one(map[string]any{}, map[string]any{"line": []any{map[string]any{"model": "gw-2"}}}),
				"proof": one("token", "idevid", "certificate"), "auth": map[string]any{"method": one("mtls", "token", "idevid", "tpm"), "mfa": one(true, false)}, "known": one(true, false), "signed": true})},
			"action": map[string]any{"name": name, "properties": object(map[string]any{
				"profile": one("device", "gateway", ""), "lifetime_s": one(3600, 86400, 604800, "long"), "reason": one("because", "", nil), "model": one("gw-2", "s-1")})},
			"resource": map[string]any{"type": one("device", "policy", "operator", "token"), "id": one("gw-1", "admin", "06h", ""), "properties": object(map[string]any{
				"state": one("expected", "active", "quarantined", "retired"), "known": one(true, false), "model": one("gw-2", "s-1", nil), "author": one("admin", "berta"), "labels": map[string]any{"site": "ulm"}})},
			"context": object(map[string]any{"time": one("2026-11-24T03:00:00.000Z", "2026-11-29T23:59:59.999Z", "soon"), "ip": "192.0.2.1", "request_id": "r",
				"attestation": attestation, "breakglass": one(nil, map[string]any{"reason": "fire"}), "change": map[string]any{"author": one("admin", "berta"), "approvals": []any{}}}),
		})
	}
	return all
}

// enrolling is a question that devices ask, with nothing wrong about it.
func enrolling(one func(...any) any) map[string]any {
	return map[string]any{
		"subject":  map[string]any{"type": "device", "id": "gw-1", "properties": map[string]any{"auth": map[string]any{"method": one("token", "idevid", "certificate")}}},
		"action":   map[string]any{"name": one("certificate.issue", "certificate.renew"), "properties": map[string]any{"profile": one("device", "gateway"), "lifetime_s": one(600, 86400)}},
		"resource": map[string]any{"type": "device", "id": "gw-1", "properties": map[string]any{"known": true, "state": one("expected", "active", "retired")}},
		"context":  map[string]any{"time": "2026-11-24T03:00:00.000Z", "ip": "192.0.2.1", "request_id": "r"},
	}
}

// shelf serves one file as web servers do: whole, with an entity tag, or not at all.
type shelf struct {
	file        atomic.Pointer[[]byte]
	whole, same atomic.Int64
}

// ServeHTTP implements http.Handler.
func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	text := s.file.Load()
	if text == nil || r.Header.Get("Authorization") != "Bearer hush" {
		http.Error(w, "no", http.StatusForbidden)
		return
	}
	tag := fmt.Sprintf(`"%x"`, sha256.Sum256(*text))
	w.Header().Set("ETag", tag)
	if r.Header.Get("If-None-Match") == tag {
		s.same.Add(1)
	} else {
		s.whole.Add(1)
	}
	http.ServeContent(w, r, "bundle.tar.gz", time.Time{}, bytes.NewReader(*text))
}

func (s *shelf) put(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	s.file.Store(&text)
}

// force is what the API says of the rules in force.
type force struct {
	Digest string `json:"digest"`
	Source struct {
		Outcome, Why, Digest, Revision, Proposal, Unreachable string
	} `json:"source"`
}

func (h *House) force(t *testing.T) (f force) {
	t.Helper()
	var shown struct {
		Force force `json:"in_force"`
	}
	must(t, json.Unmarshal([]byte(h.Hallmark("policy", "show", "-o", "json")), &shown))
	return shown.Force
}

func (h *House) proposals(t *testing.T) (ids []string) {
	t.Helper()
	var list struct{ Items []struct{ ID string } }
	must(t, json.Unmarshal([]byte(h.Hallmark("policy", "list", "--author", "bundle:git", "-o", "json")), &list))
	for _, p := range list.Items {
		ids = append(ids, p.ID)
	}
	return ids
}

// TestRulesThatLiveInGit: what opa build has signed is pulled and becomes a proposal, once; what
// is tampered with does not; people put it in force, and an agent of OPA's follows.
func TestRulesThatLiveInGit(t *testing.T) {
	keys := t.TempDir()
	private, public := signingKey(t, keys, "git")
	foreign, foreignPublic := signingKey(t, keys, "foreign")
	var served shelf
	web := httptest.NewTLSServer(&served)
	t.Cleanup(web.Close)
	must(t, os.WriteFile(filepath.Join(keys, "web.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw}), 0o644))
	must(t, os.WriteFile(filepath.Join(keys, "bearer"), []byte("hush\n"), 0o600))
	dir := filepath.Join(t.TempDir(), "data")
	must(t, os.Mkdir(dir, 0o700))
	config := fmt.Sprintf("policy:\n  keys: [{id: git, file: %s}]\n  source: {name: git, url: %s, resource: rules/bundle.tar.gz, ca: %s/web.pem, bearer_file: %s/bearer, poll_min: 1s, poll_max: 1s}\n", public, web.URL, keys, keys)
	must(t, os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(config), 0o600))
	h := StartIn(t, dir)
	berta := filepath.Join(keys, "berta")
	h.Hallmark("operator", "add", "berta", "--role", "admin", "--out", keys)
	asBerta := []string{"--cert", berta + ".crt", "--key", berta + ".key"}

	rules := filepath.Join(dir, "policy")
	changed := edited(t, rules, "max_attestation_age", "100h")
	good := builtBundle(t, changed, private, "--revision", "commit-1")
	h.refuses(t, good, private, foreign, changed)

	served.put(t, tampered(t, good))
	eventually(t, "a tampered bundle is refused", func() bool { return h.force(t).Source.Outcome == "refused" })
	if at := h.force(t).Source; !strings.Contains(at.Why, "digest mismatch") || len(h.proposals(t)) > 0 {
		t.Errorf("a tampered bundle: %+v, %v", at, h.proposals(t))
	}
	served.put(t, good)
	eventually(t, "a signed bundle is proposed", func() bool { return len(h.proposals(t)) == 1 })
	id := h.proposals(t)[0]
	before := served.same.Load()
	eventually(t, "it is asked for by its tag", func() bool { return served.same.Load() > before+1 })
	h.Kill() // and what it has proposed is not proposed again
	h.Run()
	eventually(t, "it is known after a restart", func() bool { o := h.force(t).Source.Outcome; return o == "known" || o == "unchanged" })
	var made struct{ Author, Note, State, Digest string }
	must(t, json.Unmarshal([]byte(h.Hallmark("policy", "show", id, "-o", "json")), &made))
	if len(h.proposals(t)) != 1 || made.Author != "bundle:git" || !strings.Contains(made.Note, "commit-1") || made.State != "open" {
		t.Errorf("proposed: %+v, %v", made, h.proposals(t))
	}

	agent := startAgent(t, h, keys, public, foreignPublic)
	first := agent.decide(t, question)
	h.Hallmark("policy", "replay", id)
	h.Hallmark("policy", "approve", id)
	h.Hallmark(append([]string{"policy", "activate", id}, asBerta...)...)
	eventually(t, "the agent follows", func() bool { return agent.revision(t) == "commit-1" })
	if second := agent.decide(t, question); first.text() != second.text() {
		t.Errorf("got %s, then %s", first.text(), second.text())
	}
	if f := h.force(t); f.Digest != made.Digest {
		t.Errorf("in force: %+v", f)
	}
	h.recordedAgree(t, agent)

	next := edited(t, changed, "max_attestation_age", "50h")
	served.put(t, builtBundle(t, next, private, "--revision", "commit-2"))
	eventually(t, "the next commit is proposed", func() bool { return len(h.proposals(t)) == 2 })
	h.Hallmark("policy", "reject", h.force(t).Source.Proposal, "--reason", "no")
	served.put(t, builtBundle(t, next, private, "--revision", "commit-3"))
	eventually(t, "what was rejected is known", func() bool { return h.force(t).Source.Outcome == "known" })
	if at := h.force(t).Source; len(h.proposals(t)) != 2 || !strings.Contains(at.Why, "rejected: no") {
		t.Errorf("rejected rules: %+v, %v", at, h.proposals(t))
	}
	if out := h.Hallmark("policy", "show"); !strings.Contains(out, "# pulled from "+web.URL+"/rules/bundle.tar.gz: ") || strings.Contains(h.Log(), "hush") {
		t.Error("hallmark policy show does not tell of the source, or the log tells the token")
	}
}

// question is one that the default rules allow an operator.
var question = map[string]any{"subject": map[string]any{"type": "user", "id": "admin", "properties": map[string]any{"roles": []any{"admin"}, "scopes": map[string]any{}}},
	"action": map[string]any{"name": "device.show", "properties": map[string]any{}}, "resource": map[string]any{"type": "device", "id": "gw-1", "properties": map[string]any{}}, "context": map[string]any{"time": "2026-11-24T03:00:00.000Z"}}

// refuses proposes bundles by hand that nobody should take.
func (h *House) refuses(t *testing.T, good, private, foreign, dir string) {
	t.Helper()
	for _, test := range []struct{ path, says string }{
		{tampered(t, good), "digest mismatch"},
		{builtBundle(t, dir, foreign), "signature"},
		{builtBundle(t, dir, foreign, "--claims-file", claims(t, `{"keyid":"other"}`)), "not configured here"},
		{builtBundle(t, dir, private, "--claims-file", claims(t, `{"scope":"write"}`)), "scope mismatch"},
		{builtBundle(t, dir, private, "--ignore", "*_test.rego", "--target", "wasm", "--entrypoint", "hallmark/decision"), "WebAssembly"},
	} {
		if out, errs, code := h.Try("policy", "propose", test.path); code == 0 || !strings.Contains(errs, test.says) {
			t.Errorf("want %q: exit %d\n%s%s", test.says, code, out, errs)
		}
	}
	// What is signed well is taken, whoever proposes it; so is what this server has signed itself.
	var made struct{ ID string }
	must(t, json.Unmarshal([]byte(h.Hallmark("policy", "propose", good, "-o", "json")), &made))
	h.Hallmark("policy", "withdraw", made.ID, "--reason", "only to see")
}

func claims(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "claims.json")
	must(t, os.WriteFile(name, []byte(text), 0o600))
	return name
}

// agent is a real OPA that fetches its rules from a Hallmark.
type agent struct {
	url string
	log *logBuffer
}

// startAgent starts one that verifies with the server's key, and shows that one which verifies with another loads nothing.
func startAgent(t *testing.T, h *House, keys, public, foreign string) *agent {
	t.Helper()
	own := filepath.Join(keys, "own.pem")
	var shown struct {
		Key struct {
			ID string `json:"key_id"`
		} `json:"key"`
	}
	must(t, json.Unmarshal([]byte(h.Hallmark("policy", "show", "--public-key", own, "-o", "json")), &shown))
	wrong := runAgent(t, h, shown.Key.ID, foreign)
	good := runAgent(t, h, shown.Key.ID, own)
	eventually(t, "the agent loads the rules", good.ready)
	eventually(t, "the other agent refuses them", func() bool { return strings.Contains(wrong.log.String(), "failed to verify JWT signature") })
	if wrong.ready() {
		t.Error("an agent with another key has loaded the rules")
	}
	return good
}

func runAgent(t *testing.T, h *House, id, public string) *agent {
	t.Helper()
	key, err := os.ReadFile(public)
	must(t, err)
	config, err := json.Marshal(map[string]any{
		"services": map[string]any{"hallmark": map[string]any{"url": h.URL + "/api/v1/policy", "tls": map[string]any{"ca_cert": h.CAFile()},
			"credentials": map[string]any{"client_tls": map[string]any{"cert": filepath.Join(h.Dir, "operators", "admin.crt"), "private_key": filepath.Join(h.Dir, "operators", "admin.key")}}}},
		"keys": map[string]any{id: map[string]any{"algorithm": "ES256", "key": string(key)}},
		"bundles": map[string]any{"hallmark": map[string]any{"service": "hallmark", "resource": "bundle", "signing": map[string]any{"keyid": id},
			"polling": map[string]any{"min_delay_seconds": 1, "max_delay_seconds": 2, "long_polling_timeout_seconds": 20}}},
	})
	must(t, err)
	file := filepath.Join(t.TempDir(), "opa.json")
	must(t, os.WriteFile(file, config, 0o600))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	at := l.Addr().String()
	must(t, l.Close())
	a := &agent{url: "http://" + at, log: &logBuffer{}}
	ctx, cancel := context.WithCancel(context.Background())
	c := exec.CommandContext(ctx, OPA(t), "run", "--server", "--addr", at, "--config-file", file, "--skip-version-check")
	c.Stdout, c.Stderr = a.log, a.log
	must(t, c.Start())
	t.Cleanup(func() {
		cancel()
		c.Wait()
		if t.Failed() {
			t.Logf("an agent's log:\n%s", a.log)
		}
	})
	return a
}

// ready reports whether the agent has loaded its bundle.
func (a *agent) ready() bool {
	r, err := http.Get(a.url + "/health?bundles")
	if err != nil {
		return false
	}
	r.Body.Close()
	return r.StatusCode == http.StatusOK
}

// decide asks the agent over its REST API.
func (a *agent) decide(t *testing.T, input map[string]any) decided {
	t.Helper()
	body, err := json.Marshal(map[string]any{"input": input})
	must(t, err)
	r, err := http.Post(a.url+"/v1/data/hallmark/decision", "application/json", bytes.NewReader(body))
	must(t, err)
	defer r.Body.Close()
	var answer struct{ Result decided }
	must(t, json.NewDecoder(r.Body).Decode(&answer))
	return answer.Result
}

// revision is that of the bundle that the agent answers with.
func (a *agent) revision(t *testing.T) string {
	t.Helper()
	r, err := http.Get(a.url + "/v1/data/system/bundles/hallmark/manifest/revision")
	must(t, err)
	defer r.Body.Close()
	var answer struct{ Result string }
	must(t, json.NewDecoder(r.Body).Decode(&answer))
	return answer.Result
}

// recordedAgree asks the agent what the server has decided since both have the same rules.
func (h *House) recordedAgree(t *testing.T, a *agent) {
	t.Helper()
	digest := h.force(t).Digest
	h.Try("device", "show", "nobody")
	h.Try("device", "retire", "nobody")
	var list struct {
		Items []struct {
			ID string `json:"id"`
		}
	}
	must(t, json.Unmarshal([]byte(h.Hallmark("decision", "list", "--limit", "20", "-o", "json")), &list))
	asked := 0
	for _, item := range list.Items {
		var shown struct {
			Verdict, Policy string
			Input           map[string]any
		}
		must(t, json.Unmarshal([]byte(h.Hallmark("decision", "show", item.ID, "-o", "json")), &shown))
		if shown.Policy != digest {
			continue
		}
		asked++
		if d := a.decide(t, shown.Input); d.Verdict != shown.Verdict {
			t.Errorf("decision %s: %s here, %s at the agent", item.ID, shown.Verdict, d.Verdict)
		}
	}
	if asked == 0 {
		t.Error("no decision was recorded by the new rules")
	}
}

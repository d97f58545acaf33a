package housetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

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
	h.reconfigured(t, filepath.Join(dir, "config.yaml"))
}

// notReloaded is what the log says of a slip.
const notReloaded = "policy.keys and policy.source not reloaded"

// replaceFile writes a file in one step, so that nobody reads half of it.
func replaceFile(t *testing.T, name string, data []byte) {
	t.Helper()
	must(t, os.WriteFile(name+".new", data, 0o600))
	must(t, os.Rename(name+".new", name))
}

// reconfigured reads the configuration anew: a slip in it changes nothing, and a source that is no longer there is left alone.
func (h *House) reconfigured(t *testing.T, file string) {
	t.Helper()
	config, err := os.ReadFile(file)
	must(t, err)
	for _, slip := range []struct{ is, becomes, says string }{
		{"name: git", "nmae: git", "nmae"}, {"url: https:", "url: ftp:", "url is a URL"}, {"id: git", "id: ''", "policy.keys"}, {"git.pem", "gut.pem", "no such file"}, {"poll_max: 1s", "poll_max: 1ms", "poll_max"},
	} {
		told := strings.Count(h.Log(), notReloaded)
		replaceFile(t, file, bytes.Replace(config, []byte(slip.is), []byte(slip.becomes), 1))
		h.Signal(syscall.SIGHUP)
		eventually(t, "the log tells of "+slip.becomes, func() bool {
			said := strings.Split(h.Log(), notReloaded)
			return len(said) > told+1 && strings.Contains(said[len(said)-1], slip.says)
		})
	}
	if h.force(t).Source.Outcome == "" {
		t.Error("after a slip there is no source")
	}
	before, _, _ := bytes.Cut(config, []byte("  source:"))
	replaceFile(t, file, before)
	h.Signal(syscall.SIGHUP)
	eventually(t, "the source is left alone", func() bool { return !strings.Contains(h.Hallmark("policy", "show"), "# pulled from") })
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
	h.Hallmark("operator", "add", "gw", "--role", "gateway", "--out", keys)
	wrong := runAgent(t, h, keys, shown.Key.ID, foreign)
	good := runAgent(t, h, keys, shown.Key.ID, own)
	eventually(t, "the agent loads the rules", good.ready)
	eventually(t, "the other agent refuses them", func() bool { return strings.Contains(wrong.log.String(), "failed to verify JWT signature") })
	if wrong.ready() {
		t.Error("an agent with another key has loaded the rules")
	}
	return good
}

func runAgent(t *testing.T, h *House, keys, id, public string) *agent {
	t.Helper()
	key, err := os.ReadFile(public)
	must(t, err)
	config, err := json.Marshal(map[string]any{
		"services": map[string]any{"hallmark": map[string]any{"url": h.URL + "/api/v1/policy", "tls": map[string]any{"ca_cert": h.CAFile()},
			"credentials": map[string]any{"client_tls": map[string]any{"cert": filepath.Join(keys, "gw.crt"), "private_key": filepath.Join(keys, "gw.key")}}}},
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

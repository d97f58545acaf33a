package console

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/operators"
	"github.com/hallmark-pki/hallmark/policy/rego"
	"github.com/hallmark-pki/hallmark/policy/release"
)

// changed is a bundle of the house's rules with one setting changed, and files beside them.
func (h *house) changed(setting string, value any, files map[string]string) string {
	h.t.Helper()
	dir := h.t.TempDir()
	check(h.t, os.CopyFS(dir, os.DirFS(filepath.Join(h.dir, "policy"))))
	name := filepath.Join(dir, "data.json")
	text, err := os.ReadFile(name)
	check(h.t, err)
	var data struct {
		Settings map[string]any `json:"settings"`
	}
	check(h.t, json.Unmarshal(text, &data))
	data.Settings[setting] = value
	check(h.t, os.Chmod(name, 0o644))
	check(h.t, os.WriteFile(name, []byte(jsonOf(data)), 0o644))
	for name, text := range files {
		check(h.t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	b, err := rego.ReadDir(dir)
	check(h.t, err)
	packed, err := b.Pack(nil)
	check(h.t, err)
	return string(packed)
}

const proposals = "/api/v1/policy/proposals"

// proposed has somebody propose shorter certificates, and somebody replay that.
func (h *house) proposed(author, other *http.Client) release.Proposal {
	h.t.Helper()
	r := h.send(author, "POST", proposals+"?note=shorter", bundleType, h.changed("unaffirmed_lifetime", "2h", nil))
	if r.StatusCode != 201 {
		h.t.Fatalf("proposing: %s: %s", r.Status, r.body)
	}
	var made release.Proposal
	r.into(h.t, &made)
	h.replayed(other, made.ID)
	return made
}

// replayed has somebody replay a proposal, and waits until that is done.
func (h *house) replayed(who *http.Client, proposal string) release.Rehearsal {
	h.t.Helper()
	var run release.Rehearsal
	h.want(who, 201, "POST", proposals+"/"+proposal+"/replay", "").into(h.t, &run)
	for run.State == release.Ongoing {
		time.Sleep(10 * time.Millisecond)
		h.want(who, 200, "GET", proposals+"/"+proposal+"/replay", "").into(h.t, &run)
	}
	if run.State != release.Finished {
		h.t.Fatalf("the replay is %s: %s", run.State, run.Why)
	}
	return run
}

// TestThePolicysLife: one operator proposes, another approves, the decisions
// carry the new digest, and then the old one again.
func TestThePolicysLife(t *testing.T) { onBoth(t, thePolicysLife) }

func thePolicysLife(t *testing.T, h *house) {
	admin, berta := h.client(h.admin), h.client(h.certified("berta", operators.Role{Name: "admin"}))
	var before, after release.Force
	h.want(admin, 200, "GET", "/api/v1/policy", "").into(t, &before)
	made := h.proposed(admin, admin)
	at := proposals + "/" + made.ID
	if made.Base != before.Digest || made.Digest == before.Digest || made.State != release.Open || made.Author != "admin" {
		t.Errorf("proposed: %+v", made)
	}
	for verb, code := range map[string]string{"/approve": "self_approval", "/activate": "proposal_open"} {
		status := map[string]int{"self_approval": 403, "proposal_open": 409}[code]
		if p := h.want(admin, status, "POST", at+verb, "").problem(t); p.Code != code {
			t.Errorf("%s: %+v", verb, p)
		}
	}
	h.want(berta, 409, "POST", at+"/approve", `{"digest":"sha256:00"}`)
	h.want(berta, 200, "POST", at+"/approve", jsonOf(vote{Digest: made.Digest, Note: "looked at it"}))
	var found release.Proposal
	h.want(admin, 200, "POST", at+"/activate", `{"stage":"shadow"}`).into(t, &found)
	if found.State != release.Shadow {
		t.Errorf("in shadow it is %s", found.State)
	}
	h.want(admin, 400, "POST", at+"/activate", `{"stage":"percent","percent":100}`)
	h.want(admin, 200, "POST", at+"/activate", "").into(t, &found)
	h.want(admin, 200, "GET", "/api/v1/policy", "").into(t, &after)
	if found.State != release.Active || after.Digest != made.Digest || after.Revision.Number != found.Revision {
		t.Errorf("active it is %+v, in force %+v", found, after)
	}
	if got := h.decidedBy(admin); got != made.Digest {
		t.Errorf("decisions carry %s, want %s", got, made.Digest)
	}
	if string(h.want(admin, 200, "GET", "/api/v1/policy/revisions/current/bundle", "").body) != string(h.want(admin, 200, "GET", at+"/bundle", "").body) {
		t.Error("what is in force is not what was proposed")
	}
	var back release.Revision
	h.want(berta, 200, "POST", "/api/v1/policy/rollback", `{"reason":"too short"}`).into(t, &back)
	if got := h.decidedBy(admin); got != before.Digest || back.Digest != before.Digest {
		t.Errorf("rolled back to %+v, decisions carry %s, want %s", back, got, before.Digest)
	}
	if got := walked(t, h, "/api/v1/policy/revisions?", "revision"); !slices.Equal(got, []string{"3", "2", "1"}) {
		t.Errorf("revisions %v", got)
	}
	h.want(admin, 200, "GET", "/api/v1/policy/revisions/1/bundle", "")
}

// decidedBy is the digest that the next decision carries.
func (h *house) decidedBy(client *http.Client) string {
	h.t.Helper()
	var list struct{ Items []struct{ ID string } }
	h.want(client, 200, "GET", "/api/v1/tokens", "")
	h.want(client, 200, "GET", "/api/v1/decisions?limit=1&action=token.list", "").into(h.t, &list)
	var decision struct{ Policy string }
	h.want(client, 200, "GET", "/api/v1/decisions/"+list.Items[0].ID, "").into(h.t, &decision)
	return decision.Policy
}

// TestBadRulesAreNotTaken: the caller is told each thing that is wrong with them.
func TestBadRulesAreNotTaken(t *testing.T) {
	h := newHouse(t)
	admin := h.client(h.admin)
	bad := h.changed("unaffirmed_lifetime", "2h", map[string]string{"bad.rego": "package hallmark\n\nallow if nothing\n"})
	for what, body := range map[string]string{"undefined": bad, "no bundle": "hello", "empty": ""} {
		r := h.send(admin, "POST", proposals, bundleType, body)
		if p := r.problem(t); r.StatusCode != 400 || p.Code != "policy_refused" || len(p.Problems) == 0 {
			t.Errorf("%s: %s: %+v", what, r.Status, p)
		}
	}
	if p := h.send(admin, "POST", proposals, bundleType, bad).problem(t); !strings.Contains(strings.Join(p.Problems, "\n"), "bad.rego:3") {
		t.Errorf("the problem is not placed: %v", p.Problems)
	}
	if r := h.send(admin, "POST", proposals, bundleType, strings.Repeat("x", release.MaxBundle+1)); r.StatusCode != 413 {
		t.Errorf("too large: %s", r.Status)
	}
	if r := h.send(admin, "POST", proposals, jsonType, "{}"); r.StatusCode != 415 {
		t.Errorf("of another type: %s", r.Status)
	}
	if r := h.send(admin, "POST", proposals+"?base=sha256:00", bundleType, h.changed("unaffirmed_lifetime", "2h", nil)); r.StatusCode != 409 {
		t.Errorf("from other rules: %s", r.Status)
	}
	h.rehearsal.Lock()
	if r := h.send(admin, "POST", proposals, bundleType, bad); r.StatusCode != 503 || r.Header.Get("Retry-After") == "" {
		t.Errorf("two at a time: %s", r.Status)
	}
	h.rehearsal.Unlock()
	h.want(admin, 404, "GET", proposals+"/nothing", "")
	h.want(admin, 400, "GET", "/api/v1/policy/revisions/01/bundle", "")
	h.want(admin, 404, "GET", "/api/v1/policy/revisions/7/bundle", "")
	h.want(admin, 409, "POST", "/api/v1/policy/rollback", "")
}

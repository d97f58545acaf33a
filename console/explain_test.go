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

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/operators"
	"github.com/hallmark-pki/hallmark/policy"
	"github.com/hallmark-pki/hallmark/policy/rego"
)

// explains asks for an explanation and checks what each has to have.
func (h *house) explains(client *http.Client, decision string) explanation {
	h.t.Helper()
	var x explanation
	h.want(client, 200, "GET", "/api/v1/decisions/"+decision+"/explanation", "").into(h.t, &x)
	if e := &x.Explanation; x.Decision.ID != decision || !e.Same || !e.Agrees || e.Verdict != x.Decision.Verdict || e.Rules != x.Decision.Policy {
		h.t.Errorf("recorded %s %v, explained %+v", x.Decision.Verdict, x.Decision.Reasons, e)
	}
	return x
}

// code is of the first reason that a rule gave, and the kinds of what would have to change.
func (x *explanation) code(t *testing.T) (code string, kinds []rego.ChangeKind) {
	t.Helper()
	for _, f := range x.Explanation.Fired {
		if f.File == "" || f.Line == 0 || !strings.HasPrefix(f.Rule, "data.") {
			t.Errorf("a rule without a place: %+v", f)
		}
		if len(f.Gave) > 0 {
			code = f.Gave[0].Code
		}
	}
	if len(x.Explanation.Ways) > 0 {
		for _, c := range x.Explanation.Ways[0] {
			kinds = append(kinds, c.Kind)
		}
	}
	slices.Sort(kinds)
	return code, slices.Compact(kinds)
}

// enrols has policy decide on an enrolment of a device that stands as said, and returns the decision's id.
func (h *house) enrols(device, context policy.Properties) string {
	h.t.Helper()
	d, err := policy.Decide(h.t.Context(), h.Policy, policy.Request{
		Subject:    policy.Entity{Type: "device", ID: "gw-1", Properties: policy.Properties{"auth": map[string]any{"method": "token", "token": "t1"}}},
		Action:     policy.IssueCertificate,
		Parameters: policy.Properties{"profile": "vault", "lifetime_s": 86400, "door": "est", "renewal": false},
		Resource:   policy.Entity{Type: "device", ID: "gw-1", Properties: device}, Context: context, At: time.Now(),
	})
	check(h.t, err)
	var e audit.Event
	switch d.Verdict() {
	case policy.Hold:
		e, err = d.Held(nil)
	case policy.Allow:
		var g policy.Grant
		g, err = d.Grant()
		check(h.t, err)
		e, err = g.Redeem(nil)
	default:
		return d.ID().String()
	}
	check(h.t, err)
	check(h.t, h.db.Append(h.t.Context(), e))
	return d.ID().String()
}

// setting changes the settings in the policy directory and reloads it.
func (h *house) setting(name string, value any) {
	h.t.Helper()
	file := filepath.Join(h.dir, "policy", "data.json")
	text, err := os.ReadFile(file)
	check(h.t, err)
	var data map[string]map[string]any
	check(h.t, json.Unmarshal(text, &data))
	data["settings"][name] = value
	check(h.t, os.WriteFile(file, []byte(jsonOf(data)), 0o644))
	check(h.t, h.running.Reload(h.t.Context()))
}

func TestExplanationsOfEnrolments(t *testing.T) {
	h := newHouse(t)
	admin := h.client(h.admin)
	h.setting("hold_profiles", []string{"vault"})
	known := func(state string) policy.Properties { return policy.Properties{"known": true, "state": state} }
	approved := policy.Properties{"approval": map[string]any{"id": "r1", "by": "ann"}}
	unaffirmed := policy.Properties{"approval": approved["approval"], "bond": map[string]any{"ek_sha256": "e1", "last": "2026-11-20T21:00:00.000Z"},
		"attestation": map[string]any{"verdict": "warning", "fresh": true, "key": map[string]any{"tpm_resident": true},
			"ek": map[string]any{"sha256": "e1", "trusted": true}, "boot": map[string]any{"changed": []any{4, 7}}}}
	for name, c := range map[string]struct {
		device, context policy.Properties
		code            string
		kinds           []rego.ChangeKind
	}{
		"unknown":     {policy.Properties{"known": false}, approved, "device_unknown", []rego.ChangeKind{rego.ByOperator}},
		"quarantined": {known("quarantined"), approved, "device_quarantined", []rego.ChangeKind{rego.ByOperator}},
		"held":        {known("expected"), nil, "needs_approval", []rego.ChangeKind{rego.ByOperator}},
		"other boot":  {known("active"), unaffirmed, "baseline_mismatch", []rego.ChangeKind{rego.ByEvidence}},
		"allowed":     {known("active"), approved, "", nil},
	} {
		x := h.explains(admin, h.enrols(c.device, c.context))
		code, kinds := x.code(t)
		if code != c.code || !slices.Equal(kinds, c.kinds) {
			t.Errorf("%s: %s, to change %v, want %s, %v: %+v", name, code, kinds, c.code, c.kinds, x.Explanation.Ways)
		}
		if (x.Decision.Verdict == "allow") != (c.code == "") || len(x.Decision.Input) == 0 {
			t.Errorf("%s: %s", name, x.Decision.Verdict)
		}
	}
	delete(unaffirmed["attestation"].(map[string]any), "boot")
	x := h.explains(admin, h.enrols(known("active"), unaffirmed))
	if x.Explanation.Verdict != "allow" || x.Explanation.Lifetime == "" { // a short life, and the rule that says so
		t.Errorf("got %+v", x.Explanation)
	}
}

func TestExplanationsOfOperators(t *testing.T) {
	h := newHouse(t)
	admin, viewer := h.client(h.admin), h.client(h.viewer)
	h.imports(admin, "gw-1")
	x := h.explains(admin, h.want(viewer, 403, "POST", "/api/v1/devices/gw-1/retire", `{"reason":"x"}`).problem(t).Decision)
	if code, _ := x.code(t); code != "not_permitted" || len(x.Explanation.Ways) == 0 || strings.Join(x.Explanation.Ways[0][0].Path, ".") != "subject.properties.roles" {
		t.Errorf("not permitted: %+v", x.Explanation)
	}
	if len(x.Explanation.Near) == 0 || x.Explanation.Near[0].Failed.Text == "" {
		t.Errorf("nothing came near: %+v", x.Explanation)
	}
	scoped := h.client(h.certified("lin", operators.Role{Name: "security", Scope: operators.Scope{Model: "other"}}))
	x = h.explains(admin, h.want(scoped, 403, "POST", "/api/v1/devices/gw-1/quarantine", `{"reason":"x"}`).problem(t).Decision)
	if !slices.ContainsFunc(x.Explanation.Ways, func(way []rego.Change) bool {
		return len(way) == 1 && strings.HasPrefix(strings.Join(way[0].Path, "."), "subject.properties.scopes") && way[0].Kind == rego.ByOperator
	}) {
		t.Errorf("out of scope: %+v", x.Explanation.Ways)
	}
	eve := h.certified("eve", operators.Role{Name: "admin"})
	check(t, acts[0].do(h, "eve", eve))
	x = h.explains(admin, h.want(h.client(eve), 403, "GET", "/api/v1/devices", "").problem(t).Decision)
	if x.Explanation.Rules != policy.Builtin || len(x.Explanation.Fired) != 0 || len(x.Explanation.Ways) != 0 {
		t.Errorf("suspended: %+v", x.Explanation)
	}
	nobody := h.client(h.certified("kim", operators.Role{Name: "trainee"}))
	if p := h.want(nobody, 403, "GET", "/api/v1/decisions/nothing/explanation", "").problem(t); p.Code != "not_permitted" {
		t.Errorf("without a role: %+v", p)
	}
	for _, id := range []string{"nothing", audit.NewID(time.Now()).String()} {
		h.want(admin, 404, "GET", "/api/v1/decisions/"+id+"/explanation", "")
	}
	h.want(admin, 400, "GET", "/api/v1/decisions/"+x.Decision.ID+"/explanation?rules=mine", "")
}

// TestExplanationsByRulesOfTheirTime: rules that were in force by a proposal are kept for ever, those of a directory are not.
func TestExplanationsByRulesOfTheirTime(t *testing.T) {
	h := newHouse(t)
	admin := h.client(h.admin)
	early := h.enrols(policy.Properties{"known": false}, nil)
	h.setting("unaffirmed_lifetime", "5h")
	target := "/api/v1/decisions/" + early + "/explanation"
	if p := h.want(admin, 409, "GET", target, "").problem(t); p.Code != "rules_gone" {
		t.Errorf("got %+v", p)
	}
	var x explanation
	h.want(admin, 200, "GET", target+"?rules=active", "").into(t, &x)
	if x.Explanation.Same || !x.Explanation.Agrees || x.Explanation.Source != "in force" || x.Explanation.Rules == x.Decision.Policy {
		t.Errorf("got %+v", x.Explanation)
	}
	late := h.enrols(policy.Properties{"known": false}, nil)
	ann, ben := h.client(h.certified("ann", operators.Role{Name: "admin"})), h.client(h.certified("ben", operators.Role{Name: "admin"}))
	made := h.proposed(ann, ben)
	h.want(ben, 200, "POST", proposals+"/"+made.ID+"/approve", "")
	h.want(ben, 200, "POST", proposals+"/"+made.ID+"/activate", "")
	if x = h.explains(admin, late); x.Explanation.Source != "revision 1" {
		t.Errorf("got %+v", x.Explanation)
	}
}

package operators

import (
	"crypto"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

func TestDescribe(t *testing.T) {
	gateways := Scope{Model: "gw-2", Batch: "7"}
	ulm := Scope{Labels: map[string]string{"site": "ulm"}}
	for name, c := range map[string]struct {
		roles []Role
		want  policy.Properties
	}{
		"none": {nil, policy.Properties{"roles": []string{}, "scopes": map[string]any{}}},
		"one for everything, one in two parts": {
			[]Role{{"viewer", Scope{}}, {"line", gateways}, {"line", ulm}},
			policy.Properties{"roles": []string{"line", "viewer"}, "scopes": map[string]any{
				"line": []any{map[string]any{"model": "gw-2", "batch": "7"}, map[string]any{"labels": map[string]any{"site": "ulm"}}}}}},
		"everything outweighs a part": {
			[]Role{{"line", gateways}, {"line", Scope{}}},
			policy.Properties{"roles": []string{"line"}, "scopes": map[string]any{}}},
	} {
		if got := Describe(c.roles); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestWhoCanBeAdded(t *testing.T) {
	viewer := []Role{{Name: "viewer"}}
	for code, o := range map[string]Operator{
		"":                {Name: "berta.b@example.com", Roles: viewer, Binding: Binding{Subject: "auth0|4711"}},
		"operator_name":   {Name: "../admin", Roles: viewer},
		"operator_name ":  {Name: breakglassPrefix + "x", Roles: viewer},
		"operator_name  ": {Name: strings.Repeat("x", 65), Roles: viewer},
		"oidc_subject":    {Name: "b", Roles: viewer, Binding: Binding{Subject: "a\nb"}},
		"operator_roles":  {Name: "b"},
		"operator_roles ": {Name: "b", Roles: []Role{{Name: "Viewer"}}},
		"operator_scope":  {Name: "b", Roles: []Role{{"line", Scope{Model: "\x00"}}}},
		"operator_scope ": {Name: "b", Roles: []Role{{"line", Scope{Labels: map[string]string{"site": ""}}}}},
	} {
		err := o.Check()
		if got := fault.Of(err); (got == nil) != (code == "") || got != nil && (got.Code != strings.TrimSpace(code) || got.Kind != fault.Malformed) {
			t.Errorf("%+v: %v, want %q", o, err, code)
		}
	}
}

// TestNoPermitNoDeed: nothing is done for the zero Permit. A Register without
// parts shows that none is even asked.
func TestNoPermitNoDeed(t *testing.T) {
	r, ctx, key := &Register{Now: time.Now}, t.Context(), crypto.PublicKey(nil)
	caller := Caller{operator: Operator{Name: "berta", State: Active}}
	verbs := map[string]func(p policy.Permit) error{
		"Add":     func(p policy.Permit) error { _, _, err := r.Add(ctx, p, Operator{Name: "b"}, key); return err },
		"List":    func(p policy.Permit) error { _, err := r.List(ctx, p, Filter{}); return err },
		"Show":    func(p policy.Permit) error { _, err := r.Show(ctx, p, "b"); return err },
		"Assign":  func(p policy.Permit) error { return r.Assign(ctx, p, "b", []Role{{Name: "viewer"}}) },
		"Suspend": func(p policy.Permit) error { return r.Suspend(ctx, p, "b", "") },
		"Resume":  func(p policy.Permit) error { return r.Resume(ctx, p, "b", "") },
		"Remove":  func(p policy.Permit) error { return r.Remove(ctx, p, "b", "") },
		"Revoke":  func(p policy.Permit) error { return r.Revoke(ctx, p, "b", "", "") },
		"Certify": func(p policy.Permit) error { _, err := r.Certify(ctx, p, "b", key); return err },
		"Renew":   func(p policy.Permit) error { _, err := r.Renew(ctx, p, caller, key); return err },
		"Open":    func(p policy.Permit) error { _, _, err := r.Open(ctx, p, caller); return err },
	}
	for name, verb := range verbs {
		if err := verb(policy.Permit{}); err == nil {
			t.Errorf("%s needs no permit", name)
		}
	}
	breakglass, err := NewBreakglassKey()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Seal(ctx, policy.Permit{}, "s", breakglass.Public()); err == nil {
		t.Error("Seal needs no permit")
	}
}

func TestUphold(t *testing.T) {
	came := policy.Properties{breakglassMember: map[string]any{"reason": "locked out"}}
	user := policy.Entity{Type: "user", ID: "breakglass-1"}
	for _, a := range policy.OperatorActions() {
		_, allowed := Uphold(&policy.Request{Subject: user, Action: a, Context: came})
		want := a == policy.OpenBreakglass || a == policy.RollbackPolicy || a == policy.ShowPolicy || a == policy.ListPolicies ||
			a == policy.PolicyHistory || a == policy.ExplainPolicy
		if allowed != want {
			t.Errorf("%s of a caller by break-glass: %v", a, allowed)
		}
		if _, allowed := Uphold(&policy.Request{Subject: user, Action: a}); allowed {
			t.Errorf("%s of anybody is upheld", a)
		}
		if _, allowed := Uphold(&policy.Request{Subject: policy.Entity{Type: "device"}, Action: a, Context: came}); allowed {
			t.Errorf("%s of a device is upheld", a)
		}
	}
}

func TestTheZeroCallerIsNobody(t *testing.T) {
	var c Caller
	if c.Name() != "" || c.Context() != nil || c.Breakglass() != nil {
		t.Errorf("the zero caller is %+v", c)
	}
}

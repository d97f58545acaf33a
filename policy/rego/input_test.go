package rego

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/policy"
)

// grow makes some value of the kinds that inputs hold out of arbitrary bytes.
func grow(b *bytes.Buffer, depth int) any {
	kind, err := b.ReadByte()
	if err != nil || depth == 0 {
		return nil
	}
	size := int(kind >> 4)
	switch kind % 8 {
	case 0:
		return kind > 127
	case 1:
		return int(kind) - 128
	case 2:
		return int64(kind)<<45 - 1
	case 3, 4:
		return string(b.Next(size))
	case 5:
		return []string{string(b.Next(size)), string(b.Next(1))}
	case 6:
		list := []any{}
		for range size {
			list = append(list, grow(b, depth-1))
		}
		return list
	}
	object := map[string]any{}
	for range size {
		object[string(b.Next(2))] = grow(b, depth-1)
	}
	return object
}

// What rules see is what the record shows, whatever a device sends.
func FuzzInput(f *testing.F) {
	f.Add([]byte("\xff\x7fab\x43name\x00\x26\xf3\xff\xfe"))
	f.Add([]byte("\x77k1\x57n1\x43\xc3\x28xyk2\x65abcdefgk3\x36\x01\x02\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4096 {
			return
		}
		input := map[string]any{"context": map[string]any{"x": grow(bytes.NewBuffer(data), 12)}}
		seen, err := inputValue(input)
		if err != nil {
			return // refused, and so denied
		}
		recorded, err := ast.ValueFromReader(bytes.NewReader(audit.AppendCanonical(nil, input)))
		if err != nil {
			t.Fatal(err)
		}
		if seen.Compare(recorded) != 0 {
			t.Errorf("rules see %v, the record shows %v", seen, recorded)
		}
	})
}

// every calls f for all combinations of the choices.
func every(choices [][]string, f func(pick []string)) {
	pick := make([]string, len(choices))
	var next func(int)
	next = func(i int) {
		if i == len(choices) {
			f(pick)
			return
		}
		for _, pick[i] = range choices[i] {
			next(i + 1)
		}
	}
	next(0)
}

// The default rules against the same rules said in Go, for every enrolment there can be.
func TestDefaultPolicyDecidesEveryEnrolment(t *testing.T) {
	dir := writeDefault(t)
	put(t, dir, "data.json", `{"settings": {"hold_profiles": ["vault", "both"], "admit_unknown": ["open", "both"]}}`)
	e := mustLoad(t, dir)
	asked := 0
	every([][]string{
		{"certificate.issue", "certificate.renew"},
		{"unknown", "", "expected", "active", "quarantined", "retired"},
		{"", "token", "idevid", "certificate", "password"},
		{"device", "vault", "open", "both"},
		{"unapproved", "approved"},
		{"gw-1", "gw-2", ""},
	}, func(pick []string) {
		asked++
		action, state, method, profile, approved, id := pick[0], pick[1], pick[2], pick[3], pick[4] == "approved", pick[5]
		properties := map[string]any{"known": state != "unknown"}
		if state != "unknown" {
			properties["state"] = state
		}
		input := map[string]any{
			"subject":  map[string]any{"type": "device", "id": id, "properties": map[string]any{"auth": map[string]any{"method": method}}},
			"action":   map[string]any{"name": action, "properties": map[string]any{"profile": profile}},
			"resource": map[string]any{"type": "device", "id": "gw-1", "properties": properties},
			"context":  map[string]any{},
		}
		if approved {
			input["context"] = map[string]any{"approval": map[string]any{"by": "ada"}}
		}
		a, err := e.Evaluate(context.Background(), input)
		got := a.Verdict.String()
		for _, r := range a.Reasons {
			got += " " + r.Code
		}
		for _, o := range a.Obligations {
			got += " " + o.Type
		}
		if want := expected(action, state, method, profile, approved, id == "gw-1"); err != nil || got != want {
			t.Errorf("%q: got %s, %v, want %s", pick, got, err, want)
		}
	})
	if asked != 2*6*5*4*2*3 {
		t.Errorf("asked %d questions", asked)
	}
}

func expected(action, state, method, profile string, approved, itself bool) string {
	issue := action == "certificate.issue"
	admitted := issue && state == "unknown" && itself && method == "idevid" && (profile == "open" || profile == "both")
	proven := method == "certificate" || issue && (method == "token" || method == "idevid")
	switch {
	case state == "unknown" && !admitted:
		return "deny device_unknown"
	case state == "quarantined" || state == "retired":
		return "deny device_" + state
	case !admitted && !(itself && proven && (state == "expected" || state == "active")):
		return "deny no_rule"
	case issue && !approved && (profile == "vault" || profile == "both"):
		return "hold needs_approval"
	case admitted:
		return "allow admit"
	}
	return "allow"
}

// Each action has to be decided by the default rules, and to be among those that the tests of its roles go through.
func TestDefaultPolicyKnowsEveryManagementAction(t *testing.T) {
	e := mustLoad(t, writeDefault(t))
	roles, err := fs.ReadFile(Default(), "roles_test.rego")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range policy.OperatorActions() {
		if !strings.Contains(string(roles), `"`+string(name)+`"`) {
			t.Errorf("roles_test.rego does not know %s", name)
		}
		for role, want := range map[string]policy.Verdict{"admin": policy.Allow, "nobody": policy.Deny} {
			a, err := e.Evaluate(context.Background(), map[string]any{
				"subject":  map[string]any{"type": "user", "id": "eve", "properties": map[string]any{"roles": []string{role}}},
				"action":   map[string]any{"name": string(name), "properties": map[string]any{}},
				"resource": map[string]any{"type": "device", "id": "x", "properties": map[string]any{}},
			})
			if err != nil || a.Verdict != want {
				t.Errorf("%s by %q: got %v, %v", name, role, fmt.Sprint(a), err)
			}
		}
	}
}

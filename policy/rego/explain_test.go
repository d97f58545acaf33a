package rego

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/policy"
)

func explain(t *testing.T, e *Engine, input map[string]any) Explanation {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	x, err := e.Explain(ctx, input)
	if err != nil {
		t.Fatal(err)
	}
	for _, way := range x.Ways { // whatever is told has to be true
		changed := input
		for _, c := range way {
			changed = with(changed, c.Path, c.To)
		}
		a, err := e.Evaluate(ctx, changed)
		if a = policy.Settle(actionOf(input), a, err); a.Verdict != policy.Allow {
			t.Errorf("with %+v: %v %v", way, a.Verdict, a.Reasons)
		}
	}
	return x
}

// fromRules is an engine of one file of rules.
func fromRules(t *testing.T, text string) *Engine {
	t.Helper()
	return mustLoad(t, write(t, map[string]string{"p.rego": "package hallmark\n\n" + text}))
}

// paths are the attributes that a way changes, with their kinds.
func paths(way []Change) []string {
	var all []string
	for _, c := range way {
		all = append(all, string(c.Kind)+" "+strings.Join(c.Path, "."))
	}
	slices.Sort(all)
	return all
}

func properties(input map[string]any, of string) map[string]any {
	return input[of].(map[string]any)["properties"].(map[string]any)
}

func TestExplanationNamesTheRuleAndTheSmallestChange(t *testing.T) {
	e := mustLoad(t, writeDefault(t))
	quarantined := enrolment()
	properties(quarantined, "resource")["state"] = "quarantined"
	x := explain(t, e, quarantined)
	gave := slices.IndexFunc(x.Fired, func(f Fired) bool { return len(f.Gave) > 0 })
	if x.Answer.Verdict != policy.Deny || gave < 0 || x.Fired[gave].Rule != "data.hallmark.deny" || !strings.HasSuffix(x.Fired[gave].File, ".rego") ||
		x.Fired[gave].Line == 0 || x.Fired[gave].Gave[0].Code != "device_quarantined" {
		t.Errorf("got %+v", x)
	}
	if len(x.Ways) != 1 || !slices.Equal(paths(x.Ways[0]), []string{"operator resource.properties.state"}) || x.Ways[0][0].Was != "quarantined" {
		t.Fatalf("got the ways %+v after %d", x.Ways, x.Tried)
	}
	if properties(quarantined, "resource")["state"] != "quarantined" {
		t.Error("the search changed what was asked")
	}
}

func TestExplanationOfAStranger(t *testing.T) {
	stranger := enrolment()
	stranger["resource"].(map[string]any)["properties"] = map[string]any{"known": false}
	x := explain(t, mustLoad(t, writeDefault(t)), stranger)
	if len(x.Ways) != 1 || !slices.Equal(paths(x.Ways[0]), []string{"operator resource.properties.known", "operator resource.properties.state"}) {
		t.Errorf("got the ways %+v after %d", x.Ways, x.Tried)
	}
	if len(x.Near) == 0 || !strings.HasPrefix(x.Near[0].Rule, "data.hallmark.") || x.Near[0].Failed.Text == "" || x.Near[0].Failed.Line < x.Near[0].Line {
		t.Errorf("got near %+v", x.Near)
	}
}

func TestExplanationOfSeveralDeniesAtOnce(t *testing.T) {
	question := enrolment()
	question["resource"].(map[string]any)["properties"] = map[string]any{"known": false}
	question["context"].(map[string]any)["attestation"] = map[string]any{
		"verdict": "warning", "boot": map[string]any{"changed": []any{4, 7}}, "reasons": []any{"ek_untrusted"}, "ek": map[string]any{"sha256": "e1"}}
	x := explain(t, mustLoad(t, writeDefault(t)), question)
	if len(x.Ways) != 1 || len(x.Ways[0]) < 3 || !slices.Contains(paths(x.Ways[0]), "evidence context.attestation.boot.changed") {
		t.Errorf("got the ways %+v after %d", x.Ways, x.Tried)
	}
}

// TestIdentityIsNoRemedy: another subject would pass, and that is told only where nothing else would.
func TestIdentityIsNoRemedy(t *testing.T) {
	either := fromRules(t, "default decision := {\"verdict\": \"deny\"}\n\ndecision := {\"verdict\": \"allow\"} if allow\n\n"+
		"allow if input.subject.id == \"root\"\n\nallow if input.resource.properties.state == \"ready\"\n")
	question := map[string]any{
		"subject": map[string]any{"type": "user", "id": "eve", "properties": map[string]any{}}, "action": map[string]any{"name": "device.retire"},
		"resource": map[string]any{"type": "device", "id": "gw-1", "properties": map[string]any{}}, "context": map[string]any{}}
	if x := explain(t, either, question); len(x.Ways) != 1 || paths(x.Ways[0])[0] != "operator resource.properties.state" {
		t.Errorf("got %+v", x.Ways)
	}
	alone := fromRules(t, "default decision := {\"verdict\": \"deny\"}\n\ndecision := {\"verdict\": \"allow\"} if input.subject.id == \"root\"\n")
	x := explain(t, alone, question)
	if len(x.Ways) != 1 || paths(x.Ways[0])[0] != "identity subject.id" || !x.Whole {
		t.Errorf("got %+v", x)
	}
	if len(x.Near) != 1 || x.Near[0].Failed.Saw["subject.id"] != "eve" {
		t.Errorf("got near %+v", x.Near)
	}
}

// TestRulesAboutOthersDidNotComeNear: what devices may do is no news to an operator.
func TestRulesAboutOthersDidNotComeNear(t *testing.T) {
	question := map[string]any{"subject": map[string]any{"type": "user", "id": "vic", "properties": map[string]any{"roles": []any{"viewer"}, "scopes": map[string]any{}}},
		"action": map[string]any{"name": "device.quarantine", "properties": map[string]any{}}, "context": map[string]any{"time": "2026-11-23T21:30:00.000Z"},
		"resource": map[string]any{"type": "device", "id": "gw-1", "properties": map[string]any{"known": true, "model": "gw-2"}}}
	x := explain(t, mustLoad(t, writeDefault(t)), question)
	for _, n := range x.Near {
		if n.File != "operators.rego" {
			t.Errorf("%s:%d came near: %s", n.File, n.Line, n.Failed.Text)
		}
	}
	if len(x.Near) == 0 || len(x.Near[0].Behind) == 0 {
		t.Errorf("got %+v", x.Near)
	}
}

// TestRolesAreSuggestedFromTheSmallest: of the roles that would do, the one that may do the least comes first.
func TestRolesAreSuggestedFromTheSmallest(t *testing.T) {
	e := mustLoad(t, write(t, map[string]string{
		"data.json": `{"roles": {"admin": ["*"], "line": ["token.create", "token.list"], "fleet": ["token.*", "device.*"], "viewer": ["device.list"]}}`,
		"p.rego": `package hallmark

default decision := {"verdict": "deny"}

decision := {"verdict": "allow"} if allow

# METADATA
# title: What a role may do
# labels:
#   control: ["NIST800-53:AC-3"]
allow if {
	some role in input.subject.properties.roles
	some pattern in data.roles[role]
	glob.match(pattern, null, input.action.name)
}
`}))
	question := map[string]any{"subject": map[string]any{"id": "vic", "properties": map[string]any{"roles": []any{"viewer"}}},
		"action": map[string]any{"name": "token.create"}, "resource": map[string]any{}, "context": map[string]any{}}
	x := explain(t, e, question)
	if len(x.Ways) != 1 {
		t.Fatalf("got %+v", x.Ways)
	}
	is, _ := json.Marshal(append([]any{x.Ways[0][0].To}, x.Ways[0][0].Or...))
	if string(is) != `[["viewer","line"],["viewer","fleet"],["viewer","admin"]]` {
		t.Errorf("got %s", is)
	}
	if len(x.Near) != 1 || x.Near[0].Title != "What a role may do" || len(x.Near[0].Labels) != 1 || x.Near[0].Failed.Text != "glob.match(pattern, null, input.action.name)" {
		t.Errorf("got %+v", x.Near)
	}
	properties(question, "subject")["roles"] = []any{"line"}
	x = explain(t, e, question)
	if x.Answer.Verdict != policy.Allow || len(x.Labels) != 1 || !slices.ContainsFunc(x.Fired, func(f Fired) bool { return f.Title == "What a role may do" }) {
		t.Errorf("got %+v", x)
	}
}

func TestExplanationKnowsApprovalsAndTimes(t *testing.T) {
	e := fromRules(t, `default decision := {"verdict": "deny"}

decision := {"verdict": "allow"} if {
	count({a.by | some a in input.context.change.approvals}) >= 2
	time.clock(time.parse_rfc3339_ns(input.context.time))[0] < 6
}
`)
	question := map[string]any{"subject": map[string]any{}, "action": map[string]any{"name": "policy.activate"}, "resource": map[string]any{"properties": map[string]any{}},
		"context": map[string]any{"time": "2026-11-23T21:30:00.000Z", "change": map[string]any{"approvals": []any{map[string]any{"by": "ann"}}}}}
	x := explain(t, e, question)
	if len(x.Ways) != 1 || !slices.Equal(paths(x.Ways[0]), []string{"circumstance context.time", "operator context.change.approvals"}) {
		t.Errorf("got %+v", x.Ways)
	}
}

// TestASearchWithoutEndEnds: hundreds of attributes that all have to be right at once.
func TestASearchWithoutEndEnds(t *testing.T) {
	var text strings.Builder
	text.WriteString("default decision := {\"verdict\": \"deny\"}\n\ndecision := {\"verdict\": \"allow\"} if {\n")
	for i := range 300 {
		text.WriteString("\tinput.resource.properties.p" + strings.Repeat("x", i) + " == \"v" + strings.Repeat("y", i%50) + "\"\n")
	}
	text.WriteString("}\n")
	x := explain(t, fromRules(t, text.String()), enrolment())
	if len(x.Ways) != 0 || x.Whole || x.Tried > maxTried {
		t.Errorf("got %+v after %d", x.Ways, x.Tried)
	}
}

func TestAnExplanationOfWhatCannotBeAnswered(t *testing.T) {
	endless := fromRules(t, growing(40, `"aaaaaaaaaaaaaaaa"`, `NEW := concat("", [PREV, PREV])`, `decision := {"verdict": "allow"} if count(PREV) > count(input.subject)`))
	x := explain(t, endless, enrolment())
	if x.Answer.Verdict != policy.Deny || x.Error == "" || x.Answer.Reasons[0].Code != "policy_error" {
		t.Errorf("got %+v", x)
	}
	if _, err := new(Engine).Explain(t.Context(), enrolment()); err == nil {
		t.Error("an engine without rules explains")
	}
}

func TestWhatIsAllowedNeedsNoChange(t *testing.T) {
	x := explain(t, mustLoad(t, writeDefault(t)), enrolment())
	if x.Answer.Verdict != policy.Allow || x.Tried != 0 || len(x.Ways) != 0 || len(x.Fired) == 0 {
		t.Errorf("got %+v", x)
	}
}

func TestLabelsOfTheRulesThatSucceed(t *testing.T) {
	e := mustLoad(t, write(t, map[string]string{"p.rego": `package hallmark

decision := {"verdict": "allow"} if mine

# METADATA
# labels:
#   control: ["NIST800-53:AC-3"]
mine if input.subject.id == "a"
`}))
	for id, want := range map[string]int{"a": 1, "b": 0} {
		labels, _ := e.Labels(context.Background(), map[string]any{"subject": map[string]any{"id": id}})
		if len(labels) != want {
			t.Errorf("%s: got %v", id, labels)
		}
	}
}

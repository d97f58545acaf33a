package rego

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
)

const maskRules = `package system.log

mask contains "/input/context/ip" if input.input.action.name == "device.show"

mask contains {"op": "upsert", "path": concat("/", ["/input/resource/properties", name]), "value": "***"} if {
	some name in data.secret
	input.input.resource.properties[name]
}

drop if input.input.action.name == "device.list"
`

const maskTests = `package system.log_test

import data.system.log

test_address if "/input/context/ip" in log.mask with input as {"input": {"action": {"name": "device.show"}}}

test_secret if {
	some m in log.mask with input as {"input": {"resource": {"properties": {"serial": "7"}}}} with data.secret as ["serial"]
	m.path == "/input/resource/properties/serial"
}

test_drop if log.drop with input as {"input": {"action": {"name": "device.list"}}}
`

func event(action string, properties map[string]any) map[string]any {
	return map[string]any{"decision_id": "x", "input": map[string]any{
		"action": map[string]any{"name": action}, "resource": map[string]any{"properties": properties}}}
}

func TestRulesAboutTheLog(t *testing.T) {
	e := mustLoad(t, write(t, map[string]string{"p.rego": yes, "mask.rego": maskRules, "data.json": `{"secret": ["serial", "batch"]}`}))
	for _, c := range []struct {
		event map[string]any
		drop  bool
		masks string
	}{
		{event("device.import", nil), false, `[]`},
		{event("device.show", map[string]any{"model": "m"}), false, `["/input/context/ip"]`},
		{event("device.show", map[string]any{"serial": "7"}), false,
			`["/input/context/ip",{"op":"upsert","path":"/input/resource/properties/serial","value":"***"}]`},
		{event("device.list", nil), true, `null`},
	} {
		drop, masks, err := e.Treat(t.Context(), c.event)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(masks)
		if err != nil || drop != c.drop || string(text) != c.masks {
			t.Errorf("%v: drop %t, masks %s, want %s (%v)", c.event, drop, text, c.masks, err)
		}
	}
	if a, err := e.Evaluate(t.Context(), enrolment()); err != nil || a.Profile != "yes" {
		t.Errorf("beside them nothing is decided: %+v, %v", a, err)
	}
}

func TestRulesAboutTheLogThatGiveNoClearAnswer(t *testing.T) {
	for name, rules := range map[string]string{
		"conflict":   "package system.log\n\nmask := [\"/input\"] if input.input\n\nmask := [\"/result\"] if input.decision_id\n",
		"no list":    "package system.log\n\nmask := 1\n",
		"endless":    "package system.log\n\nmask contains x if {\n\tsome a in split(\"" + strings.Repeat("x,", 2000) + "\", \",\")\n\tsome b in split(\"" + strings.Repeat("x,", 2000) + "\", \",\")\n\tx := concat(a, [b, b])\n}\n",
		"drop of 1":  "package system.log\n\ndrop := 1\n",
		"type error": "package system.log\n\nmask contains x if x := to_number(input.decision_id)\n",
	} {
		e := mustLoad(t, write(t, map[string]string{"p.rego": yes, "mask.rego": rules}))
		if drop, masks, err := e.Treat(context.Background(), event("device.show", nil)); err == nil {
			t.Errorf("%s: drop %t, masks %v", name, drop, masks)
		}
	}
	if _, _, err := new(Engine).Treat(context.Background(), nil); err == nil {
		t.Error("no rules, and no error")
	}
	if drop, masks, err := mustLoad(t, writeDefault(t)).Treat(context.Background(), event("device.show", nil)); drop || masks != nil || err != nil {
		t.Errorf("the default rules say %t, %v, %v of an event", drop, masks, err)
	}
}

func TestRulesAboutTheLogAreVetted(t *testing.T) {
	dir := writeDefault(t)
	put(t, dir, "mask.rego", maskRules)
	put(t, dir, "mask_test.rego", maskTests)
	b, err := ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	report, err := Vet(t.Context(), b, Gate{})
	if err != nil || !report.Passed() {
		t.Fatalf("%v, %v", report.Problems, err)
	}
	put(t, dir, "more.rego", "package hallmark\n\nallow if input.subjekt.id == \"x\"\n")
	if err := Check(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "subjekt") {
		t.Errorf("a misspelt member beside them is taken: %v", err)
	}
	if _, others := withoutLogging(map[string]*ast.Module{"p": ast.MustParseModule("package systematic")}); others {
		t.Error("package systematic is taken for one about the log")
	}
}

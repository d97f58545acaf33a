package rego

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/hallmark-pki/hallmark/policy"
)

// judge evaluates one policy under a deadline of 200 ms.
func judge(t *testing.T, source string) (policy.Answer, error) {
	t.Helper()
	e := mustLoad(t, write(t, map[string]string{"p.rego": "package hallmark\n" + source}))
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	a, err := e.Evaluate(ctx, enrolment())
	if a.Policy != e.Digest() {
		t.Errorf("the answer names the rules %q, not %q", a.Policy, e.Digest())
	}
	return a, err
}

// growing is a policy of the rules s0 to sn, each made of the one before: NEW
// and PREV in each and PREV in last stand for their names.
func growing(n int, first, each, last string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "s0 := %s\n", first)
	for i := range n {
		names := strings.NewReplacer("NEW", fmt.Sprintf("s%d", i+1), "PREV", fmt.Sprintf("s%d", i))
		b.WriteString(names.Replace(each) + "\n")
	}
	b.WriteString(strings.ReplaceAll(last, "PREV", fmt.Sprintf("s%d", n)) + "\n")
	return b.String()
}

func TestHostileRulesAreStoppedAndDenied(t *testing.T) {
	ten := "xs := [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]\n"
	allowIf := "decision := {\"verdict\": \"allow\"} if "
	tests := map[string]struct{ source, says string }{
		"cross product":              {ten + allowIf + "count([1 | some a in xs; some b in xs; some c in xs; some d in xs; some e in xs; some f in xs; some g in xs; some h in xs]) > 0", "stopped"},
		"search":                     {ten + allowIf + "{ some a in xs; some b in xs; some c in xs; some d in xs; some e in xs; some f in xs; some g in xs; some h in xs; a + b + c + d + e + f + g + h > 100 }", "stopped"},
		"text doubled":               {growing(40, `"aaaaaaaaaaaaaaaa"`, `NEW := concat("", [PREV, PREV])`, allowIf+`count(PREV) > 0`), "too large"},
		"text times a hundred":       {ten + growing(6, `"aaaaaaaaaaaaaaaa"`, `NEW := concat("", [PREV | some x in xs; some y in xs])`, allowIf+`count(PREV) > 0`), "too large"},
		"text in templates":          {growing(40, `"aaaaaaaaaaaaaaaa"`, `NEW := $"{PREV}{PREV}"`, allowIf+`count(PREV) > 0`), "too large"},
		"text replaced":              {growing(6, `"aaaaaaaaaaaaaaaa"`, `NEW := replace(PREV, "a", PREV)`, allowIf+`count(PREV) > 0`), "too large"},
		"text formatted":             {growing(30, `"aaaaaaaaaaaaaaaa"`, `NEW := sprintf("%[1]s%[1]s%[1]s%[1]s", [PREV])`, allowIf+`count(PREV) > 0`), "too large"},
		"text padded":                {allowIf + `sprintf("%999999d", [1]) != ""`, "too large"},
		"text padded by an argument": {allowIf + `sprintf("%*d", [999999, 1]) != ""`, "too large"},
		"shared values written out":  {growing(28, `[0]`, `NEW := [PREV, PREV]`, allowIf+`json.marshal(PREV) != ""`), "too large"},
		"lists doubled":              {growing(40, `[0, 1, 2, 3]`, `NEW := array.concat(PREV, PREV)`, allowIf+`count(PREV) > 0`), "too large"},
		"text torn to pieces":        {growing(14, `"aaaaaaaaaaaaaaaa"`, `NEW := concat("", [PREV, PREV])`, allowIf+`count(split(PREV, "")) > 0`), "too large"},
		"division by zero":           {allowIf + `1 / (count(input.subject) - 3) > 0`, "divide by zero"},
		"two values":                 {"decision := {\"verdict\": \"allow\"} if input.subject\ndecision := {\"verdict\": \"deny\"} if input.action", "conflict"},
		"undefined":                  {allowIf + `input.subject.id == "nobody"`, "undefined"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			a, err := judge(t, test.source)
			if err == nil || !strings.Contains(err.Error(), test.says) || a.Verdict != policy.Deny {
				t.Errorf("got %v and error %v, want a deny and an error about %q", a.Verdict, err, test.says)
			}
		})
	}
}

func TestHostileRulesAreRefusedByTheCompiler(t *testing.T) {
	tests := map[string]struct{ source, says string }{
		"network":             {`decision := http.send({"method": "get", "url": "http://192.0.2.1"})`, "p.rego:2:13: undefined function http.send"},
		"name look-up":        {`decision := net.lookup_ip_addr("example.com")`, "undefined function net.lookup_ip_addr"},
		"remote schema":       {`decision := json.match_schema({}, {"$ref": "http://192.0.2.1"})`, "undefined function json.match_schema"},
		"clock":               {`decision := time.now_ns()`, "undefined function time.now_ns"},
		"clock by way of JWT": {`decision := io.jwt.decode_verify("", {})`, "undefined function io.jwt.decode_verify"},
		"chance":              {`decision := rand.intn("x", 2)`, "undefined function rand.intn"},
		"identifiers":         {`decision := uuid.rfc4122("x")`, "undefined function uuid.rfc4122"},
		"environment":         {`decision := opa.runtime()`, "undefined function opa.runtime"},
		"trace":               {`decision := 1 if trace("x")`, "undefined function trace"},
		"ranges":              {`decision := numbers.range(1, 1000000000)`, "undefined function numbers.range"},
		"address lists":       {`decision := net.cidr_expand("10.0.0.0/8")`, "undefined function net.cidr_expand"},
		"shifts":              {`decision := bits.lsh(1, 100000000)`, "undefined function bits.lsh"},
		"aliases":             {`decision := yaml.unmarshal("x")`, "undefined function yaml.unmarshal"},
		"huge numbers":        {`decision := floor(1e1000000000)`, "number too big"},
		"recursion":           {"decision := a\na := b\nb := a", "rule data.hallmark.a is recursive"},
		"recursive function":  {"decision := f(1)\nf(x) := f(x + 1)", "is recursive"},
		"unused variable":     {"decision := 1 if { x := 2 }", "p.rego:2:20: assigned var x unused"},
		"old syntax":          {`decision = 1 { true }`, "`if` keyword is required"},
		"unsafe variable":     {`decision := x`, "var x is unsafe"},
		"no entrypoint":       {`allow := true`, "no rule data.hallmark.decision"},
		"function":            {`decision(x) := x`, "p.rego:2:1: decision must be one value"},
		"set":                 {`decision contains 1`, "p.rego:2:1: decision must be one value"},
		"deep nesting":        {"decision := " + strings.Repeat("[", 200_000), "recursion depth exceeded"},
		"deep comprehensions": {"decision := " + strings.Repeat("[x | x := ", 30) + "1" + strings.Repeat("]", 30), "more than 8 deep"},
		"deep every":          {"decision if " + strings.Repeat("every x in [1] { ", 30) + "x" + strings.Repeat("}", 30), "more than 8 deep"},
		"long chain":          {growing(maxRules, "0", "NEW := PREV", "decision := PREV"), "long lists belong into the data"},
		"guard gone round":    {"decision := g if { g := f(\"\", [\"x\"]) with data.hallmark.f as concat }\nf(a, _) := a", "with may replace"},
		"misspelt member":     {`decision := 1 if input.subjct.id == "x"`, "p.rego:2:18: undefined ref: input.subjct.id"},
		"forgotten member":    {`decision := 1 if input.action == "device.list"`, "p.rego:2:18: match error"},
		"syntax":              {"decision := {", "p.rego:"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			dir := write(t, map[string]string{"p.rego": "package hallmark\n" + test.source})
			_, err := Load(context.Background(), Config{Dir: dir})
			var problems Problems
			if !errors.As(err, &problems) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %.300v, want problems that say %q", err, test.says)
			}
		})
	}
}

// The server goes on: after a policy that had to be stopped, a sound one answers.
func TestEngineSurvivesWhatItStopped(t *testing.T) {
	if _, err := judge(t, "xs := [x | some x in [1, 2, 3, 4]]\ndecision := {\"verdict\": \"allow\"} if { count([1 | some a in xs; some b in xs; some c in xs; some d in xs; some e in xs; some f in xs; some g in xs; some h in xs; some i in xs; some j in xs]) > 0 }"); err == nil {
		t.Error("a million steps were not too many")
	}
	if a, err := judge(t, `decision := {"verdict": "allow"}`); err != nil || a.Verdict != policy.Allow {
		t.Errorf("got %v, %v", a.Verdict, err)
	}
}

func TestCancelledQuestionIsNotAnswered(t *testing.T) {
	e := mustLoad(t, writeDefault(t))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if a, err := e.Evaluate(ctx, enrolment()); !errors.Is(err, context.Canceled) || a.Verdict != policy.Deny || a.Policy == "" {
		t.Errorf("got %+v, %v", a, err)
	}
}

// Two types with shared parts are compared part by part, 4^n of them. The n here
// keeps the abandoned compiler busy for some seconds, not for ever.
func TestCompilerThatDoesNotComeBackIsLeft(t *testing.T) {
	nested := growing(13, "[0]", "NEW := [PREV, PREV]", "big := PREV")
	dir := write(t, map[string]string{"p.rego": yes})
	e := mustLoad(t, dir)
	put(t, dir, "p.rego", "package hallmark\n"+nested+"decision := {\"verdict\": \"allow\"} if big == data.other.big\n")
	put(t, dir, "q.rego", "package other\n"+nested)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	var problems Problems
	if err := e.Reload(ctx); !errors.As(err, &problems) || !strings.Contains(err.Error(), "busy for too long") {
		t.Errorf("got %v", err)
	}
	if a, err := e.Evaluate(context.Background(), nil); err != nil || a.Verdict != policy.Allow {
		t.Errorf("the old rules are gone: %v, %v", a, err)
	}
}

// A bug in OPA must not take the server down.
func TestPanicIsADeny(t *testing.T) {
	e := mustLoad(t, write(t, map[string]string{"p.rego": "package hallmark\n\ndecision := {\"verdict\": concat(\"\", [input.subject.id, \"\"])}\n"}))
	e.active.Load().functions[guardPrefix+"concat"].Func = func(topdown.BuiltinContext, []*ast.Term, func(*ast.Term) error) error {
		panic("index out of range")
	}
	for range 3 { // nothing is left locked
		a, err := e.Evaluate(context.Background(), enrolment())
		if err == nil || !strings.Contains(err.Error(), "index out of range") || a.Verdict != policy.Deny || a.Policy != e.Digest() {
			t.Errorf("got %+v, %v", a, err)
		}
	}
	if err := e.Reload(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestDefaultPolicyNeedsFewSteps(t *testing.T) {
	r := mustLoad(t, writeDefault(t)).active.Load()
	document, err := inputValue(enrolment())
	if err != nil {
		t.Fatal(err)
	}
	limit := &budget{ctx: context.Background()}
	if _, err := r.ask(limit, document); err != nil || limit.steps > 100 {
		t.Errorf("took %d steps, %v", limit.steps, err)
	}
	t.Logf("%d steps, %d bytes produced", limit.steps, limit.produced)
}

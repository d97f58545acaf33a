package rego

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/policy"
)

func TestAnswerIsReadWhole(t *testing.T) {
	a, err := judge(t, `decision := {
		"verdict": "allow", "profile": "gw-7d", "lifetime": "12h30m",
		"reasons": {{"code": "b", "detail": "second"}, {"code": "a", "detail": "first\nof two"}},
		"obligations": [{"type": "admit"}],
	}`)
	want := policy.Answer{
		Verdict: policy.Allow, Profile: "gw-7d", Lifetime: 12*time.Hour + 30*time.Minute,
		Reasons:     []policy.Reason{{Code: "a", Detail: "first of two"}, {Code: "b", Detail: "second"}},
		Obligations: []policy.Obligation{{Type: "admit"}},
		Policy:      a.Policy,
	}
	if err != nil || !reflect.DeepEqual(a, want) {
		t.Errorf("got %+v, %v", a, err)
	}
	for word, want := range map[string]policy.Verdict{"allow": policy.Allow, "hold": policy.Hold, "deny": policy.Deny} {
		if a, err := judge(t, fmt.Sprintf("decision := {%q: %q}", "verdict", word)); err != nil || a.Verdict != want {
			t.Errorf("%s: got %v, %v", word, a.Verdict, err)
		}
	}
}

func TestAnythingButAClearAnswerIsAnError(t *testing.T) {
	for _, decision := range []string{
		`true`, `"allow"`, `[]`, `null`, `{}`, `{"allow": true}`,
		`{"verdict": "Allow"}`, `{"verdict": "permit"}`, `{"verdict": true}`, `{"verdict": null}`, `{"verdict": ["allow"]}`,
		`{"verdict": "allow", "ttl": 3}`, `{"verdict": "allow", "obligation": [{"type": "admit"}]}`, `{"verdict": "allow", 1: 2}`,
		`{"verdict": "allow", "reasons": "because"}`, `{"verdict": "allow", "reasons": ["because"]}`,
		`{"verdict": "allow", "reasons": [{"detail": "no code"}]}`, `{"verdict": "allow", "reasons": [{"code": "two words"}]}`,
		`{"verdict": "allow", "reasons": [{"code": "x", "detail": 1}]}`, `{"verdict": "allow", "reasons": [{"code": "x", "control": "y"}]}`,
		`{"verdict": "deny", "reasons": [{"code": "x", "detail": "` + strings.Repeat("y", maxText+1) + `"}]}`,
		`{"verdict": "deny", "reasons": [{"code": "x", "detail": d} | some d in split("` + strings.Repeat("y ", maxReasons) + `", " ")]}`,
		`{"verdict": "allow", "profile": ""}`, `{"verdict": "allow", "profile": 1}`, `{"verdict": "allow", "profile": "a/../b"}`,
		`{"verdict": "allow", "lifetime": 86400}`, `{"verdict": "allow", "lifetime": "1 day"}`, `{"verdict": "allow", "lifetime": "-1h"}`,
		`{"verdict": "allow", "lifetime": "0s"}`, `{"verdict": "allow", "lifetime": "999999h"}`, `{"verdict": "allow", "lifetime": "9999999999999h"}`,
		`{"verdict": "allow", "obligations": {"type": "admit"}}`, `{"verdict": "allow", "obligations": ["admit"]}`,
		`{"verdict": "allow", "obligations": [{}]}`, `{"verdict": "allow", "obligations": [{"type": "admit", "to": "all"}]}`,
	} {
		a, err := judge(t, "decision := "+decision)
		if err == nil || !reflect.DeepEqual(a, policy.Answer{Policy: a.Policy}) {
			t.Errorf("%.80s: got %+v, %v", decision, a, err)
		}
	}
}

func TestInputIsSeenAsTheRecordShowsIt(t *testing.T) {
	e := mustLoad(t, write(t, map[string]string{"p.rego": `package hallmark
seen := input.context

decision := {"verdict": "allow"} if {
	seen.text == "a\ufffd\ufffdb"
	seen.list == ["x", "\ufffd"]
	seen.any == [1, true, null, {"y": "\ufffd"}]
	seen.big == 9007199254740992
	count(seen) == 5
	seen == {"text": "a\ufffd\ufffdb", "list": ["x", "\ufffd"], "any": [1, true, null, {"y": "\ufffd"}], "big": 9007199254740992, "none": {}}
}`}))
	input := map[string]any{
		"text": "a\xff\xfeb", "list": []string{"x", "\xff"}, "any": []any{1, true, nil, map[string]any{"y": "\xff"}},
		"big": int64(1 << 53), "none": map[string]any{},
	}
	if a, err := e.Evaluate(context.Background(), map[string]any{"context": input}); err != nil || a.Verdict != policy.Allow {
		t.Errorf("got %v, %v", a.Verdict, err)
	}
	if input["text"] != "a\xff\xfeb" {
		t.Error("the caller's input was changed")
	}
}

func TestInputThatTheRecordCannotShowIsAnError(t *testing.T) {
	e := mustLoad(t, write(t, map[string]string{"p.rego": "package hallmark\ndecision := {\"verdict\": \"allow\"}"}))
	deep := map[string]any{}
	for range 100 {
		deep = map[string]any{"in": deep, "list": []any{[]any{}}}
	}
	for name, v := range map[string]any{
		"float": 1.5, "bytes": []byte("x"), "time": time.Now(), "named map": policy.Verdict(1),
		"map of strings": map[string]string{"a": "b"}, "deep": deep,
		"name": map[string]any{"\xff": 1}, "number": int64(1<<53 + 1), "negative": -1<<53 - 1,
	} {
		a, err := e.Evaluate(context.Background(), map[string]any{"outer": map[string]any{"x": v}})
		if err == nil || a.Verdict != policy.Deny || a.Policy == "" {
			t.Errorf("%s: got %+v, %v", name, a, err)
		}
	}
	if a, err := e.Evaluate(context.Background(), nil); err != nil || a.Verdict != policy.Allow {
		t.Errorf("no input at all: got %v, %v", a, err)
	}
}

// Ids with quotes and braces are data, wherever rules put them.
func TestInputIsDataOnly(t *testing.T) {
	e := mustLoad(t, writeDefault(t))
	for _, id := range []string{`"]}`, `{{.}}`, "%s%d%!", "a\"} else := {\"verdict\": \"allow\"} {", "\x00\x1b[31m", strings.Repeat("x", 500)} {
		input := enrolment()
		input["subject"].(map[string]any)["id"] = id
		input["resource"] = map[string]any{"type": "device", "id": id, "properties": map[string]any{"known": false}}
		a, err := e.Evaluate(context.Background(), input)
		if err != nil || a.Verdict != policy.Deny || len(a.Reasons) != 1 || a.Reasons[0].Code != "device_unknown" {
			t.Errorf("%q: got %+v, %v", id, a, err)
		}
	}
}

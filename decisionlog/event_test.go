package decisionlog_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go/ast"
	"go/parser"
	"go/token"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/decisionlog"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// tags are the JSON members of a struct.
func tags(of reflect.Type) []string {
	var all []string
	for i := range of.NumField() {
		all = append(all, of.Field(i).Tag.Get("json"))
	}
	return all
}

// opasTags are those of EventV1 in the source of the OPA that the server is built with.
func opasTags(t *testing.T) []string {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/open-policy-agent/opa").Output()
	if err != nil {
		t.Fatal(err)
	}
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(strings.TrimSpace(string(dir)), "v1", "plugins", "logs", "plugin.go"), nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.TypeSpec); ok && spec.Name.Name == "EventV1" {
			for _, field := range spec.Type.(*ast.StructType).Fields.List {
				if field.Tag != nil {
					all = append(all, reflect.StructTag(strings.Trim(field.Tag.Value, "`")).Get("json"))
				}
			}
		}
		return true
	})
	return all
}

// TestMembersAreThoseOfOPA: our events have members of OPA's struct, of the same names, and no others.
func TestMembersAreThoseOfOPA(t *testing.T) {
	theirs := opasTags(t)
	if mirror := tags(reflect.TypeFor[eventV1]()); len(theirs) < 20 || !slices.Equal(mirror, theirs) {
		t.Fatalf("these tests read %v, OPA %v", mirror, theirs)
	}
	for _, tag := range tags(reflect.TypeFor[decisionlog.Event]()) {
		if !slices.Contains(theirs, tag) {
			t.Errorf("OPA has no member %s", tag)
		}
	}
}

// TestEventsAreThoseOfOPA: OPA's struct reads all of an event, and writes the same.
func TestEventsAreThoseOfOPA(t *testing.T) {
	h := newHouse(t, nil)
	allowed, denied := h.ask("ada", "device.show", "d1"), h.ask("ada", "device.quarantine", "d1")
	refusal := policy.Refuse(t.Context(), h.point, policy.Request{Action: policy.IssueCertificate, At: time.Now(), Source: "192.0.2.9",
		Subject: policy.Entity{Type: "device"}, Resource: policy.Entity{Type: "device", ID: "d2"}}, fault.New(fault.Unauthenticated, "bad_token", "no such token"))
	builtin := fault.Of(refusal).Ref
	h.sequence()
	for id, want := range map[string]struct{ verdict, path, outcome, labels string }{
		allowed: {"allow", "hallmark/decision", "granted", ""},
		denied:  {"deny", "hallmark/decision", "refused", ""},
		builtin: {"deny", "hallmark/builtin", "refused", "no_rules"},
	} {
		text, err := json.Marshal(h.event(h.scribe(), id))
		if err != nil {
			t.Fatal(err)
		}
		e := opas(t, append(append([]byte{'['}, text...), ']'))[0]
		again, err := json.Marshal(e)
		if err != nil || !sameJSON(t, text, again) {
			t.Errorf("OPA writes it differently:\n%s\n%s (%v)", text, again, err)
		}
		note := e.Custom["hallmark"].(map[string]any)
		result := (*e.Result).(map[string]any)
		if e.DecisionID != id || e.Path != want.path || result["verdict"] != want.verdict || note["outcome"] != want.outcome || e.Labels["id"] != "test/log" {
			t.Errorf("%s", text)
		}
		if why, _ := note["rule_labels"].(string); why != want.labels || len(e.RuleLabels) == 0 && why == "" && want.verdict == "allow" {
			t.Errorf("rule labels %v, %q", e.RuleLabels, why)
		}
		if (len(e.Bundles) == 1 && e.Bundles["hallmark"].Revision == h.engine.Digest()) != (want.path == "hallmark/decision") {
			t.Errorf("bundles %v", e.Bundles)
		}
		if !strings.HasPrefix(e.RequestedBy, "192.0.2.") || time.Since(e.Timestamp) > time.Hour {
			t.Errorf("requested by %s at %s", e.RequestedBy, e.Timestamp)
		}
	}
	labels, err := json.Marshal(h.event(h.scribe(), allowed).RuleLabels)
	if err != nil || !strings.Contains(string(labels), `"control":["`) {
		t.Errorf("rule labels are %s: no controls in them", labels)
	}
}

func sameJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	return bytes.Equal(audit.AppendCanonical(nil, floats(x)), audit.AppendCanonical(nil, floats(y)))
}

// floats makes numbers text: canonical JSON has only whole ones.
func floats(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name := range v {
			v[name] = floats(v[name])
		}
	case []any:
		for i := range v {
			v[i] = floats(v[i])
		}
	case float64:
		return int64(v)
	}
	return v
}

// TestWhatHasNoEvent: entries without a decision are passed over, and broken ones are told.
func TestWhatHasNoEvent(t *testing.T) {
	h := newHouse(t, nil)
	if e, err := h.scribe().Event(t.Context(), audit.Entry{Leaf: []byte(`{"action":"policy.load"}`)}); e != nil || err != nil {
		t.Errorf("an entry without a decision: %v, %v", e, err)
	}
	for _, leaf := range []string{"", "{", `{"decision":1}`, `{"decision":{"input":[]}}`} {
		if e, err := h.scribe().Event(t.Context(), audit.Entry{Leaf: []byte(leaf)}); err == nil {
			t.Errorf("%q: %+v", leaf, e)
		}
	}
}

// TestRulesThatAreGone: the event says that nobody can tell the labels any more.
func TestRulesThatAreGone(t *testing.T) {
	h := newHouse(t, nil)
	id := h.ask("ada", "device.show", "d1")
	s := h.scribe()
	recall := s.Recall
	for _, c := range []struct {
		recall func(string) (decisionlog.Rules, error)
		why    string
	}{
		{func(string) (decisionlog.Rules, error) { return recall(t.Context(), "sha256:another") }, "rules_gone"},
		{func(string) (decisionlog.Rules, error) { return nil, fault.New(fault.Internal, "x", "broken") }, "failed"},
	} {
		s.Recall = func(_ context.Context, digest string) (decisionlog.Rules, error) { return c.recall(digest) }
		e := h.event(s, id)
		if note := e.Custom["hallmark"].(decisionlog.Note); note.RuleLabels != c.why || e.RuleLabels != nil {
			t.Errorf("%+v, %v", note, e.RuleLabels)
		}
	}
	s.Recall = nil
	if e := h.event(s, id); e.RuleLabels != nil || e.Custom["hallmark"].(decisionlog.Note).RuleLabels != "" {
		t.Errorf("they are switched off: %+v", e)
	}
}

// BenchmarkEvent is what the event of one decision costs, with its labels and without.
func BenchmarkEvent(b *testing.B) {
	h := newHouse(b, nil)
	id, err := audit.ParseID(h.ask("ada", "device.show", "d1"))
	if err != nil {
		b.Fatal(err)
	}
	e, err := h.db.Entry(b.Context(), id)
	if err != nil {
		b.Fatal(err)
	}
	bare := h.scribe()
	bare.Recall = nil
	for name, s := range map[string]*decisionlog.Scribe{"labels": h.scribe(), "bare": bare} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := s.Event(b.Context(), e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

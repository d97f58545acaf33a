package rego

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/policy"
)

// enrolment is the input of an ordinary first enrolment, as the walk makes it.
func enrolment() map[string]any {
	return map[string]any{
		"subject": map[string]any{
			"type": "device", "id": "gw-000017",
			"properties": map[string]any{"auth": map[string]any{"method": "token", "token": "1d3tq0m0kvg6a0f7m3s9qk2c4g"}},
		},
		"action": map[string]any{
			"name": "certificate.issue",
			"properties": map[string]any{
				"door": "est", "operation": "simpleenroll", "renewal": false, "server_keygen": false,
				"profile": "device", "lifetime_s": int64(86400),
				"key": map[string]any{
					"algorithm": "ECDSA", "bits": 256,
					"sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
				},
			},
		},
		"resource": map[string]any{
			"type": "device", "id": "gw-000017",
			"properties": map[string]any{
				"known": true, "state": "expected", "model": "gw-2", "serial": "A1-000017", "batch": "2026-47",
				"labels": map[string]any{"site": "ulm", "line": "3"},
			},
		},
		"context": map[string]any{
			"profile": map[string]any{"channel_binding": true},
			"time":    "2026-11-23T21:00:00.000Z", "ip": "192.0.2.17", "request_id": "4c1b0e1d9a",
		},
	}
}

// write puts files into a fresh policy directory.
func write(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// writeDefault puts the default policy into a fresh directory.
func writeDefault(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, Default()); err != nil {
		t.Fatal(err)
	}
	return dir
}

func mustLoad(t testing.TB, dir string) *Engine {
	t.Helper()
	e, err := Load(context.Background(), Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestDefaultPolicyIsEmbeddedWhole(t *testing.T) {
	for _, name := range []string{"hallmark.rego", "enrolment.rego", "attestation.rego", "operators.rego", "guards.rego", "data.json"} {
		if _, err := fs.Stat(Default(), name); err != nil {
			t.Error(err)
		}
	}
}

func TestOrdinaryEnrolmentIsAllowed(t *testing.T) {
	e := mustLoad(t, writeDefault(t))
	a, err := e.Evaluate(context.Background(), enrolment())
	if err != nil || a.Verdict != policy.Allow || len(a.Obligations) != 0 || a.Policy != e.Digest() {
		t.Fatalf("got %+v, %v", a, err)
	}
}

func TestZeroEngineAnswersNothing(t *testing.T) {
	var e Engine
	if a, err := e.Evaluate(context.Background(), enrolment()); err == nil || a.Verdict != policy.Deny || e.Digest() != "" {
		t.Errorf("got %+v, %v", a, err)
	}
}

// BenchmarkEvaluate is what one decision of the default policy costs, the
// conversion of its input included.
func BenchmarkEvaluate(b *testing.B) {
	e := mustLoad(b, writeDefault(b))
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	stranger := enrolment()
	stranger["resource"] = map[string]any{"type": "device", "id": "gw-000017", "properties": map[string]any{"known": false}}
	renewal := enrolment()
	renewal["action"].(map[string]any)["name"] = "certificate.renew"
	renewal["subject"].(map[string]any)["properties"] = map[string]any{"auth": map[string]any{"method": "certificate", "serial": "5e"}}
	operator := map[string]any{
		"subject":  map[string]any{"type": "user", "id": "ada", "properties": map[string]any{"roles": []string{"admin"}}},
		"action":   map[string]any{"name": "device.list", "properties": map[string]any{}},
		"resource": map[string]any{"type": "device", "id": "", "properties": map[string]any{}},
		"context":  map[string]any{},
	}
	for _, test := range []struct {
		name  string
		input map[string]any
		want  policy.Verdict
	}{
		{"enrolment", enrolment(), policy.Allow}, {"renewal", renewal, policy.Allow},
		{"refusal", stranger, policy.Deny}, {"operator", operator, policy.Allow},
	} {
		b.Run(test.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if a, err := e.Evaluate(ctx, test.input); err != nil || a.Verdict != test.want {
					b.Fatal(a, err)
				}
			}
		})
	}
}

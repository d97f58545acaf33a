package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hallmark-pki/hallmark/policy"
	"github.com/hallmark-pki/hallmark/policy/rego"
)

// Decisions are measured in this process, one at a time, with the rules that come with the server.
const (
	decisionsWarm   = 1_000
	decisionsTimed  = 20_000
	decisionsSmoked = 200
)

// asked are the questions that are timed: the same as a device and an operator make them.
var asked = []struct {
	title string
	input map[string]any
}{
	{"enrolment", map[string]any{
		"subject": map[string]any{"type": "device", "id": "gw-17", "properties": map[string]any{"auth": map[string]any{"method": "token", "token": "t1"}}},
		"action": map[string]any{"name": string(policy.IssueCertificate), "properties": map[string]any{
			"door": "est", "operation": "simpleenroll", "renewal": false, "server_keygen": false, "profile": "device", "lifetime_s": int64(86400),
			"key": map[string]any{"algorithm": "ECDSA", "bits": 256, "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}}},
		"resource": map[string]any{"type": "device", "id": "gw-17", "properties": map[string]any{"known": true, "state": "expected", "model": "gw-2"}},
		"context":  map[string]any{"attestation": map[string]any{"verdict": "none", "assurance": "software"}, "time": "2026-11-23T21:00:00.000Z", "ip": "192.0.2.17", "request_id": "1"},
	}},
	{"operator", map[string]any{
		"subject":  map[string]any{"type": "user", "id": "lin", "properties": map[string]any{"roles": []string{"fleet"}, "scopes": map[string]any{"fleet": []any{map[string]any{"model": "gw-2"}}}}},
		"action":   map[string]any{"name": string(policy.RetireDevice), "properties": map[string]any{"reason": "smoke"}},
		"resource": map[string]any{"type": "device", "id": "gw-17", "properties": map[string]any{"known": true, "state": "active", "model": "gw-2"}},
		"context":  map[string]any{"last_hour": 3, "time": "2026-11-23T21:00:00.000Z", "ip": "192.0.2.1", "request_id": "2"},
	}},
}

// decisions times the default rules.
func (b *bench) decisions(ctx context.Context) error {
	dir := filepath.Join(b.dir, "policy")
	if err := os.CopyFS(dir, rego.Default()); err != nil {
		return err
	}
	engine, err := rego.Load(ctx, rego.Config{Dir: dir})
	if err != nil {
		return err
	}
	timed := decisionsTimed
	if b.Smoke {
		timed = decisionsSmoked
	}
	b.printf("\ndecisions of the default rules, in process, %d of each, one at a time\n", timed)
	for _, q := range asked {
		took := make([]time.Duration, 0, timed)
		for i := range decisionsWarm + timed {
			start := time.Now()
			answer, err := engine.Evaluate(ctx, q.input)
			if err != nil || answer.Verdict != policy.Allow {
				return fmt.Errorf("the default rules answer %v to an ordinary %s: %w", answer, q.title, err)
			}
			if i >= decisionsWarm {
				took = append(took, time.Since(start))
			}
		}
		p99 := ms(percentile(took, 99)) * 1000
		b.printf("  %-18s p50 %6.0f µs   p99 %6.0f µs   target < 300  %s\n", q.title, ms(percentile(took, 50))*1000, p99, mark(p99, 300))
	}
	return nil
}

package rego

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// earlier is the policy that servers of the version before were made with.
const earlier = "testdata/earlier"

func TestEarlierPolicyStillDecides(t *testing.T) {
	results, err := Test(t.Context(), earlier)
	if err != nil || !results.Passed() {
		t.Errorf("%v, %+v", err, results.Cases)
	}
	e := mustLoad(t, earlier)
	a, err := e.Evaluate(t.Context(), enrolment())
	if err != nil || a.Verdict.String() != "allow" {
		t.Errorf("got %+v, %v", a, err)
	}
}

// The rules that come with the server answer as those before did, as long as the data stays.
func TestDefaultPolicyDecidesAsTheEarlierDid(t *testing.T) {
	dir := writeDefault(t)
	data, err := os.ReadFile(filepath.Join(earlier, "data.json"))
	if err != nil {
		t.Fatal(err)
	}
	put(t, dir, "data.json", string(data))
	was, is := mustLoad(t, earlier), mustLoad(t, dir)
	chance := rand.New(rand.NewPCG(1, 2))
	verdicts := map[string]int{}
	for range 5000 {
		input := anyQuestion(chance)
		a, errA := was.Evaluate(context.Background(), input)
		b, errB := is.Evaluate(context.Background(), input)
		a.Policy, b.Policy = "", ""
		if (errA == nil) != (errB == nil) || !reflect.DeepEqual(a, b) {
			t.Fatalf("%v:\nwas %+v, %v\nis  %+v, %v", input, a, errA, b, errB)
		}
		verdicts[b.Verdict.String()]++
	}
	for _, v := range []string{"allow", "hold", "deny"} {
		if verdicts[v] < 20 {
			t.Errorf("%d of the answers are %s", verdicts[v], v)
		}
	}
}

// anyQuestion is a question of somebody about something, likely enough to be allowed.
func anyQuestion(chance *rand.Rand) map[string]any {
	one := func(words ...any) any { return words[chance.IntN(len(words))] }
	device := one("gw-1", "gw-1", "gw-1", "gw-2")
	properties := map[string]any{"known": true, "state": one("expected", "active", "active", "quarantined", "retired", ""), "model": one("gw-2", "s-1")}
	if chance.IntN(6) == 0 {
		properties = map[string]any{"known": false}
	}
	context := map[string]any{"time": "2026-11-23T21:00:00.000Z", "ip": "192.0.2.1"}
	if chance.IntN(2) == 0 {
		context["attestation"] = anyEvidence(chance)
	}
	if chance.IntN(2) == 0 {
		context["bond"] = map[string]any{"ek_sha256": one("e1", "e2"), "last": one("2026-11-23T20:00:00.000Z", "2026-11-01T20:00:00.000Z")}
	}
	if chance.IntN(4) == 0 {
		context["approval"] = map[string]any{"by": "ada"}
	}
	input := map[string]any{
		"subject": map[string]any{"type": "device", "id": device, "properties": map[string]any{
			"auth": map[string]any{"method": one("token", "idevid", "certificate", "activation", "mtls")}}},
		"action": map[string]any{"name": one("certificate.issue", "certificate.issue", "certificate.renew", "device.attest", "attestation.certify"),
			"properties": map[string]any{"profile": one("device", "vault"), "lifetime_s": one(3600, 86400)}},
		"resource": map[string]any{"type": "device", "id": "gw-1", "properties": properties},
		"context":  context,
	}
	if chance.IntN(3) == 0 {
		input["subject"] = map[string]any{"type": "user", "id": one("admin", "eve"), "properties": map[string]any{
			"roles": []any{one("admin", "line", "viewer", "auditor", "security", "nobody")}, "scopes": map[string]any{"line": []any{map[string]any{"model": "gw-2"}}}}}
		input["action"].(map[string]any)["name"] = one("device.list", "device.retire", "token.create", "certificate.issue", "audit.read", "policy.approve", "operator.renew")
	}
	return input
}

func anyEvidence(chance *rand.Rand) map[string]any {
	one := func(words ...any) any { return words[chance.IntN(len(words))] }
	evidence := map[string]any{"verdict": one("none", "none", "affirming", "warning", "contraindicated"), "fresh": one(true, false)}
	if chance.IntN(2) == 0 {
		evidence["key"] = map[string]any{"tpm_resident": one(true, true, false)}
		evidence["ek"] = map[string]any{"sha256": "e1"}
	}
	if chance.IntN(3) == 0 {
		evidence["boot"] = map[string]any{"changed": one([]any{}, []any{4, 7})}
	}
	if chance.IntN(3) == 0 {
		evidence["reasons"] = one([]any{"ek_untrusted"}, []any{"clock_unsafe"}, []any{})
	}
	if chance.IntN(4) == 0 {
		evidence["advisories"] = []any{map[string]any{"id": "A-1", "action": one("deny", "warn"), "text": "leaks"}}
	}
	return evidence
}

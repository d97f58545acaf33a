package housetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/policy"
	"github.com/hallmark-pki/hallmark/policy/rego"
)

// opa runs the real command and returns its standard output.
func opa(t *testing.T, args ...string) string {
	t.Helper()
	c := exec.Command(OPA(t), args...)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		t.Fatalf("opa %s: %v\n%s%s", strings.Join(args, " "), err, &out, &errs)
	}
	return out.String()
}

// signingKey writes a key for opa build and its public half.
func signingKey(t *testing.T, dir, name string) (private, public string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	private = filepath.Join(dir, name+".key")
	must(t, os.WriteFile(private, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	der, err = x509.MarshalPKIXPublicKey(key.Public())
	must(t, err)
	public = filepath.Join(dir, name+".pem")
	must(t, os.WriteFile(public, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o644))
	return private, public
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// edited is the policy of a directory with a setting changed, in a new directory.
func edited(t *testing.T, dir, setting string, value any) string {
	t.Helper()
	to := t.TempDir()
	must(t, os.CopyFS(to, os.DirFS(dir)))
	name := filepath.Join(to, "data.json")
	text, err := os.ReadFile(name)
	must(t, err)
	var data map[string]map[string]any
	must(t, json.Unmarshal(text, &data))
	data["settings"][setting] = value
	text, err = json.Marshal(data)
	must(t, err)
	must(t, os.WriteFile(name, text, 0o644))
	return to
}

// built is the directory as opa build packs and signs it.
func builtBundle(t *testing.T, dir, key string, flags ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "bundle.tar.gz")
	opa(t, append([]string{"build", "--bundle", dir, "--signing-alg", "ES256", "--signing-key", key, "--output", out}, flags...)...)
	return out
}

// tampered is the bundle with one word of its rules changed.
func tampered(t *testing.T, path string) string {
	t.Helper()
	packed, err := os.ReadFile(path)
	must(t, err)
	zipped, err := gzip.NewReader(bytes.NewReader(packed))
	must(t, err)
	var out bytes.Buffer
	again := gzip.NewWriter(&out)
	from, to := tar.NewReader(zipped), tar.NewWriter(again)
	for {
		header, err := from.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		text, err := io.ReadAll(from)
		must(t, err)
		text = bytes.ReplaceAll(text, []byte(`"policy.propose"`), []byte(`"policy.*"`))
		header.Size = int64(len(text))
		must(t, to.WriteHeader(header))
		_, err = to.Write(text)
		must(t, err)
	}
	must(t, errors.Join(to.Close(), again.Close()))
	name := filepath.Join(t.TempDir(), "tampered.tar.gz")
	must(t, os.WriteFile(name, out.Bytes(), 0o644))
	return name
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Fatalf("%s: not within three minutes", what)
}

// TestOPAAgrees holds our reading of rules against that of the opa command: what it checks,
// formats, tests and decides, and what it builds and signs.
func TestOPAAgrees(t *testing.T) {
	dir := t.TempDir()
	must(t, os.CopyFS(dir, rego.Default()))
	capabilities, _, _ := Exec(t, "hallmark", "policy", "capabilities")
	file := filepath.Join(t.TempDir(), "capabilities.json")
	must(t, os.WriteFile(file, []byte(capabilities), 0o644))
	opa(t, "check", "--strict", "--bundle", "--capabilities", file, dir)
	if changes := opa(t, "fmt", "--diff", dir); changes != "" {
		t.Errorf("opa fmt would change\n%s", changes)
	}
	var theirs, ours []struct{ Fail, Passed bool }
	must(t, json.Unmarshal([]byte(opa(t, "test", "--bundle", "--format", "json", dir)), &theirs))
	results, err := rego.Test(t.Context(), dir)
	must(t, err)
	if len(theirs) != len(results.Cases) || len(ours) > 0 || slices.ContainsFunc(theirs, func(c struct{ Fail, Passed bool }) bool { return c.Fail }) || !results.Passed() {
		t.Errorf("opa runs %d tests, we %d", len(theirs), len(results.Cases))
	}
	key, _ := signingKey(t, t.TempDir(), "ci")
	agree(t, builtBundle(t, edited(t, dir, "hold_profiles", []string{"gateway"}), key), questions(600))
}

// agree asks the opa command and our engine the same questions of the same bundle.
func agree(t *testing.T, bundle string, asked []map[string]any) {
	t.Helper()
	packed, err := os.ReadFile(bundle)
	must(t, err)
	engine, err := rego.LoadBundle(t.Context(), packed, nil)
	must(t, err)
	text, err := json.Marshal(asked)
	must(t, err)
	input := filepath.Join(t.TempDir(), "input.json")
	must(t, os.WriteFile(input, text, 0o600))
	// A question without an answer is undefined: the comprehension keeps its place.
	var answers struct {
		Result []struct {
			Expressions []struct{ Value []decided }
		}
	}
	query := `[d | some x in input; d := object.union({"verdict": "undefined"}, data.hallmark.decision) with input as x]`
	must(t, json.Unmarshal([]byte(opa(t, "eval", "--bundle", bundle, "--input", input, "--format", "json", query)), &answers))
	theirs := answers.Result[0].Expressions[0].Value
	if len(theirs) != len(asked) {
		t.Fatalf("%d answers to %d questions", len(theirs), len(asked))
	}
	seen := map[string]int{}
	var failed []map[string]any
	for i, question := range asked {
		answer, err := engine.Evaluate(t.Context(), question)
		if err != nil { // a built-in function that fails is an error here, and undefined there unless that is asked for
			failed = append(failed, question)
			continue
		}
		if ours := settled(&answer); ours != theirs[i].text() {
			text, _ := json.Marshal(question)
			t.Errorf("%s\nwe say  %s\nopa says %s", text, ours, theirs[i].text())
		}
		seen[theirs[i].Verdict]++
	}
	t.Logf("%d questions: %v, and %d errors", len(asked), seen, len(failed))
	if len(failed) > len(asked)/4 {
		t.Errorf("%d of %d questions are errors", len(failed), len(asked))
	}
	for _, question := range failed[:min(len(failed), 2)] {
		text, err := json.Marshal(question)
		must(t, err)
		must(t, os.WriteFile(input, text, 0o600))
		c := exec.Command(OPA(t), "eval", "--strict-builtin-errors", "--bundle", bundle, "--input", input, "data.hallmark.decision")
		if out, err := c.CombinedOutput(); err == nil || !strings.Contains(string(out), "eval_type_error") && !strings.Contains(string(out), "eval_builtin_error") {
			t.Errorf("%s\nis an error for us, and for opa\n%s", text, out)
		}
	}
	if seen["allow"] < 20 || seen["deny"] < 20 || seen["hold"] < 3 {
		t.Errorf("the questions are too much alike: %v", seen)
	}
}

// decided is a decision as rules write it.
type decided struct {
	Verdict     string            `json:"verdict"`
	Reasons     []policy.Reason   `json:"reasons"`
	Profile     string            `json:"profile"`
	Lifetime    string            `json:"lifetime"`
	Obligations []json.RawMessage `json:"obligations"`
}

// text is the decision so that two can be compared.
func (d *decided) text() string {
	var reasons, kinds []string
	for _, r := range d.Reasons {
		reasons = append(reasons, r.Code+": "+r.Detail)
	}
	for _, o := range d.Obligations {
		kinds = append(kinds, strings.Trim(string(o), `"`))
	}
	slices.Sort(reasons)
	slices.Sort(kinds)
	life, _ := time.ParseDuration(d.Lifetime)
	return fmt.Sprintf("%s %q %s %s %q", d.Verdict, reasons, d.Profile, life, kinds)
}

func settled(a *policy.Answer) string {
	d := decided{Verdict: a.Verdict.String(), Reasons: a.Reasons, Profile: a.Profile, Lifetime: a.Lifetime.String()}
	for _, o := range a.Obligations {
		d.Obligations = append(d.Obligations, json.RawMessage(o.Type))
	}
	return d.text()
}

// questions makes up so many inputs: every action, likely and unlikely values, and some of the wrong type.
func questions(n int) []map[string]any {
	chance := mathrand.New(mathrand.NewPCG(1, 2))
	one := func(values ...any) any { return values[chance.IntN(len(values))] }
	object := func(members map[string]any) map[string]any {
		for name := range members {
			if chance.IntN(8) == 0 {
				delete(members, name)
			}
		}
		return members
	}
	actions := policy.Actions()
	var all []map[string]any
	for i := range n {
		if i%4 == 3 { // somebody who means it
			all = append(all, enrolling(one))
			continue
		}
		name := any(string(actions[i%len(actions)]))
		switch {
		case i%3 == 0:
			name = one("certificate.issue", "certificate.renew", "device.attest")
		case i%41 == 0:
			name = one("no.such", 7, nil)
		}
		kind := one("device", "device", "user", "user", "service", 3)
		attestation := object(map[string]any{"case": one("A", "B", "C", "D", "E"), "verdict": one("affirmed", "none", "warning", "contraindicated"), "trusted": one(true, false),
			"affirmed": one(true, false), "denied": one(true, false), "findings": one([]any{}, []any{map[string]any{"code": "boot_changed"}}), "claims": map[string]any{}})
		all = append(all, map[string]any{
			"subject": map[string]any{"type": kind, "id": one("gw-1", "admin", "berta", "bundle:main", ""), "properties": object(map[string]any{
				"roles": one([]any{"admin"}, []any{"viewer"}, []any{"line", "security"}, []any{}, []any{"gateway"}, "admin"), "scopes": one(map[string]any{}, map[string]any{"line": []any{map[string]any{"model": "gw-2"}}}),
				"proof": one("token", "idevid", "certificate"), "auth": map[string]any{"method": one("mtls", "token", "idevid", "tpm"), "mfa": one(true, false)}, "known": one(true, false), "signed": true})},
			"action": map[string]any{"name": name, "properties": object(map[string]any{
				"profile": one("device", "gateway", ""), "lifetime_s": one(3600, 86400, 604800, "long"), "reason": one("because", "", nil), "model": one("gw-2", "s-1")})},
			"resource": map[string]any{"type": one("device", "policy", "operator", "token"), "id": one("gw-1", "admin", "06h", ""), "properties": object(map[string]any{
				"state": one("expected", "active", "quarantined", "retired"), "known": one(true, false), "model": one("gw-2", "s-1", nil), "author": one("admin", "berta"), "labels": map[string]any{"site": "ulm"}})},
			"context": object(map[string]any{"time": one("2026-11-24T03:00:00.000Z", "2026-11-29T23:59:59.999Z", "soon"), "ip": "192.0.2.1", "request_id": "r",
				"attestation": attestation, "breakglass": one(nil, map[string]any{"reason": "fire"}), "change": map[string]any{"author": one("admin", "berta"), "approvals": []any{}}}),
		})
	}
	return all
}

// enrolling is a question that devices ask, with nothing wrong about it.
func enrolling(one func(...any) any) map[string]any {
	return map[string]any{
		"subject":  map[string]any{"type": "device", "id": "gw-1", "properties": map[string]any{"auth": map[string]any{"method": one("token", "idevid", "certificate")}}},
		"action":   map[string]any{"name": one("certificate.issue", "certificate.renew"), "properties": map[string]any{"profile": one("device", "gateway"), "lifetime_s": one(600, 86400)}},
		"resource": map[string]any{"type": "device", "id": "gw-1", "properties": map[string]any{"known": true, "state": one("expected", "active", "retired")}},
		"context":  map[string]any{"time": "2026-11-24T03:00:00.000Z", "ip": "192.0.2.1", "request_id": "r"},
	}
}

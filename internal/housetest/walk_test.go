package housetest_test

import (
	"crypto"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/internal/estclient"
	"github.com/hallmark-pki/hallmark/internal/housetest"
	"github.com/hallmark-pki/hallmark/policy"
)

// refused returns the server's refusal inside err and fails the test if it is something else.
func refused(t *testing.T, err error, status int, code string) *estclient.Error {
	t.Helper()
	var e *estclient.Error
	if !errors.As(err, &e) || e.Status != status || e.Code != code {
		t.Fatalf("got %v, want status %d with code %s", err, status, code)
	}
	return e
}

// decision is what "hallmark decision show" prints.
type decision struct {
	ID, Action, Verdict, Outcome, Policy string
	Reasons                              []struct{ Code, Detail string }
	Input                                map[string]any
}

func showDecision(t *testing.T, h *housetest.House, id string) decision {
	t.Helper()
	var d decision
	if err := json.Unmarshal([]byte(h.Hallmark("decision", "show", id, "-o", "json")), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestEnrolAndRenew(t *testing.T) {
	h := housetest.Start(t)
	h.Import("gw-1")
	first, err := housetest.Enrol(h.EST("gw-1", h.Token("--device", "gw-1")))
	if err != nil {
		t.Fatal(err)
	}
	if c := first.Certificate; c.Subject.SerialNumber != "gw-1" || len(c.URIs) != 1 || !strings.HasSuffix(c.URIs[0].String(), "/device/gw-1") {
		t.Errorf("names: %s %v", c.Subject, c.URIs)
	}
	second, err := housetest.Renew(h.EST("", ""), first)
	if err != nil {
		t.Fatal(err)
	}
	if first.Serial() == second.Serial() {
		t.Error("the renewal has the serial number of the first")
	}
	if out := h.Hallmark("cert", "list", "--device", "gw-1"); !strings.Contains(out, first.Serial()) || !strings.Contains(out, second.Serial()) {
		t.Errorf("cert list:\n%s", out)
	}
	everyInputFits(t, h, policy.IssueCertificate, policy.RenewCertificate, policy.CreateToken, policy.ListCertificates)
	if err := h.Stop(); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
}

func TestOneTokenYieldsOneCertificate(t *testing.T) {
	h := housetest.Start(t, "--rate-limits=off")
	h.Import("gw-1")
	token := h.Token("--device", "gw-1", "--uses", "1")
	var mu sync.Mutex
	var tries sync.WaitGroup
	var got []*housetest.Identity
	for range 100 {
		tries.Go(func() {
			identity, err := housetest.Enrol(h.EST("gw-1", token))
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				got = append(got, identity)
			} else if s := estclient.Status(err); s != 401 && s != 403 {
				t.Errorf("refused with %v", err)
			}
		})
	}
	tries.Wait()
	if len(got) != 1 {
		t.Fatalf("%d certificates from a token good for one", len(got))
	}
	var list struct{ Items []struct{ Serial string } }
	if err := json.Unmarshal([]byte(h.Hallmark("cert", "list", "--all", "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != 1 || list.Items[0].Serial != got[0].Serial() {
		t.Errorf("the store holds %+v, the client %s", list.Items, got[0].Serial())
	}
}

func TestADeniedDeviceReadsWhy(t *testing.T) {
	h := housetest.Start(t)
	h.Import("gw-1")
	h.Hallmark("device", "quarantine", "gw-1", "--reason", "seen on two sites")
	_, err := housetest.Enrol(h.EST("gw-1", h.Token("--device", "gw-1")))
	e := refused(t, err, 403, "device_quarantined")
	d := showDecision(t, h, e.Ref)
	if d.Verdict != "deny" || !strings.HasPrefix(d.Policy, "sha256:") ||
		d.Reasons[0].Code != "device_quarantined" || d.Input["resource"] == nil {
		t.Errorf("the decision: %+v", d)
	}
}

func TestAHeldRequestIsIssuedAfterApproval(t *testing.T) {
	h := housetest.Start(t)
	h.Import("gw-1", "gw-2")
	setting(t, h, "hold_profiles", []string{"device"})
	client := h.EST("gw-1", h.Token("--device", "gw-1"))
	attempt := housetest.Attempt(t, client)
	e := refused(t, attempt.Err, 202, "held")
	if e.RetryAfter < time.Second {
		t.Errorf("Retry-After: %s", e.RetryAfter)
	}
	again := attempt.Again(t, client)
	refused(t, again.Err, 202, "held")

	var list struct {
		Items []struct{ ID, State, Device string }
	}
	if err := json.Unmarshal([]byte(h.Hallmark("request", "list", "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != 1 || list.Items[0].State != "pending" || list.Items[0].Device != "gw-1" {
		t.Fatalf("held requests: %+v", list.Items)
	}
	h.Hallmark("request", "approve", list.Items[0].ID)
	if done := attempt.Again(t, client); done.Err != nil || done.Identity == nil {
		t.Fatalf("after approval: %v", done.Err)
	}
	// The approval is for that key and that device alone.
	other := housetest.Attempt(t, h.EST("gw-2", h.Token("--device", "gw-2")))
	refused(t, other.Err, 202, "held")
	if err := json.Unmarshal([]byte(h.Hallmark("request", "list", "--state", "pending", "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	h.Hallmark("request", "deny", list.Items[0].ID, "--reason", "not one of ours")
	e = refused(t, other.Again(t, h.EST("gw-2", h.Token("--device", "gw-2"))).Err, 403, "request_denied")
	if !strings.Contains(e.Says, "not one of ours") {
		t.Errorf("the device reads %q", e.Says)
	}
}

// A device that makes a new key for every try does not fill the operators' list.
func TestHeldRequestsAreBounded(t *testing.T) {
	h := housetest.Start(t)
	h.Import("gw-1")
	setting(t, h, "hold_profiles", []string{"device"})
	client := h.EST("gw-1", h.Token("--device", "gw-1"))
	first := housetest.Attempt(t, client)
	refused(t, first.Err, 202, "held")
	for range 19 {
		refused(t, housetest.Attempt(t, client).Err, 202, "held")
	}
	refused(t, housetest.Attempt(t, client).Err, 403, "too_many_held")
	refused(t, first.Again(t, client).Err, 202, "held") // the key that waits still does
}

// setting changes one of the settings in the policy's data.json.
func setting(t *testing.T, h *housetest.House, name string, value any) {
	t.Helper()
	path := filepath.Join(h.Dir, "policy", "data.json")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var data map[string]map[string]any
	if err := json.Unmarshal(text, &data); err != nil {
		t.Fatal(err)
	}
	data["settings"][name] = value
	if text, err = json.Marshal(data); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	reload(t, h, "policy reloaded")
}

// reload sends SIGHUP and waits until the log says what came of it.
func reload(t *testing.T, h *housetest.House, says string) {
	t.Helper()
	before := strings.Count(h.Log(), says)
	h.Signal(syscall.SIGHUP)
	for deadline := time.Now().Add(10 * time.Second); strings.Count(h.Log(), says) == before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the log never said %q", says)
		}
	}
}

func TestABrokenPolicyEditIsRefused(t *testing.T) {
	h := housetest.Start(t)
	h.Import("gw-1")
	path := filepath.Join(h.Dir, "policy", "broken.rego")
	if err := os.WriteFile(path, []byte("package hallmark\n\nallow if {\n\tinput.action ==\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	reload(t, h, "policy not reloaded")
	if !strings.Contains(h.Log(), "broken.rego:4") && !strings.Contains(h.Log(), "broken.rego:5") {
		t.Error("the log does not say where the edit is broken")
	}
	if _, err := housetest.Enrol(h.EST("gw-1", h.Token("--device", "gw-1"))); err != nil {
		t.Errorf("with the rules from before: %v", err)
	}
}

// Every refusal that became a request has its leaf, under the reference that
// the caller was given.
func TestEveryRefusalIsInTheRecord(t *testing.T) {
	h := housetest.Start(t)
	h.Import("gw-1", "gw-2")
	used := h.Token("--device", "gw-1")
	mine, err := housetest.Enrol(h.EST("gw-1", used))
	if err != nil {
		t.Fatal(err)
	}
	revoked := h.Token("--device", "gw-1")
	var tokens struct{ Items []struct{ ID string } }
	if err := json.Unmarshal([]byte(h.Hallmark("token", "list", "-o", "json")), &tokens); err != nil {
		t.Fatal(err)
	}
	h.Hallmark("token", "revoke", tokens.Items[0].ID)
	open := h.Token("--uses", "10")
	anyOne := func(c *estclient.Client) error { _, err := housetest.Enrol(c); return err }
	for name, story := range map[string]struct {
		err    error
		status int
		code   string
	}{
		"no proof":             {anyOne(h.EST("", "")), 401, "proof_missing"},
		"unknown token":        {anyOne(h.EST("gw-1", "hmt_nonsense")), 401, "token_unknown"},
		"used token":           {anyOne(h.EST("gw-1", used)), 403, "token_used"},
		"revoked token":        {anyOne(h.EST("gw-1", revoked)), 403, "token_revoked"},
		"token of another":     {anyOne(h.EST("gw-2", h.Token("--device", "gw-1"))), 403, "token_device"},
		"nobody named":         {anyOne(h.EST("", open)), 401, "device_unnamed"},
		"unknown device":       {anyOne(h.EST("gw-9", open)), 403, "device_unknown"},
		"no device id":         {anyOne(h.EST("../gw-1", open)), 403, "device_unknown"},
		"another's name":       {housetest.EnrolAs(h.EST("gw-2", open), "gw-1"), 403, "identity_mismatch"},
		"another's key":        {enrolKey(h.EST("gw-2", open), mine.Key), 403, "key_in_use"},
		"foreign certificate":  {housetest.EnrolWith(h.EST("", ""), housetest.Stranger(t, "gw-1")), 401, "certificate_untrusted"},
		"foreign, at renewal":  {housetest.RenewWith(h.EST("", ""), housetest.Stranger(t, "gw-1")), 401, "certificate_untrusted"},
		"renewal with a token": {housetest.RenewWith(h.EST("gw-1", open), nil), 403, "reenroll_certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			e := refused(t, story.err, story.status, story.code)
			d := showDecision(t, h, e.Ref)
			if d.Outcome != "refused" || d.Reasons[0].Code != story.code {
				t.Errorf("the record says %+v", d)
			}
		})
	}
	if got := h.Hallmark("cert", "list", "--all"); strings.Count(got, "gw-") != 1 {
		t.Errorf("certificates came of refusals:\n%s", got)
	}
}

func enrolKey(client *estclient.Client, key crypto.Signer) error {
	_, err := housetest.EnrolWithKey(client, key)
	return err
}

func TestTheRecordProvesItself(t *testing.T) {
	h := housetest.Start(t, "--rate-limits=off")
	h.Import("gw-1")
	token := h.Token("--uses", "400")
	enrol := func() *housetest.Identity {
		identity, err := housetest.Enrol(h.EST("gw-1", token))
		if err != nil {
			t.Fatal(err)
		}
		return identity
	}
	for range 290 { // more than one tile
		enrol()
	}
	dir := t.TempDir()
	old, export := filepath.Join(dir, "old.ndjson"), filepath.Join(dir, "export.ndjson")
	h.Hallmark("audit", "export", "--out", old)
	last := enrol()
	h.Hallmark("audit", "export", "--out", export)
	h.Hallmark("audit", "verify", export, old)
	proof := h.Hallmark("audit", "proof", last.Serial())
	if !strings.Contains(proof, "c2sp.org/tlog-proof") {
		t.Errorf("the proof:\n%s", proof)
	}

	lines := readLines(t, export)
	earlier := readLines(t, old)
	for name, tampered := range map[string][]string{
		"changed":   change(lines, 20, func(s string) string { return strings.Replace(s, "gw-1", "gw-2", 1) }),
		"dropped":   append(append([]string{}, lines[:30]...), lines[31:]...),
		"reordered": swap(lines, 40, 41),
		"rewound":   append([]string{earlier[0]}, lines[1:]...),
		"truncated": lines[:len(lines)-5],
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "tampered.ndjson")
			if err := os.WriteFile(file, []byte(strings.Join(tampered, "")), 0o600); err != nil {
				t.Fatal(err)
			}
			out, errs, code := h.Try("audit", "verify", file)
			if code != 1 {
				t.Errorf("exit %d\n%s%s", code, out, errs)
			}
			t.Logf("%s%s", out, errs)
		})
	}
}

func readLines(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.SplitAfter(strings.TrimSuffix(string(text), "\n"), "\n")
}

func change(lines []string, i int, how func(string) string) []string {
	out := append([]string{}, lines...)
	out[i] = how(out[i])
	return out
}

func swap(lines []string, i, j int) []string {
	out := append([]string{}, lines...)
	out[i], out[j] = out[j], out[i]
	return out
}

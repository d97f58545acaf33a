package attest_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/audit"
)

// TestDocument writes a result with everything in it as rules and the record see it.
func TestDocument(t *testing.T) {
	secure := true
	r := attest.Result{
		Verdict: attest.Warning, Case: attest.CaseActivation,
		AK:  attest.AttestationKey{Name: []byte{0, 11, 1}, SHA256: "a1", Public: []byte{1}},
		EK:  attest.EndorsementKey{SHA256: "e1", Manufacturer: "id:494E5443", Model: "SPT", Version: "id:00020008", Trusted: true, Certificate: "c1", Anchor: "r1"},
		Key: attest.CertifiedKey{Name: []byte{0, 11, 2}, Resident: true, Fixed: true},
		PCR: attest.PCRs{Bank: "sha256", Values: map[int][]byte{0: {1}, 14: {2}}, Digest: []byte{3}},
		Boot: attest.Boot{LogReplayed: true, SecureBoot: &secure, BootLoader: []string{"b1"}, Kernel: slices.Repeat([]string{"k"}, 1000), Changed: []int{4, 7},
			Events:      map[int][]attest.Event{4: {{Digest: "unsaid"}}},
			Differences: []attest.Difference{{PCR: 4, Got: "g", Expected: []string{"x"}, Events: []attest.Event{{Index: 3, Type: "EV_EFI_BOOT_SERVICES_APPLICATION", Digest: "d"}}, Missing: []string{"m"}}}},
		Clock: attest.Clock{Clock: 1 << 60, Reset: 2, Safe: true, Firmware: 0x0001000200030004},
		Fresh: true, Reasons: []attest.Reason{attest.EKUntrusted, attest.ClockUnsafe, attest.EKUntrusted},
		Advisories:  []attest.Advisory{{ID: "ADV-1", Action: "warn", Says: "old"}},
		Evidence:    [32]byte{1},
		EventLog:    [32]byte{2},
		AppraisedAt: time.Date(2026, 11, 24, 1, 2, 3, 0, time.UTC),
	}
	got := string(audit.AppendCanonical(nil, r.Document()))
	for _, want := range []string{
		`"verdict":"warning"`, `"case":"C"`, `"fresh":true`, `"ak":{"name":"000b01","sha256":"a1"}`,
		`"ek":{"certificate_sha256":"c1","chain":"r1","manufacturer":"id:494E5443","model":"SPT","sha256":"e1","trusted":true,"version":"id:00020008"}`,
		`"key":{"fixed":true,"name":"000b02","restricted":false,"tpm_resident":true}`,
		`"pcr":{"bank":"sha256","digest":"03","values":{"0":"01","14":"02"}}`,
		`"boot_loader":["b1"]`, `"changed":[4,7]`, `"log_replayed":true`, `"secure_boot":true`,
		`"differences":[{"events":[{"digest":"d","index":3,"type":"EV_EFI_BOOT_SERVICES_APPLICATION"}],"expected":["x"],"got":"g","missing":["m"],"pcr":4}]`,
		`"clock":{"clock":9007199254740992,"firmware":"1000200030004","reset":2,"restart":0,"safe":true}`,
		`"reasons":["ek_untrusted","clock_unsafe"]`, `"advisories":[{"action":"warn","id":"ADV-1","text":"old"}]`,
		`"evidence_sha256":"0100`, `"event_log_sha256":"0200`, `"appraised_at":"2026-11-24T01:02:03.000Z"`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
	if strings.Contains(got, "unsaid") || strings.Count(got, `"k"`) != 64 || !json.Valid([]byte(got)) {
		t.Errorf("says too much: %s", got)
	}
}

// TestNoDocument: what is not known is not said.
func TestNoDocument(t *testing.T) {
	for says, r := range map[string]*attest.Result{"nil": nil, "zero": {}} {
		if got := string(audit.AppendCanonical(nil, r.Document())); got != `{"verdict":"none"}` {
			t.Errorf("%s: %s", says, got)
		}
	}
	factory := attest.Result{Case: attest.CaseIDevID}
	if got := string(audit.AppendCanonical(nil, factory.Document())); got != `{"case":"D","fresh":false,"verdict":"none"}` {
		t.Error(got)
	}
}

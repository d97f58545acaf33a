package est_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/hallmark-pki/hallmark/internal/forge"
	"github.com/hallmark-pki/hallmark/internal/housetest"
)

func stateOf(t *testing.T, h *housetest.House, device string) string {
	t.Helper()
	var d struct{ State, Reason string }
	if err := json.Unmarshal([]byte(h.Hallmark("device", "show", device, "-o", "json")), &d); err != nil {
		t.Fatal(err)
	}
	return d.State + " " + d.Reason
}

// A device that attested once goes on attesting, except to renew over the key
// that its TPM certified, and where the profile wants more.
func TestDowngrade(t *testing.T) {
	h, a := provingGround(t, "", "dev-1", "dev-2", "dev-3")
	p := newProver(t, h, a, "dev-1")
	p.proves("simpleenroll", p.activating())
	said := p.enrol("simpleenroll", nil, "").refused(t, h, "a first enrolment once more", 403, "downgrade")
	if !strings.Contains(said, `"bond":{`) || !strings.Contains(said, `"verdict":"none"`) {
		t.Errorf("the record says %s", said)
	}
	p.prefix = "/.well-known/est/keygen/"
	p.enrol("serverkeygen", nil, "").refused(t, h, "a key made here", 403, "downgrade")
	c := p.challenged(p.pinned())
	p.enrol("serverkeygen", p.bundle(c).DER(), c.cookie).refused(t, h, "evidence for a key made here", 403, "unsupported_evidence")
	p.prefix = "/.well-known/est/"
	p.held()
	if got := p.enrol("simplereenroll", nil, ""); got.StatusCode != 200 {
		t.Errorf("over the certified key: %d %s", got.StatusCode, got.body)
	}
	p.held().prefix = "/.well-known/est/renewed/"
	p.enrol("simplereenroll", nil, "").refused(t, h, "where the profile wants it", 403, "evidence_required")
	p.proves("simplereenroll", p.pinned())
	p.held().prefix = "/.well-known/est/"
	p.newKey().enrol("simplereenroll", nil, "").refused(t, h, "over another key", 403, "downgrade")
	h.Hallmark("device", "unbind", "dev-1", "--reason", "the board was replaced")
	if got := p.enrol("simplereenroll", nil, ""); got.StatusCode != 200 {
		t.Errorf("after an operator has lifted it: %d %s", got.StatusCode, got.body)
	}

	plain := newProver(t, h, a, "dev-2")
	plain.prefix = "/.well-known/est/needed/"
	plain.enrol("simpleenroll", nil, "").refused(t, h, "required", 403, "evidence_required")
	plain.proves("simpleenroll", plain.activating())

	never := newProver(t, h, a, "dev-3")
	if got := never.enrol("simpleenroll", nil, ""); got.StatusCode != 200 {
		t.Errorf("without a TPM: %d %s", got.StatusCode, got.body)
	}
	if said := decided(t, h, "dev-3"); !strings.Contains(said, `"attestation":{"assurance":"software","verdict":"none"}`) || strings.Contains(said, `"bond"`) {
		t.Errorf("the record says %s", said)
	}
}

// Another TPM under one identity, and one TPM under two: refused, whatever
// token there is, and the record names both while the answer does not.
func TestAnotherTPM(t *testing.T) {
	h, a := provingGround(t, "", "dev-1", "dev-2")
	p := newProver(t, h, a, "dev-1")
	p.proves("simpleenroll", p.activating())
	clone := p.stolen(a)
	clone.ask(clone.activating()).refused(t, h, "another TPM", 403, "ek_mismatch")
	other := newProver(t, h, a, "dev-2")
	other.tpm, other.ekCert = p.tpm.Clone(), p.ekCert
	got := other.tries("simpleenroll", other.activating())
	said := got.refused(t, h, "the same TPM under another name", 403, "ek_mismatch")
	if !strings.Contains(said, `"bound_to":"dev-1"`) || strings.Contains(got.body, "dev-1") {
		t.Errorf("the answer says %q, the record %s", got.body, said)
	}
	for _, device := range []string{"dev-1", "dev-2"} {
		if state := stateOf(t, h, device); strings.HasPrefix(state, "quarantined") {
			t.Errorf("%s is %s: whoever has a token could stop it", device, state)
		}
	}
	h.Hallmark("device", "unbind", "dev-1", "--reason", "moved to dev-2")
	other.newKey().proves("simpleenroll", other.activating())
}

// What is not what it was is stopped, by the server or by policy, with its refusal.
func TestQuarantinedByEvidence(t *testing.T) {
	h, a := provingGround(t, "", "dev-1", "dev-2")
	changed, back := newProver(t, h, a, "dev-1"), newProver(t, h, a, "dev-2")
	for _, p := range []*prover{changed, back} {
		p.proves("simpleenroll", p.activating())
		p.held()
	}
	changed.tpm.Extend(4, []byte("another boot loader"))
	said := changed.tries("simplereenroll", changed.pinned()).refused(t, h, "another boot", 403, "baseline_mismatch")
	if !strings.Contains(said, `"changed":[4]`) || !strings.Contains(said, `"obligations":["quarantine"]`) && !strings.Contains(said, `"type":"quarantine"`) {
		t.Errorf("the record says %s", said)
	}
	if state := stateOf(t, h, "dev-1"); !strings.HasPrefix(state, "quarantined baseline_mismatch: ") {
		t.Errorf("it is %s", state)
	}
	changed.ask(changed.pinned()).refused(t, h, "from then on", 403, "device_quarantined")
	if got := changed.enrol("simplereenroll", nil, ""); got.StatusCode != 403 || !strings.HasPrefix(got.body, "device_quarantined") {
		t.Errorf("without evidence: %d %s", got.StatusCode, got.body)
	}

	back.tpm.Clock.Clock -= 60_000
	said = back.tries("simplereenroll", back.pinned()).refused(t, h, "a clock that ran back", 403, "clock_rollback")
	if !strings.Contains(said, `"policy":"builtin"`) || !strings.Contains(said, "evidence_sha256") {
		t.Errorf("the record says %s", said)
	}
	if state := stateOf(t, h, "dev-2"); !strings.HasPrefix(state, "quarantined clock_rollback: ") {
		t.Errorf("it is %s", state)
	}
	h.Hallmark("device", "release", "dev-2")
	back.tpm.Clock.Clock += 120_000
	back.proves("simplereenroll", back.pinned())
}

// A TPM of an unknown maker waits for a person: one request, however often it
// asks, each time with a fresh nonce.
func TestUnknownMakerIsHeld(t *testing.T) {
	h, _ := provingGround(t, "", "dev-1", "dev-2")
	unknown := maker(t, "Nobody's Works")
	p, q := newProver(t, h, unknown, "dev-1"), newProver(t, h, unknown, "dev-2")
	for range 3 {
		got := p.tries("simpleenroll", p.activating())
		if got.StatusCode != 202 || got.Header.Get("Retry-After") == "" {
			t.Fatalf("%d %s", got.StatusCode, got.body)
		}
	}
	if said := decided(t, h, "dev-1"); !strings.Contains(said, `"ek_untrusted"`) || !strings.Contains(said, "evidence_sha256") {
		t.Errorf("the record says %s", said)
	}
	approve(t, h) // there is one
	p.proves("simpleenroll", p.activating())
	p.held().newKey()
	p.proves("simplereenroll", p.activating()) // it has been looked at once

	if got := q.tries("simpleenroll", q.activating()); got.StatusCode != 202 {
		t.Fatalf("%d %s", got.StatusCode, got.body)
	}
	trust(t, h, unknown, "ek", "device")
	q.proves("simpleenroll", q.activating())
}

// Evidence between renewals, by the certificate held.
func TestReattestation(t *testing.T) {
	h, a := provingGround(t, "", "dev-1", "dev-2")
	p, other := newProver(t, h, a, "dev-1"), newProver(t, h, a, "dev-2")
	p.proves("simpleenroll", p.activating())
	other.proves("simpleenroll", other.activating())
	c := p.challenged(p.pinned())
	if got := p.attests(p.bundle(c).DER(), c.cookie); got.StatusCode != 401 {
		t.Errorf("with a token: %d %s", got.StatusCode, got.body)
	}
	p.held()
	other.held()
	c = p.challenged(p.pinned())
	evidence := p.bundle(c)
	got := p.attests(evidence.DER(), c.cookie)
	var told struct {
		Decision, Verdict string
		Reasons           []string
	}
	if err := json.Unmarshal([]byte(got.body), &told); err != nil || got.StatusCode != 200 || got.Header.Get("Content-Type") != "application/json" || told.Decision == "" || told.Verdict == "" || told.Reasons == nil {
		t.Fatalf("%d %v %q", got.StatusCode, got.Header, got.body)
	}
	if said := shown(t, h, told.Decision); !strings.Contains(said, `"device.attest"`) || !strings.Contains(said, `"granted"`) || !strings.Contains(said, `"case":"B"`) {
		t.Errorf("the record says %s", said)
	}
	p.attests(evidence.DER(), c.cookie).refused(t, h, "once more", 403, "nonce_used")
	p.attests(evidence.DER(), "").refused(t, h, "without a nonce", 403, "nonce_missing")
	p.attests([]byte("{}"), c.cookie).refused(t, h, "nonsense", 400, "malformed_evidence")
	c = other.challenged(other.pinned())
	p.attests(p.bundle(c).DER(), c.cookie).refused(t, h, "another device's nonce", 403, "nonce_unknown")
	if got := p.send("GET", "/v1/devices/self/attestations", "", "", ""); got.StatusCode != 405 {
		t.Errorf("GET: %d", got.StatusCode)
	}
	c = p.challenged(p.pinned())
	raw := p.send("POST", "/v1/devices/self/attestations", "", c.cookie, string(p.bundle(c).DER()))
	if raw.StatusCode != 200 {
		t.Errorf("as DER: %d %s", raw.StatusCode, raw.body)
	}
	key := p.tpm.Key
	p.newKey()
	c = p.challenged(p.pinned())
	p.attests(p.bundle(c).DER(), c.cookie).refused(t, h, "about another key", 403, "key_mismatch")
	p.tpm.Key = key
	p.tpm.Extend(7, []byte("no secure boot"))
	c = p.challenged(p.pinned())
	p.attests(p.bundle(c).DER(), c.cookie).refused(t, h, "another boot", 403, "baseline_mismatch")
	if state := stateOf(t, h, "dev-1"); !strings.HasPrefix(state, "quarantined baseline_mismatch: ") {
		t.Errorf("it is %s", state)
	}
	stranger := housetest.Stranger(t, "dev-2")
	other.config.Certificates[0] = *stranger.TLS()
	other.attests([]byte{0x30, 0}, "").refused(t, h, "a stranger's certificate", 403, "certificate_foreign")
}

// A profile that asks for more than the usual gets it or refuses.
func TestStrictTerms(t *testing.T) {
	h, a := provingGround(t, "", "dev-1")
	p := newProver(t, h, a, "dev-1")
	p.prefix = "/.well-known/est/strict/"
	about := map[string]any{"hashAlgs": []string{"sha256", "sha384"}, "akPub": b64(p.tpm.AK.Area.Bytes()), "ekPub": b64(p.tpm.EK.Area.Bytes()), "ekCerts": []string{b64(p.ekCert)}}
	p.tries("simpleenroll", inTPMRequest(t, about)).refused(t, h, "without an event log", 403, "log_missing")
	p.ask(p.activating()).refused(t, h, "without the profile's bank", 403, "algorithm_not_allowed")
	c := p.challenged(inTPMRequest(t, about))
	b := p.bundle(c)
	tools := p.tpm.Certify([]byte{0, 0xff, 0x55, 0xaa}) // what tpm2_certify always says
	var err error
	if b.Certify, err = signedBy(tools, p.tpm.AK, p.tpm.Key.Area.Bytes()); err != nil {
		t.Fatal(err)
	}
	p.enrol("simpleenroll", b.DER(), c.cookie).refused(t, h, "a stale certify", 403, "certify_stale")
}

func signedBy(a *forge.Attest, key *forge.Key, third []byte) (*forge.Statement, error) {
	s, err := a.SignedBy(key)
	if err == nil {
		s.Third = third
	}
	return s, err
}

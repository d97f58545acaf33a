package est_test

import (
	"encoding/asn1"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/hallmark-pki/hallmark/internal/forge"
	"github.com/hallmark-pki/hallmark/internal/housetest"
)

const attesting = `
default_profile: device
profiles:
  device: {retry_after: 1s}
  strict: {evidence: required, evidence_on_renew: true, certify_freshness: require, event_log: require, pcr_banks: [sha384], pcrs: [7, 0]}
  needed: {evidence: required}
  renewed: {evidence_on_renew: true}
  keygen: {server_keygen: true}
`

// provingGround is a house whose profiles trust a maker, with these devices.
func provingGround(t *testing.T, more string, devices ...string) (*housetest.House, *forge.Authority) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(attesting+more), 0o600); err != nil {
		t.Fatal(err)
	}
	h := housetest.StartIn(t, dir)
	h.Import(devices...)
	a := maker(t, "Forge Works")
	for _, profile := range []string{"device", "strict", "needed", "renewed", "keygen"} {
		trust(t, h, a, "ek", profile)
	}
	return h, a
}

// An activation, and a renewal by the key that is pinned since. The record has
// what was shown, and the certificate says it.
func TestAttestedEnrolment(t *testing.T) {
	h, a := provingGround(t, "", "dev-1")
	p := newProver(t, h, a, "dev-1")
	p.proves("simpleenroll", p.activating())
	said := decided(t, h, "dev-1")
	for _, part := range []string{`"case":"C"`, `"fresh":true`, `"tpm_resident":true`, `"assurance":"tpm"`, `"evidence":"optional"`, `"manufacturer":"id:464F5247"`, `"evidence_sha256":"`, `"trusted":true`, `"lifetime":"4h0m0s"`} {
		if !strings.Contains(said, part) {
			t.Errorf("the record lacks %s: %s", part, said)
		}
	}
	if len(p.issued.PolicyIdentifiers) == 0 {
		t.Error("the certificate says nothing of the TPM")
	}
	p.held().newKey()
	p.proves("simplereenroll", p.pinned())
	if said = decided(t, h, "dev-1"); !strings.Contains(said, `"case":"B"`) || !strings.Contains(said, `"bond":{`) || !strings.Contains(said, `"age_s":0`) {
		t.Errorf("the record says %s", said)
	}
	if shown := h.Hallmark("attestation", "show", "dev-1", "-o", "json"); !strings.Contains(shown, `"case": "B"`) && !strings.Contains(shown, `"case":"B"`) {
		t.Errorf("attestation show: %s", shown)
	}
}

// The nonce's answer, to the letter.
func TestNonceAnswers(t *testing.T) {
	h, a := provingGround(t, "", "dev-1")
	p := newProver(t, h, a, "dev-1")
	for name, c := range map[string]struct{ prefix, body, bank string }{
		"GET":            {"/.well-known/est/", "", "TPM_ALG_SHA256"},
		"label":          {"/.well-known/est/strict/", "", "TPM_ALG_SHA384"},
		"other spelling": {"/strict/.well-known/est/", inTPMRequest(t, map[string]any{"hashAlgs": []string{"sha256", "sha384"}}), "TPM_ALG_SHA384"},
		"both banks":     {"/.well-known/est/device/", inTPMRequest(t, map[string]any{"hashAlgs": []string{"sha1", "sha384", "sha256"}}), "TPM_ALG_SHA384"},
		"none named":     {"/.well-known/est/", `{}`, "TPM_ALG_SHA256"},
		"activation":     {"/.well-known/est/", p.activating(), "TPM_ALG_SHA256"},
	} {
		p.prefix = c.prefix
		got := p.ask(c.body)
		cookie := got.Header.Get("Set-Cookie")
		if got.StatusCode != 200 || got.Header.Get("Content-Type") != freshness || got.Header.Get("Cache-Control") != "no-store" ||
			!strings.HasPrefix(cookie, "estnonce=") || !strings.HasSuffix(cookie, "; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=300") || len(cookie) > 4096 {
			t.Errorf("%s: %d %q %q", name, got.StatusCode, got.Header, got.body)
			continue
		}
		told := p.challenged(c.body)
		r := told.RespTypeInfo
		if len(unb64(t, told.Nonce)) != 32 || told.Expiry != 300 || r == nil || r.Type != "2.25.197995676531165126923878663687273591694.2" ||
			!r.RespInfo.Quote || !r.RespInfo.EventLog || !r.RespInfo.Certify || (r.RespInfo.Activation != nil) != (name == "activation") {
			t.Errorf("%s: %+v", name, told)
			continue
		}
		pcrs := []int{0, 1, 2, 3, 4, 5, 6, 7, 9, 14}
		if strings.Contains(c.prefix, "strict") {
			pcrs = []int{0, 7}
		}
		if s := r.RespInfo.Selection; len(s) != 1 || s[0].Algo != c.bank || len(s[0].Index) != len(pcrs) || s[0].Index[1] != pcrs[1] {
			t.Errorf("%s: %+v", name, s)
		}
	}
	p.prefix = "/.well-known/est/"
	if told := p.challenged(`{"len": 8, "unknown": {}}`); len(unb64(t, told.Nonce)) != 8 {
		t.Errorf("a short nonce: %s", told.Nonce)
	}
	if told := p.challenged(`{"reqTypeInfo": {"type": "1.2.3", "reqInfo": []}}`); told.RespTypeInfo != nil || told.cookie == "" {
		t.Errorf("to a foreign type: %+v", told)
	}
}

// Who asks for a nonce is refused as the enrolment would be, without JSON.
func TestNonceRefusals(t *testing.T) {
	h, a := provingGround(t, "", "dev-1", "dev-2")
	p := newProver(t, h, a, "dev-1").stay()
	for name, c := range map[string]struct {
		method, contentType, body string
		status                    int
		code                      string
	}{
		"another type":   {"POST", "application/json", "{}", 415, "content_type"},
		"no type":        {"POST", "", "{}", 415, "content_type"},
		"a charset":      {"POST", freshness + "; charset=latin1", "{}", 415, "content_type"},
		"PUT":            {"PUT", freshness, "{}", 405, "method"},
		"HEAD":           {"HEAD", "", "", 405, ""},
		"too large":      {"POST", freshness, strings.Repeat(" ", 33<<10), 413, "too_large"},
		"malformed":      {"POST", freshness, "{", 400, "nonce_malformed"},
		"too short":      {"POST", freshness, `{"len": 7}`, 400, "nonce_malformed"},
		"no key":         {"POST", freshness, inTPMRequest(t, map[string]any{"akPub": "AAAA"}), 400, "malformed_evidence"},
		"no common bank": {"POST", freshness, inTPMRequest(t, map[string]any{"hashAlgs": []string{"sha1"}}), 403, "algorithm_not_allowed"},
	} {
		got := p.send(c.method, p.prefix+"nonce", c.contentType, "", c.body)
		if got.StatusCode != c.status || !strings.HasPrefix(got.body, c.code) || !strings.HasPrefix(got.Header.Get("Content-Type"), "text/plain") || got.Header.Get("Set-Cookie") != "" {
			t.Errorf("%s: %d %v %q", name, got.StatusCode, got.Header, got.body)
		}
		if recorded := name == "malformed" || name == "too short" || name == "no key" || name == "no common bank"; recorded {
			if said := got.refused(t, h, name, c.status, c.code); !strings.Contains(said, `"operation"`) || !strings.Contains(said, "nonce") {
				t.Errorf("%s: the record says %s", name, said)
			}
		}
	}
	if got := p.send("POST", p.prefix+"nonce", freshness+"; charset=UTF-8", "", "{}"); got.StatusCode != 200 {
		t.Errorf("with a charset: %d", got.StatusCode)
	}
	unknown := newProver(t, h, a, "dev-2")
	unknown.token = "hmt_wrong"
	unknown.ask("").refused(t, h, "a wrong token", 401, "token_unknown")
	unknown.token = ""
	if got := unknown.ask("{}"); got.StatusCode != 401 || got.Header.Get("WWW-Authenticate") == "" {
		t.Errorf("nobody: %d %q", got.StatusCode, got.body)
	}
	h.Hallmark("device", "quarantine", "dev-1", "--reason", "test")
	p.ask("").refused(t, h, "quarantined", 403, "device_quarantined")
	h.Hallmark("device", "retire", "dev-1", "--reason", "test")
	p.ask(p.activating()).refused(t, h, "retired", 403, "device_retired")
}

func TestNonceLimits(t *testing.T) {
	h, a := provingGround(t, "attestation: {nonces_per_device: 3, nonces_per_source: 5}\n", "dev-1", "dev-2", "dev-3")
	for _, c := range []struct {
		device string
		good   int
	}{{"dev-1", 3}, {"dev-2", 2}, {"dev-3", 0}} {
		p := newProver(t, h, a, c.device)
		for range c.good {
			p.challenged("")
		}
		got := p.ask("{}")
		if got.StatusCode != 429 || !strings.HasPrefix(got.body, "rate_limited: ") || got.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %d %v %q", c.device, got.StatusCode, got.Header, got.body)
		}
	}
}

// What is wrong with the nonce that evidence answers.
func TestNonces(t *testing.T) {
	h, a := provingGround(t, "attestation: {nonce_expiry: 2s, nonces_per_device: 10000}\n", "dev-1", "dev-2")
	p, other := newProver(t, h, a, "dev-1"), newProver(t, h, a, "dev-2")
	try := func(name string, c *challenge, cookie, code string) {
		t.Helper()
		p.enrol("simpleenroll", p.bundle(c).DER(), cookie).refused(t, h, name, 403, code)
	}
	c := p.challenged(p.activating())
	try("no cookie, another connection", c, "", "nonce_missing")
	try("garbled", c, c.cookie[:len(c.cookie)-4], "nonce_unknown")
	try("nonsense", c, "abc", "nonce_unknown")
	foreign := other.challenged(other.activating())
	p.enrol("simpleenroll", p.bundle(c).DER(), foreign.cookie).refused(t, h, "another device's", 403, "nonce_unknown")
	p.prefix = "/.well-known/est/needed/"
	try("another profile's", c, c.cookie, "nonce_unknown")
	p.prefix = "/.well-known/est/device/" // the same by another name
	if got := p.enrol("simpleenroll", p.bundle(c).DER(), c.cookie); got.StatusCode != 200 {
		t.Errorf("the right one: %d %s", got.StatusCode, got.body)
	}
	try("used", c, c.cookie, "nonce_used")
	stale := p.challenged(p.pinned())
	evidence := p.bundle(c).DER() // answers the first challenge
	p.enrol("simpleenroll", evidence, stale.cookie).refused(t, h, "of another exchange", 403, "certify_stale")
	try("used up by a refusal", stale, stale.cookie, "nonce_used")
	late := p.challenged(p.pinned())
	p.enrol("simpleenroll", []byte{0x30, 0}, late.cookie).refused(t, h, "unreadable", 400, "malformed_evidence")
	made := p.bundle(late).DER()
	time.Sleep(2 * time.Second) // until it has expired; longer is no matter
	p.enrol("simpleenroll", made, late.cookie).refused(t, h, "expired", 403, "nonce_expired")
}

// Without cookies the connection stands for the exchange, and no other one does.
func TestNonceByConnection(t *testing.T) {
	h, a := provingGround(t, "", "dev-1", "dev-2")
	p := newProver(t, h, a, "dev-1").stay()
	c := p.challenged(p.activating())
	if got := p.enrol("simpleenroll", p.bundle(c).DER(), ""); got.StatusCode != 200 {
		t.Errorf("over the same connection: %d %s", got.StatusCode, got.body)
	}
	p.enrol("simpleenroll", p.bundle(c).DER(), "").refused(t, h, "once more", 403, "nonce_used")
	first := p.challenged(p.pinned())
	second := p.challenged(p.pinned())
	p.enrol("simpleenroll", p.bundle(first).DER(), "").refused(t, h, "the one before the last", 403, "certify_stale")
	if got := p.enrol("simpleenroll", p.bundle(first).DER(), first.cookie); got.StatusCode != 200 {
		t.Errorf("a cookie stands over the connection: %d %s", got.StatusCode, got.body)
	}
	_ = second
	c = p.challenged(p.pinned())
	p.client.CloseIdleConnections()
	p.enrol("simpleenroll", p.bundle(c).DER(), "").refused(t, h, "over another connection", 403, "nonce_missing")
}

// However many bring one nonce at the same moment, one certificate comes of it.
func TestReplayedAtOnce(t *testing.T) {
	h, a := provingGround(t, "limits: {identity_burst: 1000}\n", "dev-1")
	p := newProver(t, h, a, "dev-1").stay()
	c := p.challenged(p.activating())
	bundle := p.bundle(c).DER()
	csr, err := p.tpm.CSR(p.device, bundle)
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	codes := make([]string, 100)
	for i := range codes {
		wait.Go(func() {
			client, _ := h.Client()
			codes[i] = sendCSR(t, client, h.URL, p, csr, c.cookie)
		})
	}
	wait.Wait()
	issued := 0
	for _, code := range codes {
		switch code {
		case "":
			issued++
		case "nonce_used":
		default:
			t.Errorf("one got %s", code)
		}
	}
	if issued != 1 {
		t.Errorf("%d certificates", issued)
	}
}

// Evidence that does not hold, at the door: its code in the answer and in the
// record. The vectors themselves are tested where they are verified.
func TestEvidenceRefused(t *testing.T) {
	h, a := provingGround(t, "", "dev-1")
	p := newProver(t, h, a, "dev-1")
	later := func(f func(*forge.Bundle)) func(*prover, *forge.Bundle) {
		return func(_ *prover, b *forge.Bundle) { f(b) }
	}
	stories := map[string]struct {
		change func(*prover, *forge.Bundle)
		status int
		code   string
	}{
		"two quotes": {later(func(b *forge.Bundle) {
			b.Further = [][]byte{forge.Wrap(forge.QuoteStatement, casn1.SEQUENCE, nil)}
		}), 403, "duplicate_statement"},
		"only what is unknown": {later(func(b *forge.Bundle) {
			*b = forge.Bundle{Further: [][]byte{forge.Wrap(asn1.ObjectIdentifier{1, 2, 3}, casn1.OCTET_STRING, []byte("x"))}}
		}), 403, "unsupported_evidence"},
		"a signature changed":   {later(func(b *forge.Bundle) { b.Quote.Signature[len(b.Quote.Signature)-1] ^= 1 }), 403, "signature_invalid"},
		"no certify":            {later(func(b *forge.Bundle) { b.Certify = nil }), 403, "key_not_certified"},
		"a PCR changed":         {later(func(b *forge.Bundle) { b.Quote.Third[0] ^= 1 }), 403, "pcr_digest"},
		"a log that is not one": {later(func(b *forge.Bundle) { b.EventLog = []byte("log") }), 403, "log_malformed"},
	}
	for name, s := range stories {
		c := p.challenged(p.activating())
		b := p.bundle(c)
		s.change(p, b)
		said := p.enrol("simpleenroll", b.DER(), c.cookie).refused(t, h, name, s.status, s.code)
		if s.status == 403 && s.code != "unsupported_evidence" && s.code != "duplicate_statement" && !strings.Contains(said, "evidence_sha256") {
			t.Errorf("%s: the record does not say what was refused: %s", name, said)
		}
	}
	c := p.challenged(p.activating())
	b := p.bundle(c)
	p.newKey()
	p.enrol("simpleenroll", b.DER(), c.cookie).refused(t, h, "another key", 403, "key_mismatch")
	if shown := h.Hallmark("device", "show", "dev-1", "-o", "json"); !strings.Contains(shown, "expected") {
		t.Errorf("after mistakes: %s", shown)
	}
}

package housetest_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/internal/estclient"
	"github.com/hallmark-pki/hallmark/internal/forge"
	"github.com/hallmark-pki/hallmark/internal/housetest"
)

// introduction is the body of an attest request, as smallstep's client writes it.
type introduction struct {
	Info struct {
		Version int `json:"version"`
	} `json:"tpmInfo"`
	EK      []byte   `json:"ek"`
	EKCerts [][]byte `json:"ekCerts,omitempty"`
	Params  struct {
		Public      []byte `json:"public"`
		TrouSerS    bool   `json:"useTCSDActivationFormat,omitempty"`
		Data        []byte `json:"createData"`
		Attestation []byte `json:"createAttestation"`
		Signature   []byte `json:"createSignature"`
	} `json:"params"`
}

// creationType is TPM_ST_ATTEST_CREATION.
const creationType = 0x801a

// introduce is an honest introduction of a forged TPM and its attestation key.
func introduce(t testing.TB, f *forge.TPM, ekCerts ...[]byte) *introduction {
	t.Helper()
	i := &introduction{EK: f.EK.SPKI(), EKCerts: ekCerts}
	i.Info.Version = 2
	i.Params.Public, i.Params.Data = f.AK.Area.Bytes(), []byte("creation data, which nobody reads")
	i.sign(t, creation(f, i.Params.Data), f.AK)
	return i
}

func creation(f *forge.TPM, data []byte) *forge.Attest {
	sum := sha256.Sum256(data)
	return &forge.Attest{Magic: forge.Generated, Type: creationType, Clock: f.Clock, Name: f.AK.Area.Name(), Qualified: sum[:]}
}

func (i *introduction) sign(t testing.TB, a *forge.Attest, key *forge.Key) {
	t.Helper()
	s, err := a.SignedBy(key)
	if err != nil {
		t.Fatal(err)
	}
	i.Params.Attestation, i.Params.Signature = s.Attest, s.Signature
}

// ask sends an object to the attestation CA, and reads the answer.
func ask(t testing.TB, h *housetest.House, path string, body any) (status int, answer map[string]any) {
	t.Helper()
	text, ok := body.([]byte)
	if !ok {
		var err error
		if text, err = json.Marshal(body); err != nil {
			t.Fatal(err)
		}
	}
	client, _ := h.Client()
	response, err := client.Post(h.URL+path, "", bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err == nil {
		err = json.Unmarshal(raw, &answer)
	}
	if err != nil {
		t.Fatalf("%s: %v\n%s", path, err, raw)
	}
	return response.StatusCode, answer
}

// open has the forged TPM open the secret of an answer.
func open(t testing.TB, f *forge.TPM, answer map[string]any) []byte {
	t.Helper()
	var parts struct{ Credential, Secret []byte }
	text, err := json.Marshal(answer)
	if err == nil {
		err = json.Unmarshal(text, &parts)
	}
	if err != nil {
		t.Fatal(err)
	}
	secret, err := f.Activate(parts.Credential, parts.Secret)
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

func newForge(t testing.TB, ek, ak string) *forge.TPM {
	t.Helper()
	f, err := forge.New(ek, ak, "p256")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func digestOf(spki []byte) string {
	sum := sha256.Sum256(spki)
	return hex.EncodeToString(sum[:])
}

// refusedAs checks status and code of a refusal, and that it can be referred to.
func refusedAs(t testing.TB, what string, status int, answer map[string]any, wantStatus int, code string) {
	t.Helper()
	if status != wantStatus || answer["code"] != code || answer["ref"] == "" || answer["detail"] == "" {
		t.Errorf("%s: got %d %v, want %d %s", what, status, answer, wantStatus, code)
	}
}

// TestAttestationKeysAreNotCertifiedForLies sends each lie that an introduction can tell.
func TestAttestationKeysAreNotCertifiedForLies(t *testing.T) {
	h := housetest.Start(t, "--rate-limits=off")
	f, other := newForge(t, "rsa", "p256"), newForge(t, "p256", "p256")
	maker, err := forge.NewAuthority("A maker")
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := maker.EK(other, forge.Model{Manufacturer: "id:46524745", Model: "f", Version: "id:1"})
	if err != nil {
		t.Fatal(err)
	}
	importTPM(t, h, "gw-1", digestOf(f.EK.SPKI()))
	odd, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	oddEK, err := x509.MarshalPKIXPublicKey(odd.Public())
	if err != nil {
		t.Fatal(err)
	}
	for name, lie := range map[string]struct {
		tell   func(*introduction)
		status int
		code   string
	}{
		"a TPM nobody registered":     {func(i *introduction) { *i = *introduce(t, other) }, 403, "device_unknown"},
		"TPM 1.2":                     {func(i *introduction) { i.Info.Version = 1 }, 400, "request_malformed"},
		"a TPM 1.2's activation":      {func(i *introduction) { i.Params.TrouSerS = true }, 400, "request_malformed"},
		"no endorsement key":          {func(i *introduction) { i.EK = nil }, 400, "request_malformed"},
		"no attestation key":          {func(i *introduction) { i.Params.Public = nil }, 400, "request_malformed"},
		"too many certificates":       {func(i *introduction) { i.EKCerts = make([][]byte, 11) }, 400, "request_malformed"},
		"an endorsement key of noise": {func(i *introduction) { i.EK = forge.Nonce(294) }, 400, "malformed_evidence"},
		"an odd endorsement key":      {func(i *introduction) { i.EK = oddEK }, 403, "algorithm_not_allowed"},
		"another TPM's certificate":   {func(i *introduction) { i.EKCerts = [][]byte{foreign} }, 403, "ek_mismatch"},
		"a certificate of noise":      {func(i *introduction) { i.EKCerts = [][]byte{forge.Nonce(500)} }, 400, "malformed_evidence"},
		"an attestation key of noise": {func(i *introduction) { i.Params.Public = forge.Nonce(100) }, 400, "malformed_evidence"},
		"a key that signs anything": {func(i *introduction) {
			loose := *f
			loose.AK = &forge.Key{Private: f.AK.Private, Area: f.AK.Area}
			loose.AK.Area.Attributes &^= forge.Restricted
			*i = *introduce(t, &loose)
		}, 403, "ak_attributes"},
		"signed by another key": {func(i *introduction) { i.sign(t, creation(f, i.Params.Data), other.AK) }, 403, "signature_invalid"},
		"about another key":     {func(i *introduction) { i.sign(t, creation(other, i.Params.Data), f.AK) }, 403, "key_not_certified"},
		"other creation data":   {func(i *introduction) { i.Params.Data = []byte("other") }, 403, "key_not_certified"},
		"not made by a TPM": {func(i *introduction) {
			a := creation(f, i.Params.Data)
			a.Magic++
			i.sign(t, a, f.AK)
		}, 403, "not_tpm_generated"},
		"another kind of statement": {func(i *introduction) {
			a := creation(f, i.Params.Data)
			a.Type = forge.CertifyType
			i.sign(t, a, f.AK)
		}, 403, "wrong_attest_type"},
		"bytes after the statement": {func(i *introduction) {
			a := creation(f, i.Params.Data)
			a.Trailing = []byte{0}
			i.sign(t, a, f.AK)
		}, 400, "malformed_evidence"},
		"a signature of noise": {func(i *introduction) { i.Params.Signature = forge.Nonce(72) }, 403, "algorithm_not_allowed"},
	} {
		i := introduce(t, f)
		lie.tell(i)
		status, answer := ask(t, h, "/attestation/attest", i)
		if name == "a signature of noise" && status == 400 { // as chance has it
			continue
		}
		refusedAs(t, name, status, answer, lie.status, lie.code)
		if lie.code == "request_malformed" {
			continue // no request yet, so nothing to record
		}
		if shown := h.Hallmark("decision", "show", answer["ref"].(string)); !strings.Contains(shown, lie.code) {
			t.Errorf("%s: the record says\n%s", name, shown)
		}
	}
}

// TestAttestationKeysOfEachKind has every kind of key certified, with and
// without a certificate of its TPM; and nothing but the right secret does it, once.
func TestAttestationKeysOfEachKind(t *testing.T) {
	h := housetest.Start(t, "--rate-limits=off")
	maker, err := forge.NewAuthority("A maker")
	if err != nil {
		t.Fatal(err)
	}
	root := writePEM(t, maker.Certificate)
	h.Hallmark("anchor", "add", "--profile", "device", "--kind", "ek", root)
	for _, kinds := range [][2]string{{"rsa", "rsa"}, {"rsa", "p256"}, {"p256", "p256"}, {"p384", "p384"}} {
		f := newForge(t, kinds[0], kinds[1])
		id := "gw-" + kinds[0] + "-" + kinds[1]
		importTPM(t, h, id, digestOf(f.EK.SPKI()))
		certificate, err := maker.EK(f, forge.Model{Manufacturer: "id:46524745", Model: "forge", Version: "id:1"})
		if err != nil {
			t.Fatal(err)
		}
		i := introduce(t, f, certificate)
		if kinds[1] == "p384" { // whose nameAlg is SHA-384
			a := creation(f, i.Params.Data)
			a.Qualified = sha384(i.Params.Data)
			i.sign(t, a, f.AK)
		}
		status, answer := ask(t, h, "/attestation/device/attest", i)
		if status != 200 {
			t.Fatalf("%s: %d %v\n%s", id, status, answer, h.Log())
		}
		secret := open(t, f, answer)
		wrong := bytes.Clone(secret)
		wrong[0]++
		status, answer = ask(t, h, "/attestation/device/secret", map[string]any{"secret": wrong})
		refusedAs(t, "a wrong secret", status, answer, 403, "activation_failed")
		status, answer = ask(t, h, "/attestation/device/secret", map[string]any{"secret": secret[:31]})
		refusedAs(t, "a short secret", status, answer, 400, "request_malformed")
		status, answer = ask(t, h, "/attestation/secret", map[string]any{"secret": secret}) // device is the default, too
		if status != 200 {
			t.Fatalf("%s: %d %v\n%s", id, status, answer, h.Log())
		}
		c := leafOf(t, answer)
		if !bytes.Equal(c.RawSubjectPublicKeyInfo, f.AK.SPKI()) || !bytes.Contains(c.Raw, []byte("id:46524745")) || !bytes.Contains(c.Raw, []byte(id)) {
			t.Errorf("%s: the certificate does not name device and TPM", id)
		}
		status, answer = ask(t, h, "/attestation/secret", map[string]any{"secret": secret})
		refusedAs(t, "a secret used twice", status, answer, 403, "activation_failed")
	}
}

func sha384(b []byte) []byte {
	sum := sha512.Sum384(b)
	return sum[:]
}

func writePEM(t testing.TB, c *x509.Certificate) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// leafOf is the certificate in a secret's answer.
func leafOf(t testing.TB, answer map[string]any) *x509.Certificate {
	t.Helper()
	var parts struct{ Chain [][]byte }
	text, err := json.Marshal(answer)
	if err == nil {
		err = json.Unmarshal(text, &parts)
	}
	if err != nil || len(parts.Chain) != 2 {
		t.Fatalf("%d certificates: %v", len(parts.Chain), err)
	}
	c, err := x509.ParseCertificate(parts.Chain[0])
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// certified is a registered device's attestation key with its certificate.
func certified(t testing.TB, h *housetest.House, id string) (*forge.TPM, *x509.Certificate) {
	t.Helper()
	f := newForge(t, "p256", "p256")
	file := filepath.Join(t.TempDir(), "devices.csv")
	if err := os.WriteFile(file, []byte("id,ek_sha256\n"+id+","+digestOf(f.EK.SPKI())+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.Hallmark("device", "import", file)
	status, answer := ask(t, h, "/attestation/attest", introduce(t, f))
	if status != 200 {
		t.Fatalf("%d %v", status, answer)
	}
	if status, answer = ask(t, h, "/attestation/secret", map[string]any{"secret": open(t, f, answer)}); status != 200 {
		t.Fatalf("%d %v", status, answer)
	}
	return f, leafOf(t, answer)
}

// TestAttestationKeyIsNoClient shows an attestation key's certificate as TLS
// client certificate wherever a device's own would do. The key of a real TPM could hardly sign for
// that; the server does not rely on it.
func TestAttestationKeyIsNoClient(t *testing.T) {
	h := housetest.Start(t, "--rate-limits=off")
	f, certificate := certified(t, h, "gw-1")
	client := h.EST("", "")
	client.Certificate = &tls.Certificate{Certificate: [][]byte{certificate.Raw}, PrivateKey: f.AK.Private}
	session, err := client.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	csr, err := (&estclient.Request{Key: f.Key.Private}).DER()
	if err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]func() error{
		"renewal":   func() error { _, err := session.Reenroll(t.Context(), csr); return err },
		"enrolment": func() error { _, err := session.Enroll(t.Context(), csr); return err },
		"nonce":     func() error { _, err := session.Nonce(t.Context(), estclient.Freshness{}); return err },
		"evidence":  func() error { _, err := session.Attest(t.Context(), []byte{0x30, 0}); return err },
		"own key":   func() error { _, err := session.Reenroll(t.Context(), ownRequest(t, f)); return err },
	} {
		if err := try(); err == nil || !strings.Contains(err.Error(), "403 attestation_key_certificate") {
			t.Errorf("%s: %v", name, err)
		}
	}
	h.Hallmark("device", "quarantine", "gw-1", "--reason", "test")
	status, answer := ask(t, h, "/attestation/attest", introduce(t, f))
	if status == 200 {
		status, answer = ask(t, h, "/attestation/secret", map[string]any{"secret": open(t, f, answer)})
	}
	refusedAs(t, "a quarantined device", status, answer, 403, "device_quarantined")
}

// ownRequest is a request over the attestation key itself.
func ownRequest(t testing.TB, f *forge.TPM) []byte {
	t.Helper()
	csr, err := (&estclient.Request{Key: f.AK.Private}).DER()
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

// TestAttestationCATransport has everything that is no request refused, and asking bounded.
func TestAttestationCATransport(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte("attestation:\n  nonces_per_source: 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := housetest.StartIn(t, dir)
	for what, try := range map[string]struct {
		path, body string
		status     int
		code       string
	}{
		"nothing":             {"/attestation/attest", "", 400, "request_malformed"},
		"no object":           {"/attestation/attest", "[]", 400, "request_malformed"},
		"base64url":           {"/attestation/secret", `{"secret":"_-8"}`, 400, "request_malformed"},
		"too much":            {"/attestation/attest", `{"ek":"` + strings.Repeat("A", 70<<10) + `"}`, 413, "too_large"},
		"another operation":   {"/attestation/certify", "{}", 404, "path_unknown"},
		"no label":            {"/attestation//attest", "{}", 404, "path_unknown"},
		"an unknown label":    {"/attestation/x/attest", "{}", 404, "profile_unknown"},
		"an escaped path":     {"/attestation/%61ttest", "{}", 404, "path_unknown"},
		"something behind it": {"/attestation/attest/", "{}", 404, "path_unknown"},
	} {
		status, answer := ask(t, h, try.path, []byte(try.body))
		refusedAs(t, what, status, answer, try.status, try.code)
	}
	client, _ := h.Client()
	response, err := client.Get(h.URL + "/attestation/attest")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusMethodNotAllowed || response.Header.Get("Allow") != "POST" {
		t.Errorf("GET: %s", response.Status)
	}
	f := newForge(t, "p256", "p256")
	for n := range 4 {
		status, answer := ask(t, h, "/attestation/attest", introduce(t, f))
		if n < 3 {
			refusedAs(t, "a stranger", status, answer, 403, "device_unknown")
			continue
		}
		refusedAs(t, "a stranger who insists", status, answer, 429, "rate_limited")
	}
}

// TestOneTPMOneDevice has a TPM that the register lists twice, and a device
// that came with another TPM before, go without.
func TestOneTPMOneDevice(t *testing.T) {
	h := housetest.Start(t, "--rate-limits=off")
	maker, err := forge.NewAuthority("A maker")
	if err != nil {
		t.Fatal(err)
	}
	h.Hallmark("anchor", "add", "--profile", "device", "--kind", "ek", writePEM(t, maker.Certificate))
	twice := newForge(t, "p256", "p256")
	importTPM(t, h, "gw-1", digestOf(twice.EK.SPKI()))
	importTPM(t, h, "gw-2", digestOf(twice.EK.SPKI()))
	status, answer := ask(t, h, "/attestation/attest", introduce(t, twice))
	refusedAs(t, "listed twice", status, answer, 409, "ek_ambiguous")

	first, second := newForge(t, "p256", "p256"), newForge(t, "p256", "p256")
	certificate, err := maker.EK(first, forge.Model{Manufacturer: "id:46524745", Model: "forge", Version: "id:1"})
	if err != nil {
		t.Fatal(err)
	}
	h.Import("gw-3")
	session, err := h.EST("gw-3", h.Token("--device", "gw-3")).Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	csr, _ := evidence(t, session, first, certificate)
	issued, err := session.Enroll(t.Context(), csr)
	if err != nil {
		t.Fatal(err)
	}
	// A TPM whose boot nothing affirms gets no day, but four hours.
	if life := issued.NotAfter.Sub(issued.NotBefore); life > 4*time.Hour+time.Minute {
		t.Errorf("the certificate lives for %s", life)
	}
	renewed := renewWithoutEvidence(t, h, first, issued)
	if life := renewed.NotAfter.Sub(renewed.NotBefore); life > 4*time.Hour+time.Minute || len(renewed.Policies) != 2 {
		t.Errorf("renewed without evidence, the certificate lives for %s and says %v", life, renewed.Policies)
	}
	status, answer = ask(t, h, "/attestation/attest", introduce(t, first)) // known by its bond alone
	if status != 200 {
		t.Fatalf("%d %v", status, answer)
	}
	importTPM(t, h, "gw-3", digestOf(second.EK.SPKI()))
	for name, f := range map[string]*forge.TPM{"the one before": first, "the one registered since": second} {
		status, answer = ask(t, h, "/attestation/attest", introduce(t, f))
		refusedAs(t, name, status, answer, 403, "ek_mismatch")
	}
	h.Hallmark("device", "unbind", "gw-3", "--reason", "board replaced")
	if status, answer = ask(t, h, "/attestation/attest", introduce(t, second)); status != 200 {
		t.Errorf("after the bond was lifted: %d %v", status, answer)
	}
}

// renewWithoutEvidence renews over the key that the TPM has certified before.
func renewWithoutEvidence(t testing.TB, h *housetest.House, f *forge.TPM, old *x509.Certificate) *x509.Certificate {
	t.Helper()
	client := h.EST("", "")
	client.Certificate = &tls.Certificate{Certificate: [][]byte{old.Raw}, PrivateKey: f.Key.Private}
	session, err := client.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	csr, err := (&estclient.Request{Key: f.Key.Private}).DER()
	if err != nil {
		t.Fatal(err)
	}
	renewed, err := session.Reenroll(t.Context(), csr)
	if err != nil {
		t.Fatal(err)
	}
	return renewed
}

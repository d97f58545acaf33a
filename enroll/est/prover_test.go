package est_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hallmark-pki/hallmark/internal/forge"
	"github.com/hallmark-pki/hallmark/internal/housetest"
)

// prover is a device with a TPM that does only what a test tells it to. It keeps no cookies
// by itself, and each of its connections is one request long unless stay is set.
type prover struct {
	t      *testing.T
	h      *housetest.House
	tpm    *forge.TPM
	client *http.Client
	config *tls.Config

	device, token string
	prefix        string // of the paths: "" or "/.well-known/est/LABEL" and the like
	ekCert        []byte
	issued        *x509.Certificate
}

// maker is the authority behind the endorsement keys of these tests.
func maker(t *testing.T, name string) *forge.Authority {
	t.Helper()
	a, err := forge.NewAuthority(name)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// trust adds an anchor for the profile.
func trust(t *testing.T, h *housetest.House, a *forge.Authority, kind, profile string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "anchor.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate.Raw})
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	h.Hallmark("anchor", "add", "--kind", kind, "--profile", profile, file)
}

func newProver(t *testing.T, h *housetest.House, a *forge.Authority, device string) *prover {
	t.Helper()
	machine, err := forge.New("p256", "p256", "p256")
	if err != nil {
		t.Fatal(err)
	}
	p := &prover{t: t, h: h, tpm: machine, device: device, token: h.Token("--device", device, "--uses", "100"), prefix: "/.well-known/est/"}
	p.client, p.config = h.Client()
	p.client.Transport.(*http.Transport).DisableKeepAlives = true
	if a != nil {
		if p.ekCert, err = a.EK(machine, forge.Model{Manufacturer: "id:464F5247", Model: "Forge", Version: "id:00010002"}); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// stay keeps the connection from one request to the next.
func (p *prover) stay() *prover {
	p.client.Transport.(*http.Transport).DisableKeepAlives = false
	return p
}

// held makes the device show its certificate from now on, and no token.
func (p *prover) held() *prover {
	p.config.Certificates = []tls.Certificate{{Certificate: [][]byte{p.issued.Raw}, PrivateKey: p.tpm.Key.Private}}
	p.token = ""
	return p
}

// challenge is a nonce answer, with the cookie that came with it.
type challenge struct {
	Nonce        string
	Expiry       int
	RespTypeInfo *struct {
		Type     string
		RespInfo struct {
			Selection []struct {
				Algo  string `json:"tpm20-hash-algo"`
				Index []int  `json:"pcr-index"`
			} `json:"tpm20-pcr-selection"`
			Quote, EventLog, Certify bool
			Activation               *struct{ CredentialBlob, EncryptedSecret string }
		}
	}
	cookie string
}

// answer is what the server said, read whole.
type answer struct {
	*http.Response
	body string
}

// refused checks that a request was refused with a status and a code, and
// returns what the record says of it.
func (a *answer) refused(t *testing.T, h *housetest.House, name string, status int, code string) string {
	t.Helper()
	lines := strings.Split(a.body, "\n")
	if a.StatusCode != status || !strings.HasPrefix(a.body, code+": ") || len(lines) != 3 {
		t.Errorf("%s: got %d %q, want %d %s", name, a.StatusCode, a.body, status, code)
		return ""
	}
	decision := shown(t, h, strings.TrimPrefix(lines[1], "ref: "))
	if !strings.Contains(decision, `"`+code+`"`) {
		t.Errorf("%s: the record says %s", name, decision)
	}
	return decision
}

func (p *prover) send(method, path, contentType, cookie, body string) *answer {
	p.t.Helper()
	request, err := http.NewRequest(method, p.h.URL+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	if cookie != "" {
		request.Header.Set("Cookie", "other=1; estnonce="+cookie)
	}
	if p.token != "" {
		request.SetBasicAuth(p.device, p.token)
	}
	got, err := p.client.Do(request)
	if err != nil {
		p.t.Fatal(err)
	}
	defer got.Body.Close()
	read, err := io.ReadAll(got.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return &answer{got, string(read)}
}

const freshness = "application/est-attestation-freshness+json"

// ask sends a nonce request; an empty body is a GET.
func (p *prover) ask(body string) *answer {
	p.t.Helper()
	if body == "" {
		return p.send("GET", p.prefix+"nonce", "", "", "")
	}
	return p.send("POST", p.prefix+"nonce", freshness, "", body)
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// activating is the request of a device that has its attestation key activated.
func (p *prover) activating() string {
	about := map[string]any{"hashAlgs": []string{"sha256"}, "akPub": b64(p.tpm.AK.Area.Bytes()), "ekPub": b64(p.tpm.EK.Area.Bytes())}
	if p.ekCert != nil {
		about["ekCerts"] = []string{b64(p.ekCert)}
	}
	return inTPMRequest(p.t, about)
}

// pinned is the request of a device whose attestation key is known.
func (p *prover) pinned() string {
	return inTPMRequest(p.t, map[string]any{"hashAlgs": []string{"sha256"}, "akPub": b64(p.tpm.AK.Area.Bytes())})
}

func inTPMRequest(t *testing.T, about map[string]any) string {
	t.Helper()
	text, err := json.Marshal(map[string]any{"len": 32, "reqTypeInfo": map[string]any{
		"type": "2.25.197995676531165126923878663687273591694.1", "reqInfo": about}})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// challenged asks and wants an answer.
func (p *prover) challenged(body string) *challenge {
	p.t.Helper()
	a := p.ask(body)
	if a.StatusCode != 200 || a.Header.Get("Content-Type") != freshness {
		p.t.Fatalf("nonce: %d %s %q", a.StatusCode, a.Header.Get("Content-Type"), a.body)
	}
	c := &challenge{}
	if err := json.Unmarshal([]byte(a.body), c); err != nil {
		p.t.Fatal(err)
	}
	for _, cookie := range a.Cookies() {
		if cookie.Name == "estnonce" {
			c.cookie = cookie.Value
		}
	}
	return c
}

// extra is what statements have to carry, after the TPM has opened the activation.
func (p *prover) extra(c *challenge) []byte {
	p.t.Helper()
	nonce := unb64(p.t, c.Nonce)
	if c.RespTypeInfo == nil || c.RespTypeInfo.RespInfo.Activation == nil {
		return nonce
	}
	a := c.RespTypeInfo.RespInfo.Activation
	secret, err := p.tpm.Activate(unb64(p.t, a.CredentialBlob), unb64(p.t, a.EncryptedSecret))
	if err != nil {
		p.t.Fatal(err)
	}
	return forge.ExtraData(nonce, secret)
}

func unb64(t *testing.T, s string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// bundle is honest evidence for a challenge.
func (p *prover) bundle(c *challenge) *forge.Bundle {
	p.t.Helper()
	bank, pcrs := "sha256", []int{0, 1, 2, 3, 4, 5, 6, 7, 9, 14}
	if c.RespTypeInfo != nil {
		s := c.RespTypeInfo.RespInfo.Selection[0]
		bank, pcrs = strings.ToLower(strings.TrimPrefix(s.Algo, "TPM_ALG_")), s.Index
	}
	p.tpm.Clock.Clock += 1000 // time passes
	b, err := p.tpm.Evidence(p.extra(c), bank, pcrs)
	if err != nil {
		p.t.Fatal(err)
	}
	return b
}

// enrol sends a CSR with a bundle, nil for none, to an operation.
func (p *prover) enrol(operation string, bundle []byte, cookie string) *answer {
	p.t.Helper()
	csr, err := p.tpm.CSR(p.device, bundle)
	if err != nil {
		p.t.Fatal(err)
	}
	a := p.send("POST", p.prefix+operation, "application/pkcs10", cookie, base64.StdEncoding.EncodeToString(csr))
	if a.StatusCode == 200 {
		p.issued = parse(p.t, a.body)[0]
	}
	return a
}

// proves asks for a nonce and enrols with honest evidence, and wants a certificate.
func (p *prover) proves(operation, request string) *answer {
	p.t.Helper()
	a := p.tries(operation, request)
	if a.StatusCode != 200 {
		p.t.Fatalf("%s of %s: %d %s", operation, p.device, a.StatusCode, a.body)
	}
	return a
}

func (p *prover) tries(operation, request string) *answer {
	p.t.Helper()
	c := p.challenged(request)
	return p.enrol(operation, p.bundle(c).DER(), c.cookie)
}

// attests sends evidence between renewals.
func (p *prover) attests(bundle []byte, cookie string) *answer {
	p.t.Helper()
	return p.send("POST", "/v1/devices/self/attestations", "application/octet-stream", cookie, base64.StdEncoding.EncodeToString(bundle))
}

// newKey gives the device another key of its own.
func (p *prover) newKey() *prover {
	p.t.Helper()
	key, err := forge.NewKey("p256", forge.Device)
	if err != nil {
		p.t.Fatal(err)
	}
	p.tpm.Key = key
	return p
}

// stolen is the same device as somebody else plays it, with another TPM.
func (p *prover) stolen(a *forge.Authority) *prover {
	p.t.Helper()
	other := newProver(p.t, p.h, a, p.device)
	return other
}

// decided is the newest decision about a device as the record has it, in
// compact JSON.
func decided(t *testing.T, h *housetest.House, device string) string {
	t.Helper()
	var list struct{ Items []struct{ ID string } }
	if err := json.Unmarshal([]byte(h.Hallmark("decision", "list", "--device", device, "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Items) == 0 {
		t.Fatalf("nothing was decided about %s", device)
	}
	return shown(t, h, list.Items[0].ID)
}

func shown(t *testing.T, h *housetest.House, decision string) string {
	t.Helper()
	var out bytes.Buffer
	if err := json.Compact(&out, []byte(h.Hallmark("decision", "show", decision, "-o", "json"))); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// sendCSR sends a request for a prover's device over a client of its own, and
// returns the code of the refusal, empty for a certificate.
func sendCSR(t *testing.T, client *http.Client, url string, p *prover, csr []byte, cookie string) string {
	request, err := http.NewRequest("POST", url+p.prefix+"simpleenroll", strings.NewReader(base64.StdEncoding.EncodeToString(csr)))
	if err != nil {
		t.Error(err)
		return "none"
	}
	request.Header.Set("Content-Type", "application/pkcs10")
	request.Header.Set("Cookie", "estnonce="+cookie)
	request.SetBasicAuth(p.device, p.token)
	got, err := client.Do(request)
	if err != nil {
		t.Error(err)
		return "none"
	}
	defer got.Body.Close()
	body, err := io.ReadAll(got.Body)
	if err != nil {
		t.Error(err)
	}
	if got.StatusCode == 200 {
		return ""
	}
	code, _, _ := strings.Cut(string(body), ":")
	return code
}

package est_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/internal/estclient"
	"github.com/hallmark-pki/hallmark/internal/housetest"
)

const profiles = `
organization: Example Fleet
default_profile: device
profiles:
  device: {retry_after: 1s}
  factory: {organization: Example Fleet}
  linked: {channel_binding: true}
  keygen: {server_keygen: true}
  wrapped: {wrap_base64: true}
  p384: {keys: [P-384]}
`

// house starts a whole server with these profiles and devices.
func house(t *testing.T, devices ...string) *housetest.House {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(profiles), 0o600); err != nil {
		t.Fatal(err)
	}
	h := housetest.StartIn(t, dir)
	h.Import(devices...)
	return h
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// enrolLinked enrols over one connection with a challengePassword made from it.
func enrolLinked(t *testing.T, c *estclient.Client, challenge func(*estclient.Session) string) (*x509.Certificate, error) {
	t.Helper()
	session, err := c.Open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	csr, err := (&estclient.Request{Key: newKey(t), Challenge: challenge(session)}).DER()
	if err != nil {
		t.Fatal(err)
	}
	return session.Enroll(context.Background(), csr)
}

// RFC 7030, Section 3.5, on both versions of TLS.
func TestChannelBinding(t *testing.T) {
	h := house(t, "dev-1")
	token := h.Token("--device", "dev-1", "--uses", "100")
	other, err := h.EST("dev-1", token).Open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	stories := map[string]struct {
		challenge func(*estclient.Session) string
		linked    string // the code where the profile requires linking; empty for a certificate
		unlinked  string // the code where it does not
	}{
		"right":         {(*estclient.Session).Binding, "", ""},
		"with spaces":   {func(s *estclient.Session) string { return " " + s.Binding()[:5] + " " + s.Binding()[5:] }, "", ""},
		"missing":       {func(*estclient.Session) string { return "" }, "linking_missing", ""},
		"wrong":         {func(*estclient.Session) string { return "QUFBQUFBQUFBQUFB" }, "linking_failed", "linking_failed"},
		"of another":    {func(*estclient.Session) string { return other.Binding() }, "linking_failed", "linking_failed"},
		"a real secret": {func(*estclient.Session) string { return "hunter2" }, "linking_failed", "linking_failed"},
	}
	for name, s := range stories {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			for label, want := range map[string]string{"linked": s.linked, "device": s.unlinked} {
				c := h.EST("dev-1", token)
				c.MaxVersion, c.Label = version, label
				got, err := enrolLinked(t, c, s.challenge)
				if want == "" && err != nil || want == "" && got.Subject.SerialNumber != "dev-1" {
					t.Errorf("%s, %s, %s: %v", name, tls.VersionName(version), label, err)
				}
				if want != "" {
					refusedWith(t, name+", "+tls.VersionName(version)+", "+label, err, 400, want)
				}
			}
		}
	}
}

// tls-exporter is taken on TLS 1.2, too, where the extended master secret makes it safe.
func TestChannelBindingByExporterOnTLS12(t *testing.T) {
	h := house(t, "dev-1")
	client, config := h.Client()
	config.MaxVersion = tls.VersionTLS12
	for _, test := range []struct {
		context []byte
		status  int
	}{{[]byte{}, 200}, {nil, 400}} { // RFC 9266: an empty context, which is not the same as none
		var answer *http.Response
		client.CloseIdleConnections()
		if _, err := client.Get(h.URL + "/.well-known/est/cacerts"); err != nil {
			t.Fatal(err)
		}
		state := func(r *http.Response) *tls.ConnectionState { return r.TLS }
		first, err := client.Get(h.URL + "/.well-known/est/csrattrs")
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, first.Body)
		first.Body.Close()
		value, err := state(first).ExportKeyingMaterial("EXPORTER-Channel-Binding", test.context, 32)
		if err != nil {
			t.Fatal(err)
		}
		csr, err := (&estclient.Request{Key: newKey(t), Challenge: base64.StdEncoding.EncodeToString(value)}).DER()
		if err != nil {
			t.Fatal(err)
		}
		answer = post(t, client, h.URL+"/.well-known/est/linked/simpleenroll", csr, h.Token("--device", "dev-1"))
		if answer.StatusCode != test.status {
			t.Errorf("context %v: got %d", test.context, answer.StatusCode)
		}
	}
}

// post sends a CSR for dev-1 and returns the answer with its body read into Body.
func post(t *testing.T, client *http.Client, url string, csr []byte, token string) *http.Response {
	t.Helper()
	request, err := http.NewRequest(http.MethodPost, url, strings.NewReader(base64.StdEncoding.EncodeToString(csr)))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/pkcs10")
	request.SetBasicAuth("dev-1", token)
	answer, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(answer.Body)
	answer.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	answer.Body = io.NopCloser(bytes.NewReader(body))
	return answer
}

func refusedWith(t *testing.T, name string, err error, status int, code string) {
	t.Helper()
	e, ok := err.(*estclient.Error)
	if !ok || e.Status != status || e.Code != code || e.Ref == "" {
		t.Errorf("%s: got %v, want %d %s with a reference", name, err, status, code)
	}
}

func TestServerKeygen(t *testing.T) {
	h := house(t, "dev-1")
	token := h.Token("--device", "dev-1", "--uses", "10")
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		c := h.EST("dev-1", token)
		c.Label, c.MaxVersion = "keygen", version
		session, err := c.Open(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		sent := newKey(t)
		csr, _ := (&estclient.Request{Key: sent}).DER()
		key, certificate, err := session.ServerKeygen(context.Background(), csr)
		session.Close()
		if err != nil {
			t.Fatal(err)
		}
		public := key.(crypto.Signer).Public().(*ecdsa.PublicKey)
		if !public.Equal(certificate.PublicKey) || public.Equal(sent.Public()) {
			t.Errorf("%s: the certificate is not over the key that came with it", tls.VersionName(version))
		}
	}
	c := h.EST("dev-1", token)
	session, err := c.Open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	csr, _ := (&estclient.Request{Key: newKey(t)}).DER()
	_, _, err = session.ServerKeygen(context.Background(), csr)
	refusedWith(t, "a profile without", err, 404, "serverkeygen_off")
}

// A private key is not sent under CBC.
func TestServerKeygenNeedsAEAD(t *testing.T) {
	h := house(t, "dev-1")
	client, config := h.Client()
	config.MaxVersion = tls.VersionTLS12
	config.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA}
	csr, _ := (&estclient.Request{Key: newKey(t)}).DER()
	token := h.Token("--device", "dev-1", "--uses", "2")
	answer := post(t, client, h.URL+"/keygen/.well-known/est/serverkeygen", csr, token)
	if body, _ := io.ReadAll(answer.Body); answer.StatusCode != 400 || !strings.HasPrefix(string(body), "cipher_weak: ") {
		t.Errorf("got %d %s", answer.StatusCode, body)
	}
	if answer := post(t, client, h.URL+"/keygen/.well-known/est/simpleenroll", csr, token); answer.StatusCode != 200 {
		t.Errorf("a certificate alone: %d", answer.StatusCode)
	}
}

// Labels are profiles, in both spellings, and the profile shapes the certificate.
func TestLabels(t *testing.T) {
	h := house(t, "dev-1")
	client, _ := h.Client()
	token := h.Token("--device", "dev-1", "--uses", "10")
	for path, organization := range map[string]string{
		"/.well-known/est/simpleenroll":         "",
		"/.well-known/est/device/simpleenroll":  "",
		"/.well-known/est/factory/simpleenroll": "Example Fleet",
		"/factory/.well-known/est/simpleenroll": "Example Fleet",
	} {
		csr, _ := (&estclient.Request{Key: newKey(t)}).DER()
		answer := post(t, client, h.URL+path, csr, token)
		body, _ := io.ReadAll(answer.Body)
		if answer.StatusCode != 200 || answer.Header.Get("Content-Type") != "application/pkcs7-mime; smime-type=certs-only" {
			t.Fatalf("%s: %d %s", path, answer.StatusCode, body)
		}
		certificates := parse(t, string(body))
		if len(certificates) != 1 || strings.Join(certificates[0].Subject.Organization, "") != organization {
			t.Errorf("%s: %d certificates, %s", path, len(certificates), certificates[0].Subject)
		}
	}
	csr, _ := (&estclient.Request{Key: newKey(t)}).DER()
	answer := post(t, client, h.URL+"/.well-known/est/p384/simpleenroll", csr, token)
	if body, _ := io.ReadAll(answer.Body); answer.StatusCode != 400 {
		t.Errorf("a key that the profile does not take: %d %s", answer.StatusCode, body)
	}
}

// The client that follows the template of csrattrs to the letter is served.
func TestTheTemplateIsAccepted(t *testing.T) {
	h := house(t, "dev-1")
	client, _ := h.Client()
	subject := base64Bytes(t, "MCgxFjAUBgNVBAoMDUV4YW1wbGUgRmxlZXQxDjAMBgNVBAUTBWRldi0x") // O=Example Fleet, serialNumber=dev-1
	csr, err := (&estclient.Request{Key: newKey(t), Subject: subject}).DER()
	if err != nil {
		t.Fatal(err)
	}
	answer := post(t, client, h.URL+"/.well-known/est/factory/simpleenroll", csr, h.Token("--device", "dev-1"))
	if body, _ := io.ReadAll(answer.Body); answer.StatusCode != 200 {
		t.Errorf("got %d %s", answer.StatusCode, body)
	}
}

func base64Bytes(t *testing.T, text string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestOverHTTP2(t *testing.T) {
	h := house(t, "dev-1")
	client, config := h.Client()
	config.NextProtos = []string{"h2"}
	client.Transport.(*http.Transport).ForceAttemptHTTP2 = true
	csr, _ := (&estclient.Request{Key: newKey(t)}).DER()
	answer := post(t, client, h.URL+"/.well-known/est/simpleenroll", csr, h.Token("--device", "dev-1"))
	if answer.StatusCode != 200 || answer.ProtoMajor != 2 || answer.ContentLength <= 0 {
		t.Errorf("got %s %d, %d bytes", answer.Proto, answer.StatusCode, answer.ContentLength)
	}
}

// No odd path is cleaned by a redirect on its way to the door.
func TestNoRedirects(t *testing.T) {
	h := house(t, "dev-1")
	client, _ := h.Client()
	for _, path := range []string{
		"/.well-known/est", "/.well-known/est/", "//.well-known/est/cacerts", "/.well-known//est/cacerts", "/.well-known/est/../est/cacerts",
		"/./.well-known/est/cacerts", "/.well-known/est/cacerts/", "/x/../.well-known/est/cacerts", "/.well-known/est/factory%2fcacerts", "/%2ewell-known/est/cacerts/",
	} {
		answer, err := client.Get(h.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != 404 {
			t.Errorf("%s: %d", path, answer.StatusCode)
		}
	}
}

// Who gives neither proof nor anything to enrol is asked for proof; who gives a
// CSR without proof finds its refusal in the record.
func TestChallengeFirst(t *testing.T) {
	h := house(t, "dev-1")
	client, _ := h.Client()
	answer, err := client.Post(h.URL+"/.well-known/est/simpleenroll", "application/pkcs10", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != 401 || answer.Header.Get("WWW-Authenticate") != `Basic realm="est"` {
		t.Errorf("got %d, %q", answer.StatusCode, answer.Header.Get("WWW-Authenticate"))
	}
	_, err = housetest.Enrol(h.EST("", ""))
	refusedWith(t, "no proof", err, 401, "proof_missing")
	if out := h.Hallmark("decision", "show", err.(*estclient.Error).Ref, "-o", "json"); !strings.Contains(out, "proof_missing") {
		t.Errorf("the record says %s", out)
	}
}

// hold makes policy hold first enrolments under a profile.
func hold(t *testing.T, h *housetest.House, profile string) {
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
	data["settings"]["hold_profiles"] = []string{profile}
	if text, err = json.Marshal(data); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	h.Signal(syscall.SIGHUP)
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(h.Log(), "policy reloaded"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the policy was not reloaded")
		}
	}
}

// approve says yes to the one request that waits, as soon as there is one.
func approve(t *testing.T, h *housetest.House) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		var list struct{ Items []struct{ ID string } }
		if err := json.Unmarshal([]byte(h.Hallmark("request", "list", "--state", "pending", "-o", "json")), &list); err != nil {
			t.Fatal(err)
		}
		if len(list.Items) == 1 {
			h.Hallmark("request", "approve", list.Items[0].ID)
			return
		}
	}
	t.Fatal("no request came to wait")
}

// Tokens and keys stay out of the log, whatever becomes of a request.
func TestSecretsStayOutOfTheLog(t *testing.T) {
	h := house(t, "dev-1")
	client, _ := h.Client()
	token := h.Token("--device", "dev-1")
	csr, _ := (&estclient.Request{Key: newKey(t)}).DER()
	for path, want := range map[string]int{"/.well-known/est/simpleenroll": 0, "/.well-known/est/linked/simpleenroll": 0, "/.well-known/est/elsewhere/simpleenroll": 404} {
		for _, body := range [][]byte{csr, nil, []byte("nonsense")} {
			if answer := post(t, client, h.URL+path, body, token); want != 0 && answer.StatusCode != want {
				t.Errorf("%s: %d", path, answer.StatusCode)
			}
		}
	}
	if log := h.Log(); strings.Contains(log, token) || !strings.Contains(log, "est issued") {
		t.Error("the log holds the token, or no enrolment")
	}
}

// A CSR that cannot be taken is a refusal in the record if its sender has proven
// who it is, and no entry, only a line in the log, if not.
func TestTurnedAway(t *testing.T) {
	h := house(t, "dev-1")
	client, _ := h.Client()
	token := h.Token("--device", "dev-1")
	authority, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{ExtraExtensions: []pkix.Extension{
		{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 3, 1, 1, 0xff}}}}, newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	forged, _ := (&estclient.Request{Key: newKey(t)}).DER()
	forged[len(forged)-1] ^= 1
	for name, c := range map[string]struct {
		csr    []byte
		status int
		code   string
	}{
		"no DER":               {[]byte("AAAA"), 400, "csr_malformed"},
		"a forged signature":   {forged, 400, "csr_signature"},
		"wants to be a CA":     {authority, 403, "ca_requested"},
		"something at the end": {append(bytes.Clone(forged), 0), 400, "csr_malformed"},
	} {
		for secret, recorded := range map[string]bool{token: true, "hmt_wrong": false} {
			answer := post(t, client, h.URL+"/.well-known/est/simpleenroll", c.csr, secret)
			body, _ := io.ReadAll(answer.Body)
			says, ref, _ := strings.Cut(strings.TrimSpace(string(body)), "\nref: ")
			if answer.StatusCode != c.status || !strings.HasPrefix(says, c.code+": ") {
				t.Errorf("%s: %d %s", name, answer.StatusCode, body)
			}
			if out, _, code := h.Try("decision", "show", ref, "-o", "json"); (code == 0 && strings.Contains(out, c.code)) != recorded {
				t.Errorf("%s: the record says %s", name, out)
			}
			if !strings.Contains(h.Log(), ref) {
				t.Errorf("%s: the log does not know %s", name, ref)
			}
		}
	}
}

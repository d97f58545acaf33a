package housetest_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/hallmark-pki/hallmark/internal/estclient"
	"github.com/hallmark-pki/hallmark/internal/housetest"
)

// Forgotten refusals would make these tests depend on time: here a refusal is
// forgotten after a quarter of an hour.
const (
	fewFromASource    = "limits: {source_rate: 0.001, source_burst: 3, identity_rate: 0.001, identity_burst: 100}\n"
	fewFromAnIdentity = "limits: {source_rate: 0.001, source_burst: 100, identity_rate: 0.001, identity_burst: 3}\n"
)

// from is a client that calls from another address of this machine.
func from(h *housetest.House, address string) *http.Client {
	client, _ := h.Client()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	client.Transport.(*http.Transport).DialContext = dialer.DialContext
	return client
}

// callAPI calls as somebody without a certificate and wants that status.
func callAPI(t *testing.T, h *housetest.House, client *http.Client, status int) {
	t.Helper()
	answer, err := client.Get(h.URL + "/api/v1/tokens")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var problem struct {
		Status    int
		Code, Ref string
	}
	if err := json.NewDecoder(answer.Body).Decode(&problem); err != nil {
		t.Fatal(err)
	}
	if answer.StatusCode != status || problem.Status != status || answer.Header.Get("Content-Type") != "application/problem+json" {
		t.Fatalf("got %s %+v, want %d", answer.Status, problem, status)
	}
	seconds, err := strconv.Atoi(answer.Header.Get("Retry-After"))
	if told := err == nil && seconds > 0; told != (status == http.StatusTooManyRequests) || told != (problem.Code == "rate_limited") {
		t.Errorf("%d %s: Retry-After %q", status, problem.Code, answer.Header.Get("Retry-After"))
	}
}

// enrolFrom sends one enrolment with a token and returns the status.
func enrolFrom(t *testing.T, h *housetest.House, client *http.Client, device, token string) int {
	t.Helper()
	csr, err := (&estclient.Request{Key: housetest.Stranger(t, "x").Key}).DER()
	if err != nil {
		t.Fatal(err)
	}
	body := base64.StdEncoding.AppendEncode(nil, csr)
	request, err := http.NewRequest("POST", h.URL+"/.well-known/est/simpleenroll", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/pkcs10")
	request.SetBasicAuth(device, token)
	answer, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode
}

// Too many refusals close both doors to an address, and to no other.
func TestAnAddressRunsOutOfTries(t *testing.T) {
	h := housetest.StartIn(t, configured(t, fewFromASource))
	h.Import("gw-1")
	token := h.Token("--uses", "100")
	for range 10 { // what is granted does not count
		if _, err := housetest.Enrol(h.EST("gw-1", token)); err != nil {
			t.Fatal(err)
		}
	}
	client, _ := h.Client()
	for range 3 {
		callAPI(t, h, client, http.StatusUnauthorized)
	}
	callAPI(t, h, client, http.StatusTooManyRequests)
	_, err := housetest.Enrol(h.EST("gw-1", token))
	refused(t, err, http.StatusTooManyRequests, "rate_limited")

	elsewhere := from(h, "127.0.0.2")
	if status := enrolFrom(t, h, elsewhere, "gw-1", token); status != http.StatusOK {
		t.Errorf("a device at another address: %d", status)
	}
	callAPI(t, h, elsewhere, http.StatusUnauthorized)
	for range 5 { // an operator at the first address has proved who they are
		h.Hallmark("token", "list")
	}
	metrics := scrape(t, h)
	for _, line := range []string{
		`hallmark_api_requests_total{action="token.list",status="401"} 4`, `hallmark_api_requests_total{action="token.list",status="429"} 1`,
		`hallmark_api_requests_total{action="token.list",status="200"} 5`, `hallmark_est_requests_total{operation="simpleenroll",status="429"} 1`,
	} {
		if !strings.Contains(metrics, line+"\n") {
			t.Errorf("the metrics lack %s", line)
		}
	}
}

// A device that keeps trying with a bad token has to wait; its neighbours go on.
func TestADeviceRunsOutOfTries(t *testing.T) {
	h := housetest.StartIn(t, configured(t, fewFromAnIdentity))
	h.Import("gw-1", "gw-2")
	token := h.Token("--uses", "100")
	for range 3 {
		_, err := housetest.Enrol(h.EST("gw-1", token+"x"))
		refused(t, err, http.StatusUnauthorized, "token_unknown")
	}
	_, err := housetest.Enrol(h.EST("gw-1", token+"x"))
	refused(t, err, http.StatusTooManyRequests, "rate_limited")
	if _, err := housetest.Enrol(h.EST("gw-2", token)); err != nil {
		t.Errorf("its neighbour: %v", err)
	}
	if status := enrolFrom(t, h, from(h, "127.0.0.2"), "gw-1", token); status != http.StatusOK {
		t.Errorf("whoever says a name locks it out elsewhere: %d", status)
	}
}

func TestRateLimitsOff(t *testing.T) {
	h := housetest.StartIn(t, configured(t, strings.Replace(fewFromASource, "identity_burst: 100", "identity_burst: 1", 1)), "--rate-limits=off")
	h.Import("gw-1")
	client, _ := h.Client()
	for range 20 {
		callAPI(t, h, client, http.StatusUnauthorized)
		if status := enrolFrom(t, h, client, "gw-1", "nothing"); status != http.StatusUnauthorized {
			t.Fatalf("EST answers %d", status)
		}
	}
	if _, err := housetest.Enrol(h.EST("gw-1", h.Token())); err != nil {
		t.Error(err)
	}
}

func scrape(t *testing.T, h *housetest.House) string {
	t.Helper()
	answer, err := http.Get(h.Status + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

package housetest_test

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/internal/housetest"
)

// Whatever a stranger sends is answered with a 4xx that has a reason and a
// reference, or cut off; never with a 3xx or a 5xx, and the server goes on.
func TestHostileRequests(t *testing.T) {
	h := housetest.Start(t, "--rate-limits=off")
	h.Import("gw-1")
	token := h.Token("--uses", "1000")
	client, _ := h.Client()
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("gw-1:"+token))
	enrol := "/.well-known/est/simpleenroll"
	for name, r := range map[string]struct {
		method, path, contentType, body string
		want                            int
	}{
		"nothing":               {"POST", enrol, "application/pkcs10", "", 400},
		"no base64":             {"POST", enrol, "application/pkcs10", "!!!!", 400},
		"no DER":                {"POST", enrol, "application/pkcs10", "AAAA", 400},
		"a sequence":            {"POST", enrol, "application/pkcs10", "MAA=", 400},
		"a bomb of sequences":   {"POST", enrol, "application/pkcs10", base64.StdEncoding.EncodeToString([]byte(strings.Repeat("\x30\x80", 30000))), 400},
		"another type":          {"POST", enrol, "text/html", "AAAA", 415},
		"another method":        {"PUT", enrol, "application/pkcs10", "AAAA", 405},
		"too large":             {"POST", enrol, "application/pkcs10", strings.Repeat("A", 300<<10), 413},
		"full CMC":              {"POST", "/.well-known/est/fullcmc", "application/pkcs7-mime", "AAAA", 501},
		"unknown operation":     {"POST", "/.well-known/est/simpleenrol", "application/pkcs10", "AAAA", 404},
		"unknown label":         {"POST", "/.well-known/est/nope/simpleenroll", "application/pkcs10", "AAAA", 404},
		"unknown label, alias":  {"POST", "/nope/.well-known/est/simpleenroll", "application/pkcs10", "AAAA", 404},
		"a path that climbs":    {"GET", "/.well-known/est/../../api/v1/tokens", "", "", 404},
		"an encoded climb":      {"GET", "/.well-known/est/%2e%2e%2fcacerts", "", "", 404},
		"an encoded slash":      {"GET", "/.well-known/est%2fcacerts", "", "", 404},
		"doubled slashes":       {"GET", "//.well-known//est//cacerts", "", "", 404},
		"a null byte":           {"GET", "/.well-known/est/cacerts%00", "", "", 404},
		"case":                  {"GET", "/.well-known/EST/cacerts", "", "", 404},
		"the API as nobody":     {"GET", "/api/v1/tokens", "", "", 401},
		"the API as a device":   {"POST", "/api/v1/tokens", "application/json", "{}", 401},
		"the log as nobody":     {"GET", "/log/tile/entries/000", "", "", 401},
		"a tile that is not":    {"GET", "/log/tile/9/000", "", "", 404},
		"no API":                {"GET", "/api/v2/", "", "", 404},
		"nowhere":               {"GET", "/", "", "", 404},
		"OPA's own data API":    {"GET", "/v1/data/hallmark/decision", "", "", 404},
		"pprof":                 {"GET", "/debug/pprof/", "", "", 404},
		"keys, by a blunt path": {"GET", "/keys/issuing.key", "", "", 404},
	} {
		t.Run(name, func(t *testing.T) {
			request, err := http.NewRequest(r.method, h.URL+"/", strings.NewReader(r.body))
			if err != nil {
				t.Fatal(err)
			}
			request.URL.Opaque = "//" + strings.TrimPrefix(h.URL, "https://") + r.path // as it is, not cleaned
			request.Header.Set("Content-Type", r.contentType)
			if !strings.HasPrefix(r.path, "/api") && !strings.HasPrefix(r.path, "/log") {
				request.Header.Set("Authorization", basic)
			}
			answer, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			text, err := io.ReadAll(answer.Body)
			if err != nil {
				t.Fatal(err)
			}
			if answer.StatusCode != r.want || len(text) == 0 && r.method != "HEAD" {
				t.Errorf("status %d, want %d: %s", answer.StatusCode, r.want, text)
			}
			if strings.Contains(r.path, "/est/simpleenroll") && !strings.Contains(string(text), "\nref: ") {
				t.Errorf("no reference in %q", text)
			}
		})
	}
	stillServes(t, h, token)
}

func stillServes(t *testing.T, h *housetest.House, token string) {
	t.Helper()
	if _, err := housetest.Enrol(h.EST("gw-1", token)); err != nil {
		t.Errorf("the server does not serve any more: %v", err)
	}
	if log := h.Log(); strings.Contains(log, "panic") {
		t.Error("something panicked: see the log")
	}
}

// A client that says it will send and does not is cut off, and costs nobody else anything.
func TestSlowClients(t *testing.T) {
	h := housetest.Start(t)
	h.Import("gw-1")
	_, config := h.Client()
	address := strings.TrimPrefix(h.URL, "https://")
	for range 50 {
		silent, err := net.Dial("tcp", address) // never shakes hands
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
		slow, err := tls.Dial("tcp", address, config)
		if err != nil {
			t.Fatal(err)
		}
		defer slow.Close()
		fmt.Fprintf(slow, "POST /.well-known/est/simpleenroll HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nAAAA")
	}
	stillServes(t, h, h.Token("--uses", "1"))
}

// An endless header ends in 431, and headers of ours stay small enough for
// clients that read them at once.
func TestHeaders(t *testing.T) {
	h := housetest.Start(t)
	_, config := h.Client()
	c, err := tls.Dial("tcp", strings.TrimPrefix(h.URL, "https://"), config)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	go fmt.Fprintf(c, "GET /.well-known/est/cacerts HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n", strings.Repeat("a", 1<<20))
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.Contains(line, "431") {
		t.Errorf("%q, %v", line, err)
	}
}

// Secrets reach no log, at no level.
func TestTheLogHoldsNoSecrets(t *testing.T) {
	h := housetest.StartIn(t, configured(t, "log: {level: debug, format: json}\n"))
	h.Import("gw-1")
	token := h.Token("--uses", "5")
	if _, err := housetest.Enrol(h.EST("gw-1", token)); err != nil {
		t.Fatal(err)
	}
	housetest.Enrol(h.EST("gw-2", token))
	housetest.Enrol(h.EST("gw-1", token+"x"))
	h.Signal(syscall.SIGHUP)
	if err := h.Stop(); err != nil {
		t.Error(err)
	}
	if strings.Contains(h.Log(), token) || strings.Contains(h.Log(), "PRIVATE") {
		t.Error("a secret is in the log")
	}
	key, err := os.ReadFile(filepath.Join(h.Dir, "keys", "log.key"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(h.Log(), strings.TrimSpace(string(key))) {
		t.Error("the log's key is in the log")
	}
}

// A mistake in the configuration is told with its line.
func TestAConfigurationTypo(t *testing.T) {
	dir := configured(t, "profiles:\n  device:\n    lifetme: 24h\n")
	_, errs, code := housetest.Exec(t, "hallmark", "serve", "--data", dir, "--listen", "127.0.0.1:0", "--status-listen", "127.0.0.1:0")
	if code != 1 || !strings.Contains(errs, "lifetme") || !strings.Contains(errs, "[3:") {
		t.Errorf("exit %d: %s", code, errs)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("something was made all the same: %v, %v", entries, err)
	}
}

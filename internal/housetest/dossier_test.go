package housetest_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/internal/housetest"
)

// TestWhatIsOnFileAboutTPMs reads the folder at the start and on SIGHUP, and
// keeps what was known when it cannot be read.
func TestWhatIsOnFileAboutTPMs(t *testing.T) {
	h := housetest.Start(t, "--rate-limits=off")
	f := newForge(t, "p256", "p256")
	importTPM(t, h, "gw-1", digestOf(f.EK.SPKI()))
	folder := filepath.Join(h.Dir, "attestation")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	revoked := filepath.Join(folder, "revoked.json")
	file := func(text, wants string) {
		t.Helper()
		if err := os.WriteFile(revoked, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		before := strings.Count(h.Log(), wants)
		h.Signal(syscall.SIGHUP)
		for deadline := time.Now().Add(20 * time.Second); strings.Count(h.Log(), wants) == before; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("the log does not say %q\n%s", wants, h.Log())
			}
		}
	}
	status, answer := ask(t, h, "/attestation/attest", introduce(t, f))
	if status != 200 {
		t.Fatalf("%d %v", status, answer)
	}
	file(`[{"sha256": "`+digestOf(f.EK.SPKI())+`", "reason": "stolen"}]`, "attestation data reloaded")
	status, answer = ask(t, h, "/attestation/attest", introduce(t, f))
	refusedAs(t, "a revoked TPM", status, answer, 403, "ek_revoked")
	file(`[{"sha256": `, "attestation data not reloaded")
	status, answer = ask(t, h, "/attestation/attest", introduce(t, f))
	refusedAs(t, "a revoked TPM after a broken reload", status, answer, 403, "ek_revoked")

	counted := metricsOf(t, h)
	for _, want := range []string{`hallmark_akca_requests_total{operation="attest",status="200"} 1`, `hallmark_akca_requests_total{operation="attest",status="403"} 2`} {
		if !strings.Contains(counted, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	if err := h.Stop(); err != nil {
		t.Error(err)
	}
	out, errs, code := housetest.Exec(t, "hallmark", "serve", "--data", h.Dir, "--listen", "127.0.0.1:0", "--status-listen", "127.0.0.1:0")
	if code != 1 || !strings.Contains(errs, "revoked.json") {
		t.Errorf("a broken file at the start: exit %d\n%s%s", code, out, errs)
	}
}

func metricsOf(t testing.TB, h *housetest.House) string {
	t.Helper()
	response, err := http.Get(h.Status + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

package housetest_test

import (
	"encoding/json"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/internal/housetest"
)

// The process is killed at any moment under load. Afterwards every
// certificate that a client holds is in the store and in the log, and no leaf is
// without its fact.
func TestNothingAcknowledgedIsLost(t *testing.T) {
	const rounds, devices = 20, 64
	h := housetest.New(t, filepath.Join(t.TempDir(), "data"), "--rate-limits=off")
	h.Run()
	t.Cleanup(h.Kill)
	ids := make([]string, devices)
	for i := range ids {
		ids[i] = fmt.Sprintf("crash-%d", i)
	}
	h.Import(ids...)
	token := h.Token("--uses", "1000000")

	received := map[string]string{} // serial → device
	for range rounds {
		gone := make(chan struct{})
		got := make(chan map[string]string)
		go func() { got <- load(t, h, token, ids, gone) }()
		time.Sleep(time.Duration(50+mathrand.IntN(350)) * time.Millisecond)
		h.Kill()
		close(gone)
		for serial, device := range <-got {
			received[serial] = device
		}
		h.Run()
	}
	if len(received) < rounds {
		t.Fatalf("only %d certificates in %d rounds: no load", len(received), rounds)
	}
	t.Logf("%d certificates were received", len(received))
	checkKept(t, h, received)
}

// load enrols from several clients until the server is gone, and returns what
// they received.
func load(t *testing.T, h *housetest.House, token string, ids []string, gone <-chan struct{}) map[string]string {
	var mu sync.Mutex
	received := map[string]string{}
	var clients sync.WaitGroup
	for c := range 8 {
		clients.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-gone:
					return
				default:
				}
				device := ids[(c*8+i)%len(ids)]
				identity, err := housetest.Enrol(h.EST(device, token))
				if err != nil {
					continue // the server is going, or gone
				}
				mu.Lock()
				received[identity.Serial()] = device
				mu.Unlock()
			}
		})
	}
	clients.Wait()
	return received
}

func checkKept(t *testing.T, h *housetest.House, received map[string]string) {
	t.Helper()
	var stored struct {
		Items []struct{ Serial, Device string }
	}
	if err := json.Unmarshal([]byte(h.Hallmark("cert", "list", "--all", "-o", "json")), &stored); err != nil {
		t.Fatal(err)
	}
	inStore := map[string]string{}
	for _, c := range stored.Items {
		inStore[c.Serial] = c.Device
	}
	export := filepath.Join(t.TempDir(), "export.ndjson")
	h.Hallmark("audit", "export", "--out", export)
	h.Hallmark("audit", "verify", export)
	inLog := issuedIn(t, export)
	for serial, device := range received {
		if inStore[serial] != device {
			t.Errorf("certificate %s of %s was received but is not in the store", serial, device)
		}
	}
	for serial, device := range inStore {
		if inLog[serial] != device {
			t.Errorf("certificate %s of %s is in the store but not in the log", serial, device)
		}
	}
	for serial := range inLog {
		if _, ok := inStore[serial]; !ok {
			t.Errorf("the log tells of certificate %s, which is not in the store", serial)
		}
	}
}

// issuedIn returns the certificates that an export tells of.
func issuedIn(t *testing.T, export string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(export)
	if err != nil {
		t.Fatal(err)
	}
	issued := map[string]string{}
	for line := range strings.Lines(string(text)) {
		var entry struct {
			Leaf struct {
				Action, Outcome string
				Object          struct{ ID string }
				Fact            struct{ Certificate struct{ Serial string } }
			}
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatal(err)
		}
		if (entry.Leaf.Action == "certificate.issue" || entry.Leaf.Action == "certificate.renew") && entry.Leaf.Outcome == "granted" {
			issued[entry.Leaf.Fact.Certificate.Serial] = entry.Leaf.Object.ID
		}
	}
	return issued
}

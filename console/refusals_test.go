package console

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/hallmark-pki/hallmark/internal/limit"
)

// limited is a house whose console forgives few refusals, and almost none in time.
func limited(t *testing.T, sourceBurst, identityBurst int) *house {
	h := newHouse(t)
	h.Limiter = limit.New(limit.Config{SourceRate: 0.001, SourceBurst: sourceBurst, IdentityRate: 0.001, IdentityBurst: identityBurst})
	return h
}

// logged gives the audit log its first entry, so that there is a checkpoint.
func (h *house) logged() {
	h.imports(h.client(h.admin), "gw-1")
	check(h.t, h.sequenceAll(h.t.Context()))
}

func (h *house) wantTooMany(client *http.Client, target string) {
	h.t.Helper()
	r := h.want(client, http.StatusTooManyRequests, "GET", target, "")
	if p := r.problem(h.t); p.Code != "rate_limited" || p.Type != "urn:hallmark:problem:busy" || p.Decision != "" {
		h.t.Errorf("%s: %+v", target, p)
	}
	if seconds, err := strconv.Atoi(r.Header.Get("Retry-After")); err != nil || seconds < 1 {
		h.t.Errorf("%s: Retry-After %q", target, r.Header.Get("Retry-After"))
	}
}

func TestStrangersRunOutOfTries(t *testing.T) {
	for name, target := range map[string]string{
		"API": "/api/v1/tokens", "no path": "/api/v1/x", "unclean path": "/api/v1//tokens", "no tile": "/log/tile/0/000", "entries": "/log/tile/entries/000",
	} {
		t.Run(name, func(t *testing.T) {
			h := limited(t, 3, 100)
			h.logged()
			nobody := h.client(nil)
			for range 10 { // what is answered costs nothing
				h.want(nobody, 200, "GET", "/log/checkpoint", "")
			}
			for range 3 {
				if r := h.send(nobody, "GET", target, "", ""); r.StatusCode != 401 && r.StatusCode != 404 {
					t.Fatal(r.Status)
				}
			}
			for _, target := range []string{"/api/v1/tokens", "/api/v1/x", "/log/checkpoint", "/log/tile/entries/000", target} {
				h.wantTooMany(nobody, target)
			}
			// Operators at the same address have proved who they are.
			for range 5 {
				h.want(h.client(h.admin), 200, "GET", "/api/v1/tokens", "")
			}
		})
	}
}

func TestACertificateRunsOutOfTries(t *testing.T) {
	h := limited(t, 100, 3)
	h.imports(h.client(h.admin), "gw-1", "gw-2")
	device, _ := h.enrolled("gw-1")
	other, _ := h.enrolled("gw-2")
	for range 3 {
		h.want(h.client(device), 401, "GET", "/api/v1/tokens", "")
	}
	h.wantTooMany(h.client(device), "/api/v1/tokens")
	h.want(h.client(other), 401, "GET", "/api/v1/tokens", "")
}

func TestAnOperatorPaysForWhatPolicyDenies(t *testing.T) {
	h := limited(t, 1, 3)
	viewer := h.client(h.viewer)
	for range 10 { // slips of the pen
		h.want(viewer, 404, "GET", "/api/v1/devices/nobody", "")
		h.want(viewer, 400, "GET", "/api/v1/tokens?limit=x", "")
	}
	for range 3 {
		h.want(viewer, 403, "POST", "/api/v1/backup", "")
	}
	h.wantTooMany(viewer, "/api/v1/tokens")
	h.want(h.client(h.admin), 200, "GET", "/api/v1/tokens", "")
	h.want(h.client(nil), 401, "GET", "/api/v1/tokens", "")
}

func TestEveryAnswerIsObserved(t *testing.T) {
	h := newHouse(t)
	h.logged()
	var mu sync.Mutex
	var seen []string
	h.Observe = func(action string, status int) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, fmt.Sprint(action, " ", status))
	}
	admin, viewer, nobody := h.client(h.admin), h.client(h.viewer), h.client(nil)
	h.want(admin, 200, "GET", "/api/v1/tokens", "")
	h.want(admin, 201, "POST", "/api/v1/tokens", "{}")
	h.want(viewer, 403, "POST", "/api/v1/tokens", "{}")
	h.want(nobody, 401, "GET", "/api/v1/devices/x", "")
	h.want(nobody, 404, "GET", "/api/v1/x", "")
	h.want(nobody, 404, "GET", "/api//v1/tokens", "")
	h.want(nobody, 405, "PUT", "/api/v1/tokens", "")
	h.want(nobody, 200, "GET", "/log/checkpoint", "")
	h.Limiter = limit.New(limit.Config{SourceBurst: 1, SourceRate: 0.001})
	h.want(nobody, 401, "GET", "/api/v1/tokens", "")
	h.want(nobody, 429, "GET", "/api/v1/tokens", "")
	want := []string{"token.list 200", "token.create 201", "token.create 403", "device.show 401", "none 404", "none 404", "none 405", "public 200",
		"token.list 401", "token.list 429"}
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(seen, want) {
		t.Errorf("observed %q\n    want %q", seen, want)
	}
}

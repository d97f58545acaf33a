package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestABrokenConnectionIsNoSecondChange cuts the first connection after the
// server has done what was asked, and says for a while that it is under way.
func TestABrokenConnectionIsNoSecondChange(t *testing.T) {
	var keys, bodies []string
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		keys, bodies = append(keys, r.Header.Get(keyHeader)), append(bodies, string(body))
		switch len(keys) {
		case 1:
			panic(http.ErrAbortHandler)
		case 2:
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusConflict)
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	}))
	defer server.Close()
	s := &session{base: server.URL, http: server.Client(), out: io.Discard, err: io.Discard}
	if err := s.do(t.Context(), "POST", "/api/v1/devices/gw-1/retire", nil, object(map[string]string{"reason": "r"}), nil); err != nil {
		t.Fatal(err)
	}
	if len(keys) != 3 || keys[0] == "" || keys[0] != keys[1] || keys[1] != keys[2] || bodies[2] != bodies[0] {
		t.Errorf("sent as %q with %q", keys, bodies)
	}
	if err := s.do(t.Context(), "POST", "/api/v1/devices/gw-1/retire", nil, nil, nil); err != nil || keys[3] == keys[0] {
		t.Errorf("another change has the key %q, %v", keys[3], err)
	}
	if err := s.do(t.Context(), "GET", "/api/v1/devices/gw-1", nil, nil, nil); err != nil || keys[4] != "" {
		t.Errorf("a read has the key %q, %v", keys[4], err)
	}
}

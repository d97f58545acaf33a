package console

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// slowly gives its lines one by one.
type slowly struct {
	lines []string
	pause time.Duration
}

// Read implements io.Reader.
func (s *slowly) Read(b []byte) (int, error) {
	if len(s.lines) == 0 {
		return 0, io.EOF
	}
	time.Sleep(s.pause)
	n := copy(b, s.lines[0])
	s.lines = s.lines[1:]
	return n, nil
}

// TestALongImportOutlastsTheServersPatience: what is permitted and large may
// take longer than the few seconds that strangers get.
func TestALongImportOutlastsTheServersPatience(t *testing.T) {
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		h := newHouse(t)
		server := httptest.NewUnstartedServer(h.Console)
		server.EnableHTTP2 = protocol == "HTTP/2.0"
		server.TLS = h.tls.Clone()
		server.Config.ReadTimeout, server.Config.WriteTimeout = 500*time.Millisecond, 500*time.Millisecond
		server.StartTLS()
		defer server.Close()
		client := h.client(h.admin)
		client.Transport.(*http.Transport).ForceAttemptHTTP2 = server.EnableHTTP2
		body := &slowly{lines: []string{"id\n", "gw-1\n", "gw-2\n", "gw-3\n", "gw-4\n"}, pause: 300 * time.Millisecond}
		response, err := client.Post(server.URL+"/api/v1/devices/import", csvType, body)
		if err != nil {
			t.Errorf("%s: %v", protocol, err)
			continue
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK || response.Proto != protocol {
			t.Errorf("%s: %s over %s", protocol, response.Status, response.Proto)
		}
	}
}

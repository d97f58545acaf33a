package est_test

import (
	"crypto/tls"
	"encoding/base64"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/hallmark-pki/hallmark/internal/estclient"
	"github.com/hallmark-pki/hallmark/internal/housetest"
)

// A resumed session shows the certificate of the first; what has become of its
// device since counts all the same.
func TestResumedSessionsAreCheckedAnew(t *testing.T) {
	h := house(t, "dev-1")
	identity, err := housetest.Enrol(h.EST("dev-1", h.Token("--device", "dev-1")))
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client, config := h.Client()
		config.MaxVersion, config.ClientSessionCache = version, tls.NewLRUClientSessionCache(4)
		config.Certificates = []tls.Certificate{*identity.TLS()}
		renew := func() (*http.Response, bool) {
			client.CloseIdleConnections()
			csr, _ := (&estclient.Request{Key: newKey(t)}).DER()
			request, _ := http.NewRequest(http.MethodPost, h.URL+"/.well-known/est/simplereenroll", strings.NewReader(base64.StdEncoding.EncodeToString(csr)))
			request.Header.Set("Content-Type", "application/pkcs10")
			answer, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, answer.Body)
			answer.Body.Close()
			return answer, answer.TLS.DidResume
		}
		if answer, _ := renew(); answer.StatusCode != 200 {
			t.Fatalf("%s: got %d", tls.VersionName(version), answer.StatusCode)
		}
		if answer, resumed := renew(); answer.StatusCode != 200 || !resumed {
			t.Errorf("%s: got %d, resumed %v", tls.VersionName(version), answer.StatusCode, resumed)
		}
		h.Hallmark("device", "quarantine", "dev-1", "--reason", "seen elsewhere")
		if answer, resumed := renew(); answer.StatusCode != 403 || !resumed {
			t.Errorf("%s, quarantined: got %d, resumed %v", tls.VersionName(version), answer.StatusCode, resumed)
		}
		h.Hallmark("device", "release", "dev-1")
	}
}

// Each certificate of a client's chain may cost a signature check, so there is
// an end to them.
func TestLongChains(t *testing.T) {
	h := house(t, "dev-1")
	identity, err := housetest.Enrol(h.EST("dev-1", h.Token("--device", "dev-1")))
	if err != nil {
		t.Fatal(err)
	}
	for length, want := range map[int]int{1: 0, 8: 0, 9: 403, 60: 403} {
		c := h.EST("", "")
		c.Certificate = identity.TLS()
		for len(c.Certificate.Certificate) < length {
			c.Certificate.Certificate = append(c.Certificate.Certificate, identity.Certificate.Raw)
		}
		if _, err := enrolLinked(t, c, (*estclient.Session).Binding); estclient.Status(err) != want {
			t.Errorf("%d certificates: %v", length, err)
		}
	}
}

package housetest_test

import (
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/hallmark-pki/hallmark/internal/estclient"
	"github.com/hallmark-pki/hallmark/internal/housetest"
)

// Every EST operation as everybody: a new operation without a row here has
// nobody who says what it must prove.
func TestWhoMayDoWhatAtEST(t *testing.T) {
	h := housetest.Start(t, "--rate-limits=off")
	h.Import("gw-1")
	token := h.Token("--uses", "1000")
	device, err := housetest.Enrol(h.EST("gw-1", token))
	if err != nil {
		t.Fatal(err)
	}
	operator, err := tls.LoadX509KeyPair(filepath.Join(h.Dir, "operators", "admin.crt"), filepath.Join(h.Dir, "operators", "admin.key"))
	if err != nil {
		t.Fatal(err)
	}
	csr, err := (&estclient.Request{Key: device.Key}).DER()
	if err != nil {
		t.Fatal(err)
	}
	type credential struct {
		certificate *tls.Certificate
		password    string
	}
	who := []string{"nobody", "a guess", "a token", "a stranger", "an operator", "a device"}
	credentials := map[string]credential{
		"nobody": {}, "a guess": {password: "hmt_guess"}, "a token": {password: token},
		"a stranger":  {certificate: housetest.Stranger(t, "gw-1").TLS()},
		"an operator": {certificate: &operator}, "a device": {certificate: device.TLS()},
	}
	for operation, row := range map[string]struct {
		method string
		want   []int // in the order of who
	}{
		"cacerts":        {"GET", []int{200, 200, 200, 200, 200, 200}},
		"csrattrs":       {"GET", []int{200, 200, 200, 200, 200, 200}},
		"simpleenroll":   {"POST", []int{401, 401, 200, 401, 401, 200}},
		"simplereenroll": {"POST", []int{401, 403, 403, 401, 401, 200}},
		"serverkeygen":   {"POST", []int{404, 404, 404, 404, 404, 404}}, // off
		"fullcmc":        {"POST", []int{501, 501, 501, 501, 501, 501}},
		"nonce":          {"GET", []int{401, 401, 200, 401, 401, 200}},
	} {
		for i, name := range who {
			for _, path := range []string{"/.well-known/est/", "/.well-known/est/device/", "/device/.well-known/est/"} {
				t.Run(operation+" as "+name+" at "+path, func(t *testing.T) {
					client, config := h.Client()
					c := credentials[name]
					if c.certificate != nil {
						config.Certificates = []tls.Certificate{*c.certificate}
					}
					var body io.Reader
					if row.method == "POST" {
						body = strings.NewReader(base64.StdEncoding.EncodeToString(csr))
					}
					request, err := http.NewRequest(row.method, h.URL+path+operation, body)
					if err != nil {
						t.Fatal(err)
					}
					request.Header.Set("Content-Type", "application/pkcs10")
					if c.password != "" {
						request.SetBasicAuth("gw-1", c.password)
					}
					answer, err := client.Do(request)
					if err != nil {
						t.Fatal(err)
					}
					defer answer.Body.Close()
					text, _ := io.ReadAll(answer.Body)
					if answer.StatusCode != row.want[i] {
						t.Errorf("status %d, want %d: %s", answer.StatusCode, row.want[i], text)
					}
				})
			}
		}
	}
}

// Streams that are opened and reset by the thousand (CVE-2023-44487) and headers
// that never end (CVE-2023-45288) cost their sender the connection, and nobody
// else anything.
func TestHTTP2Abuse(t *testing.T) {
	h := housetest.Start(t)
	h.Import("gw-1")
	for name, abuse := range map[string]func(*http2.Framer) error{
		"rapid reset":   rapidReset,
		"continuations": continuations,
	} {
		t.Run(name, func(t *testing.T) {
			_, config := h.Client()
			config.NextProtos = []string{"h2"}
			c, err := tls.Dial("tcp", strings.TrimPrefix(h.URL, "https://"), config)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			go io.Copy(io.Discard, c)
			if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
				t.Fatal(err)
			}
			f := http2.NewFramer(c, nil)
			if err := f.WriteSettings(); err != nil {
				t.Fatal(err)
			}
			t.Logf("the abuse ended with %v", abuse(f)) // cut off, or all of it swallowed
		})
	}
	stillServes(t, h, h.Token("--uses", "1"))
}

// field is one header, encoded.
func field(name, value string) []byte {
	var b strings.Builder
	hpack.NewEncoder(&b).WriteField(hpack.HeaderField{Name: name, Value: value})
	return []byte(b.String())
}

func rapidReset(f *http2.Framer) error {
	var block []byte
	for _, pair := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "x"}, {":path", "/.well-known/est/cacerts"}} {
		block = append(block, field(pair[0], pair[1])...)
	}
	for id := uint32(1); id < 20_000; id += 2 {
		if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndStream: true, EndHeaders: true}); err != nil {
			return err
		}
		if err := f.WriteRSTStream(id, http2.ErrCodeCancel); err != nil {
			return err
		}
	}
	return nil
}

func continuations(f *http2.Framer) error {
	if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: field(":method", "GET"), EndStream: true}); err != nil {
		return err
	}
	for i := range 20_000 {
		if err := f.WriteContinuation(1, false, field(fmt.Sprintf("x-%d", i), strings.Repeat("a", 200))); err != nil {
			return err
		}
	}
	return nil
}

package est

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net/url"
	"strings"
	"testing"

	"github.com/hallmark-pki/hallmark/internal/fault"
)

func TestParsePath(t *testing.T) {
	long := strings.Repeat("a", 63)
	for path, want := range map[string]string{
		"/.well-known/est/cacerts":              " cacerts",
		"/.well-known/est/factory/simpleenroll": "factory simpleenroll",
		"/factory/.well-known/est/simpleenroll": "factory simpleenroll",
		"/.well-known/est/a-1/csrattrs":         "a-1 csrattrs",
		"/" + long + "/.well-known/est/cacerts": long + " cacerts",
		"/.well-known/est/unheard-of":           " unheard-of",

		"/.well-known/est":                            "",
		"/.well-known/est/":                           "",
		"/.well-known/est/cacerts/":                   "",
		"/.well-known/est//cacerts":                   "",
		"//.well-known/est/cacerts":                   "",
		"/a/b/.well-known/est/cacerts":                "",
		"/a/.well-known/est/b/cacerts":                "",
		"/.well-known/est/a/b/cacerts":                "",
		"/.well-known/est/../est/cacerts":             "",
		"/.well-known/est/..%2fcacerts":               "",
		"/.well-known/est/factory%2fcacerts":          "",
		"/.well-known/est/%63acerts":                  "",
		"/.well-known/est/Factory/cacerts":            "",
		"/.well-known/est/-factory/cacerts":           "",
		"/.well-known/est/fac_tory/cacerts":           "",
		"/.well-known/est/fac.tory/cacerts":           "",
		"/.well-known/est/caf%C3%A9/cacerts":          "",
		"/.well-known/est/cacerts/cacerts":            "",
		"/simpleenroll/.well-known/est/cacerts":       "",
		"/" + long + "a/.well-known/est/cacerts":      "",
		"/.well-known/est/a\x00/cacerts":              "",
		"/.well-known/est/.well-known/est/cacerts":    "",
		"/a/.well-known/est/b/.well-known/est/x":      "",
		"/x%00/.well-known/est/cacerts":               "",
		"/.well-known/est/factory/simpleenroll/extra": "",
	} {
		u, err := url.Parse("https://host" + strings.ReplaceAll(path, "\x00", "%00"))
		if err != nil {
			t.Fatal(err)
		}
		label, operation, ok := parsePath(u)
		got := label + " " + operation
		if !ok {
			got = ""
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
}

func TestCheckLabel(t *testing.T) {
	for label, want := range map[string]bool{
		"default": true, "line-7": true, "7": true, "simple": true,
		"": false, "-a": false, "A": false, "a/b": false, "cacerts": false, "nonce": false, "pal": false, "sren": false,
	} {
		if err := CheckLabel(label); (err == nil) != want {
			t.Errorf("%q: %v", label, err)
		}
	}
}

func FuzzParsePath(f *testing.F) {
	for _, seed := range []string{"/.well-known/est/cacerts", "/a/.well-known/est/simpleenroll", "/.well-known/est/a/csrattrs", "/.well-known/est/%2e%2e/x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		u, err := url.ParseRequestURI(path)
		if err != nil {
			return
		}
		label, operation, ok := parsePath(u)
		if !ok {
			return
		}
		if label != "" && CheckLabel(label) != nil {
			t.Errorf("%q gave the label %q", path, label)
		}
		// What is accepted is one of the two spellings and nothing else.
		spellings := []string{wellKnown + operation}
		if label != "" {
			spellings = []string{wellKnown + label + "/" + operation, "/" + label + wellKnown + operation}
		}
		if u.EscapedPath() != spellings[0] && (len(spellings) < 2 || u.EscapedPath() != spellings[1]) {
			t.Errorf("%q was read as label %q, operation %q", path, label, operation)
		}
	})
}

func csrDER(t testing.TB) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestDecodeBody(t *testing.T) {
	der := csrDER(t)
	text := base64.StdEncoding.EncodeToString(der)
	armoured := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	for name, body := range map[string]string{
		"one line":           text,
		"one line and LF":    text + "\n",
		"wrapped LF":         string(encodeBody(der, true)),
		"wrapped CRLF":       strings.ReplaceAll(string(encodeBody(der, true)), "\n", "\r\n"),
		"spaces and tabs":    " \t" + text[:10] + " \t " + text[10:],
		"PEM":                armoured,
		"PEM with CRLF":      strings.ReplaceAll(armoured, "\n", "\r\n"),
		"PEM on one line":    strings.ReplaceAll(armoured, "\n", ""),
		"PEM of older tools": strings.ReplaceAll(armoured, "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"),
	} {
		got, err := decodeBody([]byte(body))
		if err != nil || !bytes.Equal(got, der) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string]struct{ body, code string }{
		"empty":           {"", "body_empty"},
		"white space":     {" \r\n", "body_empty"},
		"binary":          {string(der), "base64_malformed"},
		"URL alphabet":    {"-_-_", "base64_malformed"},
		"no padding":      {"QQ", "base64_malformed"},
		"form feed":       {"QUFB\fQUFB", "base64_malformed"},
		"JSON":            {`{"csr":"QUFB"}`, "base64_malformed"},
		"half an armour":  {"-----BEGIN CERTIFICATE REQUEST", "pem_malformed"},
		"armour open":     {"-----BEGIN CERTIFICATE REQUEST-----\nQUFB\n", "pem_malformed"},
		"armour and nada": {"-----BEGIN X-----\n-----END X-----\n", "body_empty"},
	} {
		_, err := decodeBody([]byte(c.body))
		if !fault.Is(err, fault.Malformed) || fault.Of(err).Code != c.code {
			t.Errorf("%s: got %v, want %s", name, err, c.code)
		}
	}
}

func FuzzDecodeBody(f *testing.F) {
	f.Add([]byte("QUFB\n"))
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\r\nQUFB\r\n-----END CERTIFICATE REQUEST-----\r\n"))
	f.Add([]byte("-----BEGIN -----END "))
	f.Add([]byte{0x30, 0x82})
	f.Fuzz(func(t *testing.T, body []byte) {
		der, err := decodeBody(body)
		if err != nil {
			if !fault.Is(err, fault.Malformed) {
				t.Errorf("an error of kind %s", fault.Of(err).Kind)
			}
			return
		}
		for _, wrap := range []bool{false, true} {
			again, err := decodeBody(encodeBody(der, wrap))
			if len(der) > 0 && (err != nil || !bytes.Equal(again, der)) {
				t.Errorf("what was decoded does not survive encoding: %v", err)
			}
		}
	})
}

// Real clients dictate the shape: strongSwan reads no line break inside, libest
// no line over 1 kB, and libest nothing without a line end at the end.
func TestEncodeBody(t *testing.T) {
	for _, size := range []int{1, 47, 48, 49, 700, 3000} {
		der := bytes.Repeat([]byte{0xa5}, size)
		one, lines := string(encodeBody(der, false)), string(encodeBody(der, true))
		if strings.Index(one, "\n") != len(one)-1 {
			t.Errorf("%d bytes: want one line and its end, got %q", size, one)
		}
		for line := range strings.Lines(lines) {
			if len(line) > 65 || line == "\n" {
				t.Errorf("%d bytes: a line of %d", size, len(line)-1)
			}
		}
		if !strings.HasSuffix(lines, "\n") || strings.ReplaceAll(lines, "\n", "")+"\n" != one {
			t.Errorf("%d bytes: wrapping changed the text", size)
		}
	}
}

func TestContentType(t *testing.T) {
	for value, want := range map[string]bool{
		"application/pkcs10": true, "Application/PKCS10": true, "application/pkcs10; charset=utf-8": true, "": true,
		"application/x-www-form-urlencoded": false, "application/json": false, "text/plain": false, ";": false,
	} {
		if isPKCS10(value) != want {
			t.Errorf("%q: got %v", value, !want)
		}
	}
}

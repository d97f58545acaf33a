package estclient

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func answer(status int, retryAfter string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{"Retry-After": {retryAfter}}}
}

func TestErrorOf(t *testing.T) {
	for name, c := range map[string]struct {
		body, retry string
		want        Error
	}{
		"ours":            {"denied: no such luck\nref: abc123\n", "", Error{Status: 403, Code: "denied", Says: "no such luck", Ref: "abc123"}},
		"held":            {"held: wait\nref: abc\n", "30", Error{Status: 403, Code: "held", Says: "wait", Ref: "abc", RetryAfter: 30 * time.Second}},
		"somebody else's": {"<html>Forbidden: go away</html>", "Wed, 21 Oct 2026 07:28:00 GMT", Error{Status: 403, Says: "<html>Forbidden: go away</html>"}},
		"nothing":         {"", "-5", Error{Status: 403}},
		"too long a wait": {"", "99999999", Error{Status: 403, RetryAfter: maxWait}},
		"escape codes":    {"a: \x1b[31mred\x9b\nref: \x07x\n", "", Error{Status: 403, Code: "a", Says: "[31mred?", Ref: "x"}},
	} {
		if got := errorOf(answer(403, c.retry), []byte(c.body)); *got != c.want {
			t.Errorf("%s: got %+v, want %+v", name, *got, c.want)
		}
	}
}

func FuzzErrorOf(f *testing.F) {
	f.Add([]byte("denied: no\nref: abc\n"), "30")
	f.Add([]byte("\xff\x1b[2J"), "1e9")
	f.Fuzz(func(t *testing.T, body []byte, retry string) {
		e := errorOf(answer(500, retry), body)
		for _, c := range e.Error() {
			if c < ' ' || c == 0x7f || c >= 0x80 && c < 0xa0 {
				t.Fatalf("%q steers a terminal", e.Error())
			}
		}
		if e.RetryAfter < 0 || e.RetryAfter > maxWait {
			t.Fatalf("wait %s", e.RetryAfter)
		}
	})
}

func FuzzAnswers(f *testing.F) {
	f.Add([]byte("MCwGCSqGSIb3DQEJBzAVBgcqhkjOPQIBMQoGCCqGSM49AwEHBggqhkjOPQQDAg==\n"))
	f.Add([]byte("MCMGCSqGSIb3DQEHAqAWMBQCAQExADALBgkqhkiG9w0BBwGgADEA"))
	f.Fuzz(func(_ *testing.T, body []byte) {
		if der, err := decode(body); err == nil {
			single(der)
			WantsBinding(der)
		}
	})
}

func FuzzKeyAndCertificate(f *testing.F) {
	f.Add("multipart/mixed; boundary=b", []byte("--b\r\nContent-Type: application/pkcs8\r\n\r\nMAA=\n\r\n--b--\r\n"))
	f.Add("multipart/mixed", []byte("----\r\n"))
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		key, certificate, err := keyAndCertificate(contentType, body)
		if err == nil && (key == nil || certificate == nil) {
			t.Error("half an answer is taken for a whole one")
		}
	})
}

func TestWantsBinding(t *testing.T) {
	for text, want := range map[string]bool{
		"MCwGCSqGSIb3DQEJBzAVBgcqhkjOPQIBMQoGCCqGSM49AwEHBggqhkjOPQQDAg==": true,
		"MAA=": false,
		"MCEwFQYHKoZIzj0CATEKBggqhkjOPQMBBwYIKoZIzj0EAwI=": false,
		"": false,
	} {
		der, err := decode([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if WantsBinding(der) != want {
			t.Errorf("%q: got %v", text, !want)
		}
	}
}

func TestLocate(t *testing.T) {
	for server, want := range map[string]string{
		"https://ca.example":       "ca.example:443",
		"https://ca.example:8443/": "ca.example:8443",
		"https://[::1]:8443":       "[::1]:8443",
		"http://ca.example":        "", "ca.example:8443": "", "https://": "",
		"https://ca.example/est": "", "https://u:p@ca.example": "", "https://ca.example?x": "",
	} {
		base, address, err := (&Client{Server: server, Label: "factory"}).locate()
		if (err == nil) != (want != "") || address != want {
			t.Errorf("%s: %s, %v", server, address, err)
		}
		if err == nil && !strings.HasSuffix(base, "/.well-known/est/factory/") {
			t.Errorf("%s: %s", server, base)
		}
		if err != nil && strings.Contains(err.Error(), "u:p@") {
			t.Errorf("the error holds a password: %v", err)
		}
	}
}

package console

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// hostile are values that have broken parsers, databases, shells, logs and terminals.
var hostile = []string{
	`'`, `''`, `"`, "`", `\`, `%`, `%25`, `*`, `_`, `?`, `#`, `;--`, `' OR '1'='1`, `1); DROP TABLE token;--`, `$(id)`, `{{7*7}}`, `${x}`,
	"\x00", "a\x00b", "\r\nX-Evil: 1", "\x1b[31m", "\x7f", "\u202egpj", "\ufeff", "\ufffd", "\xff", "\xc0\xaf", "\xed\xa0\x80",
	"..", "../", "../../etc/passwd", `..\..\x`, "%2e%2e%2f", "/", "//", ".", " ", "\t",
	"ключ", "設備", "e\u0301", "💥", "İ", "-1", "0", "1e309", "NaN", "null", "true", "[]", `{"$gt":""}`, "999999999999999999999999",
	strings.Repeat("a", 255), strings.Repeat("a", 256), strings.Repeat("a", 257), strings.Repeat("9", 10_000), strings.Repeat("é", 5_000),
}

var pathParameter = regexp.MustCompile(`\{[^}]*\}`)

// queries are the parameters of each route that has any.
var queries = map[string][]string{
	"/api/v1/tokens": {"device", "limit", "cursor"}, "/api/v1/requests": {"state", "device", "limit", "cursor"},
	"/api/v1/devices": {"model", "batch", "state", "limit", "cursor"}, "/api/v1/anchors": {"profile", "kind", "limit", "cursor"},
	"/api/v1/anchors/{id}": {"profile"}, "/api/v1/certificates": {"device", "profile", "valid", "revoked", "limit", "cursor"},
	"/api/v1/decisions/events": {"action", "actor", "device", "verdict", "since", "until", "limit", "cursor"},
	"/api/v1/decisions":        {"action", "actor", "device", "verdict", "since", "until", "limit", "cursor"},
	"/api/v1/policy/proposals": {"state", "author", "limit", "cursor"}, "/api/v1/policy/revisions": {"limit", "cursor"},
	"/api/v1/audit/entries": {"action", "actor", "object", "outcome", "since", "until", "limit", "cursor"},
}

// bodies are the text fields of each route that takes JSON.
var bodies = map[string][]string{
	"POST /api/v1/tokens": {"device", "profile", "ttl"}, "POST /api/v1/anchors": {"profile", "kind", "certificate"},
	"POST /api/v1/requests/{id}/approve": {"reason"}, "POST /api/v1/requests/{id}/deny": {"reason"},
	"POST /api/v1/devices/{id}/quarantine": {"reason"}, "POST /api/v1/devices/{id}/release": {"reason"}, "POST /api/v1/devices/{id}/retire": {"reason"},
}

// TestNoParameterBreaksAnything puts every hostile value into every parameter of
// every route. The administrator asks, so that nothing is stopped early.
func TestNoParameterBreaksAnything(t *testing.T) { onBoth(t, noParameterBreaksAnything) }

func noParameterBreaksAnything(t *testing.T, h *house) {
	client := h.client(h.admin)
	try := func(method, target, kind, body, what string) {
		r := h.send(client, method, target, kind, body)
		switch {
		case r.StatusCode >= 500:
			t.Errorf("%s: %s: %s", what, r.Status, r.body)
		case r.StatusCode >= 400:
			r.problem(t)
		case r.StatusCode >= 300:
			t.Errorf("%s: %s to %s", what, r.Status, r.Header.Get("Location"))
		}
		if r.Header.Get("X-Evil") != "" {
			t.Errorf("%s: a header of the caller's came back", what)
		}
	}
	for _, rt := range routes {
		plain := pathParameter.ReplaceAllString(rt.pattern, "x")
		for _, value := range hostile {
			what := fmt.Sprintf("%s %s with %.40q", rt.method, rt.pattern, value)
			if plain != rt.pattern {
				target := pathParameter.ReplaceAllLiteralString(rt.pattern, url.PathEscape(value))
				try(rt.method, target, "application/json", `{"reason":"x"}`, what)
			}
			for _, name := range queries[rt.pattern] {
				if rt.method != "POST" {
					try(rt.method, plain+"?"+name+"="+url.QueryEscape(value), "", "", what+" as "+name)
				}
			}
			for _, name := range bodies[rt.method+" "+rt.pattern] {
				try(rt.method, plain, "application/json", jsonOf(map[string]string{name: value}), what+" as "+name)
			}
			try(rt.method, plain+"?"+url.QueryEscape(value)+"=1", "", "", what+" as a parameter's name")
		}
	}
	for _, value := range hostile {
		for _, kind := range []string{csvType, jsonlType} {
			try("POST", "/api/v1/devices/import", kind, value, fmt.Sprintf("an import of %.40q", value))
			try("POST", "/api/v1/devices/import", kind, "id,model\n"+value+",m\ngw,"+value+"\n", fmt.Sprintf("an import with %.40q", value))
			try("POST", "/api/v1/devices/import", kind, jsonOf(map[string]any{"id": value, "labels": map[string]string{value: value}}), fmt.Sprintf("an import with %.40q", value))
		}
	}
}

func TestRawRequestLines(t *testing.T) {
	h := newHouse(t)
	for _, line := range []string{
		"GET /api/v1/devices/\x00 HTTP/1.1", "GET /api/v1/devices/%00 HTTP/1.1", "GET /api/v1/devices/%zz HTTP/1.1", "GET /api/v1/devices/\xff\xfe HTTP/1.1",
		"GET /api/v1/devices/../../etc HTTP/1.1", "GET /api/v1/devices/%2e%2e%2f%2e%2e HTTP/1.1", "GET http://other/api/v1/devices HTTP/1.1",
		"OPTIONS * HTTP/1.1", "TRACE /api/v1/tokens HTTP/1.1", "CONNECT /api/v1/tokens HTTP/1.1", "BREW /api/v1/tokens HTTP/1.1", "GET //api/v1/tokens HTTP/1.1",
		"GET /api/v1/tokens?%zz HTTP/1.1", "GET /api/v1/tokens?a;b HTTP/1.1", "GET /api/v1/tokens?=&&&= HTTP/1.1", "GET /log/tile/0/000%2Fx HTTP/1.1",
		"GET /log/tile/-1/000 HTTP/1.1", "GET /log/tile/99/000 HTTP/1.1", "GET /log/tile/0/x999/x999/x999/x999/x999/x999/999 HTTP/1.1", "GET /log/tile/ HTTP/1.1",
	} {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(h.url, "https://"), &tls.Config{RootCAs: h.roots, NextProtos: []string{"http/1.1"},
			Certificates: []tls.Certificate{*h.admin}})
		check(t, err)
		fmt.Fprintf(conn, "%s\r\nHost: localhost\r\nConnection: close\r\n\r\n", line)
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Errorf("%q: %v", line, err)
		} else if response.StatusCode >= 500 && response.StatusCode != http.StatusNotImplemented || response.StatusCode/100 == 3 {
			t.Errorf("%q: %s", line, response.Status)
		}
		conn.Close()
	}
	h.want(h.client(h.admin), 200, "GET", "/api/v1/tokens", "")
}

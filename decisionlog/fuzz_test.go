package decisionlog

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
)

// FuzzMask: no mask of the configuration or of rules breaks an event, and what is taken out is out.
func FuzzMask(f *testing.F) {
	f.Add(`"/input/a"`, `{"a":[1,{"b":2}]}`)
	f.Add(`"/input/*/1/*"`, `{"a":[1,{"b":2}]}`)
	f.Add(`{"op":"upsert","path":"/input/a/0/x","value":{"y":[]}}`, `{"a":[{}]}`)
	f.Add(`{"op":"remove","path":"/result/a%2Fb"}`, `{}`)
	f.Fuzz(func(t *testing.T, mask, input string) {
		var v any
		if decode([]byte(mask), &v) != nil {
			return
		}
		m, err := ParseMask(v)
		if err != nil {
			return
		}
		e := Event{Result: map[string]any{}}
		if decode([]byte(input), &e.Input) != nil {
			return
		}
		e.apply([]Mask{m, m})
		if _, err := json.Marshal(e); err != nil {
			t.Error(err)
		}
	})
}

// FuzzLeaf: an entry of the record, however broken, makes an event or an error.
func FuzzLeaf(f *testing.F) {
	f.Add([]byte(`{"action":"device.show","actor":{"id":"ada","type":"user"},"at":"2026-11-24T00:00:00.000Z","decision":{"input":{"context":{"ip":"192.0.2.1"}},"policy":"sha256:x","verdict":"allow"},"id":"06h0ksg5d2uuium4pdeo3mdnjg","object":{"id":"d","type":"device"},"outcome":"granted","v":1}`))
	f.Add([]byte(`{"decision":{}}`))
	f.Fuzz(func(t *testing.T, leaf []byte) {
		d, err := read(audit.Entry{Leaf: leaf})
		if err != nil {
			return
		}
		d.document()
		if _, err := json.Marshal(d.finish()); err != nil {
			t.Error(err)
		}
	})
}

// FuzzAnswer: what a sink answers is a verdict and a bounded pause.
func FuzzAnswer(f *testing.F) {
	f.Add(429, "120")
	f.Add(503, "Wed, 21 Oct 2026 07:28:00 GMT")
	f.Add(-1, "-99999999999999999999")
	f.Fuzz(func(t *testing.T, status int, after string) {
		r := judge(&http.Response{StatusCode: status, Header: http.Header{"Retry-After": {after}}}, time.Unix(1.8e9, 0))
		if (r == nil) != (status >= 200 && status < 300) {
			t.Errorf("%d: %v", status, r)
		}
		if r != nil && (r.after < 0 || r.after > longestPatience || r.why() == "") {
			t.Errorf("%d, %q: %+v", status, after, r)
		}
	})
}

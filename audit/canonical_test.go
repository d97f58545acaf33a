package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/internal/fault"
)

func TestCanonical(t *testing.T) {
	for _, c := range []struct {
		value any
		want  string
	}{
		{nil, `null`},
		{true, `true`},
		{-7, `-7`},
		{int64(1 << 53), `9007199254740992`},
		{int64(1<<53 + 1), `9007199254740992`}, // no double lies between (RFC 8785, Appendix B)
		{int64(math.MaxInt64), `9223372036854776000`},
		{int64(math.MinInt64), `-9223372036854776000`},
		{"\x00\x08\x09\x0a\x0b\x0c\x0d\x1f\x7f\"\\/", `"\u0000\b\t\n\u000b\f\r\u001f` + "\x7f" + `\"\\/"`},
		{"<&>'", `"<&>'"`},
		{"\u2028\u2029", "\"\u2028\u2029\""},
		{"a\xffb\xc3", "\"a\ufffdb\ufffd\""},
		{"\xed\xa0\x80", "\"\ufffd\ufffd\ufffd\""}, // a lone surrogate, as invalid as any other byte
		{"\U0001f600", "\"\U0001f600\""},
		{[]string{}, `[]`},
		{[]string{"a", "b"}, `["a","b"]`},
		{[]any{1, nil, []any{}}, `[1,null,[]]`},
		{map[string]any{}, `{}`},
		// The example of RFC 8785, Section 3.2.3: order by UTF-16 code units.
		{map[string]any{"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\u0080": 6, "\u00f6": 7},
			"{\"\\r\":2,\"1\":4,\"\u0080\":6,\"\u00f6\":7,\"\u20ac\":1,\"\U0001f600\":5,\"\ufb33\":3}"},
		{map[string]any{"b": map[string]any{"z": 1, "a": "x"}, "a": json.RawMessage(`{"k":0}`)}, `{"a":{"k":0},"b":{"a":"x","z":1}}`},
		{map[string]any{"k\xff": 1, "k\xfe": 2}, "{\"k\ufffd\":2}"},
	} {
		got := AppendCanonical(nil, c.value)
		if string(got) != c.want {
			t.Errorf("%#v: %s, want %s", c.value, got, c.want)
		}
		if err := CheckCanonical(got); err != nil {
			t.Errorf("%s: %v", got, err)
		}
	}
}

func TestCheckCanonicalRefuses(t *testing.T) {
	for _, text := range []string{
		``, ` `, `nul`, `nulll`, `{`, `}`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{a:1}`, `[`, `[1,]`, `[1`, `"`, `"a`,
		` 1`, `1 `, `{"a": 1}`, `[1, 2]`, "{\n}", `01`, `-0`, `-`, `1.5`, `1e3`, `9007199254740993`, `99999999999999999999`,
		`"\/"`, `"\u0041"`, `"\u000A"`, `"\u000a"`, `"\u001F"`, `"\u2028"`, `"\ud83d\ude00"`, `"\x"`, `"\u00"`, "\"\x01\"", "\"\xff\"",
		`{"b":1,"a":2}`, `{"a":1,"a":2}`, "{\"\ufb33\":1,\"\U0001f600\":2}", `{"\n":1,"\n":1}`, `1 2`, `{}{}`,
		"\ufeff{}", strings.Repeat("[", 1000) + strings.Repeat("]", 1000),
	} {
		if err := CheckCanonical([]byte(text)); err == nil {
			t.Errorf("%.60q was accepted", text)
		}
	}
}

func event() Event {
	at := time.Date(2026, 11, 23, 12, 0, 0, 123456789, time.FixedZone("", 3600))
	return Event{ID: NewID(at), At: at, Action: "certificate.issue", Actor: Party{"device", "d1"},
		Object: Party{"device", "d1"}, Outcome: Granted, Source: "192.0.2.1", Request: "r1",
		Decision: json.RawMessage(`{"policy":"sha256:00","verdict":"allow"}`), Fact: json.RawMessage(`{"serial":"0a"}`)}
}

func TestLeaf(t *testing.T) {
	e := event()
	leaf, err := e.Leaf()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"action":"certificate.issue","actor":{"id":"d1","type":"device"},"at":"2026-11-23T11:00:00.123Z",` +
		`"decision":{"policy":"sha256:00","verdict":"allow"},"fact":{"serial":"0a"},"id":"` + e.ID.String() +
		`","object":{"id":"d1","type":"device"},"outcome":"granted","request":"r1","source":"192.0.2.1","v":1}`
	if string(leaf) != want {
		t.Errorf("leaf\n%s, want\n%s", leaf, want)
	}
	var f leafFields
	if err := f.read(leaf); err != nil || f.id != e.ID || string(f.action) != e.Action || !f.at.Equal(e.At.Truncate(time.Millisecond)) {
		t.Errorf("read back %+v, %v", f, err)
	}
}

func TestLeafRefuses(t *testing.T) {
	for name, change := range map[string]func(*Event){
		"no id":           func(e *Event) { e.ID = ID{} },
		"no time":         func(e *Event) { e.At = time.Time{} },
		"a year too far":  func(e *Event) { e.At = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"no action":       func(e *Event) { e.Action = "" },
		"no actor":        func(e *Event) { e.Actor = Party{} },
		"no object":       func(e *Event) { e.Object = Party{} },
		"no outcome":      func(e *Event) { e.Outcome = "" },
		"spaced fact":     func(e *Event) { e.Fact = json.RawMessage(`{"a": 1}`) },
		"unsorted fact":   func(e *Event) { e.Fact = json.RawMessage(`{"b":1,"a":1}`) },
		"broken decision": func(e *Event) { e.Decision = json.RawMessage(`{"a":1`) },
		"two facts":       func(e *Event) { e.Fact = json.RawMessage(`{},"v":2`) },
	} {
		e := event()
		change(&e)
		if leaf, err := e.Leaf(); err == nil {
			t.Errorf("%s: %s", name, leaf)
		}
	}
}

func TestLeafIsBounded(t *testing.T) {
	e := event()
	e.Request = ""
	leaf, err := e.Leaf()
	if err != nil {
		t.Fatal(err)
	}
	room := MaxLeaf - len(leaf) - len(`,"request":""`)
	e.Request = strings.Repeat("x", room)
	if leaf, err = e.Leaf(); err != nil || len(leaf) != MaxLeaf {
		t.Errorf("%d bytes, %v; want %d", len(leaf), err, MaxLeaf)
	}
	e.Request += "x"
	_, err = e.Leaf()
	var f *fault.Error
	if !errors.As(err, &f) || f.Code != "record_too_large" {
		t.Errorf("one byte more: %v", err)
	}
}

// FuzzLeaf feeds an event from hostile strings: whatever becomes a leaf is
// canonical, valid JSON, and comes out the same when it is decoded and encoded again.
func FuzzLeaf(f *testing.F) {
	f.Add("certificate.issue", "d1", "k", "v", int64(1))
	f.Add("\x00\u2028\xff", "\xed\xa0\x80", "\U0001f600", "\ufb33\n\"\\", int64(math.MinInt64))
	f.Fuzz(func(t *testing.T, action, id, key, value string, number int64) {
		e := event()
		e.Action, e.Actor.ID, e.Request = action, id, value
		e.Fact = AppendCanonical(nil, map[string]any{key: value, value: []any{number, nil, true}, id: map[string]any{action: 1, key: []string{key}}})
		leaf, err := e.Leaf()
		if err != nil {
			if action != "" && len(action)+len(id)+len(key)+len(value) < 2000 {
				t.Fatal(err)
			}
			return
		}
		if !json.Valid(leaf) || bytes.IndexByte(leaf, '\n') >= 0 {
			t.Fatalf("not one line of JSON: %q", leaf)
		}
		if err := CheckCanonical(leaf); err != nil {
			t.Fatalf("%q: %v", leaf, err)
		}
		again, err := reencode(leaf)
		if err != nil || !bytes.Equal(again, leaf) {
			t.Fatalf("%q became %q, %v", leaf, again, err)
		}
	})
}

// FuzzCheckCanonical compares the strict scanner with encoding/json: what it
// accepts is what AppendCanonical writes, and nothing else.
func FuzzCheckCanonical(f *testing.F) {
	f.Add([]byte(`{"a":[1,-2,null,true,false,"\u0000\n\"\\é"],"b":{}}`))
	f.Add([]byte(`{"\n":9007199254740992,"é":9223372036854776000}`))
	f.Add([]byte(`[[[[-0]]],1.0,"\/"]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		accepted := CheckCanonical(data) == nil
		again, err := reencode(data)
		if accepted && !(json.Valid(data) && (err != nil || bytes.Equal(again, data))) {
			t.Fatalf("%q was accepted; again it is %q", data, again)
		}
		if !accepted && err == nil && bytes.Equal(again, data) && bytes.Count(data, []byte("["))+bytes.Count(data, []byte("{")) < maxDepth {
			t.Fatalf("%q was refused and is canonical: %v", data, CheckCanonical(data))
		}
	})
}

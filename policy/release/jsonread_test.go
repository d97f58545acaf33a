package release

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
	"unicode/utf8"
)

// FuzzReadObject: what is read is what encoding/json reads, and what that
// refuses is refused.
func FuzzReadObject(f *testing.F) {
	for _, text := range []string{`{}`, `{"a":[1,-2,{"b":null}],"c":"d\u00e9\"\\"}`, ` { "a" : [ ] , "b" : true } `, `{"a":01}`, `{"a":1.5}`,
		`{"a":1,"a":2}`, `{"a":9223372036854775808}`, `[1]`, `{"a":"\`, `{"a":--1}`, "{\"a\":\"\x01\"}", `{"a":-0}`, `{"a":tru}`, `{,}`, `{"a":1,}`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := readObject(text)
		if !utf8.ValidString(text) { // encoding/json repairs it; the record holds none
			return
		}
		d := json.NewDecoder(bytes.NewReader([]byte(text)))
		d.UseNumber()
		var want map[string]any
		if json.Valid([]byte(text)) {
			_ = d.Decode(&want)
		}
		if err == nil && !reflect.DeepEqual(any(got), integersOf(want)) {
			t.Errorf("%q reads as %v, want %v", text, got, want)
		}
	})
}

// integersOf is v with its numbers as the record has them; other numbers stay as they are.
func integersOf(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, e := range v {
			v[name] = integersOf(e)
		}
	case []any:
		for i, e := range v {
			v[i] = integersOf(e)
		}
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
	}
	return v
}

// TestReadObjectTakesWhatTheRecordHolds: nothing that package audit writes is refused.
func TestReadObjectTakesWhatTheRecordHolds(t *testing.T) {
	for _, text := range []string{`{}`, `{"a":[1,-2,{"b":null}],"c":"dé\"\\\n","d":{"e":[]},"f":false,"g":9007199254740992}`} {
		if _, err := readObject(text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range []string{"", "{", `{"a"}`, `{"a":1.5}`, `{"a":1e3}`, `{"a":01}`, `{} x`, `[]`, `{"a":"` + "\n" + `"}`} {
		if _, err := readObject(text); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}

package release

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
)

// A replay reads a million leaves, and a question has to come out as it went in:
// integers as int64, and nothing else that is a number (see policy.Properties).
// encoding/json takes three passes and a third of a replay's time for that.

// deepest bounds the nesting of what is read; questions are five deep.
const deepest = 64

var errNotJSON = errors.New("not the JSON that a record holds")

// readObject reads a JSON object (RFC 8259) whose numbers are integers. Its
// strings share the memory of text. Of members with one name the last counts.
func readObject(text string) (map[string]any, error) {
	r := jsonReader{text: text}
	v, err := r.value(deepest)
	if err != nil {
		return nil, err
	}
	r.space()
	object, ok := v.(map[string]any)
	if !ok || r.at != len(text) {
		return nil, errNotJSON
	}
	return object, nil
}

// jsonReader reads text from at on.
type jsonReader struct {
	text string
	at   int
}

func (r *jsonReader) space() {
	for r.at < len(r.text) && strings.IndexByte(" \t\r\n", r.text[r.at]) >= 0 {
		r.at++
	}
}

// next skips space and returns the byte after it, which is left to be read; 0 at the end.
func (r *jsonReader) next() byte {
	r.space()
	if r.at == len(r.text) {
		return 0
	}
	return r.text[r.at]
}

// take reads one byte if it is that one.
func (r *jsonReader) take(c byte) bool {
	if r.next() != c || r.at == len(r.text) {
		return false
	}
	r.at++
	return true
}

func (r *jsonReader) value(depth int) (any, error) {
	if depth == 0 {
		return nil, errNotJSON
	}
	switch r.next() {
	case '{':
		return r.object(depth)
	case '[':
		return r.array(depth)
	case '"':
		return r.str()
	case 't':
		return true, r.word("true")
	case 'f':
		return false, r.word("false")
	case 'n':
		return nil, r.word("null")
	}
	return r.integer()
}

func (r *jsonReader) word(w string) error {
	if !strings.HasPrefix(r.text[r.at:], w) {
		return errNotJSON
	}
	r.at += len(w)
	return nil
}

func (r *jsonReader) object(depth int) (map[string]any, error) {
	r.at++
	object := make(map[string]any, 8)
	if r.take('}') {
		return object, nil
	}
	for {
		if r.next() != '"' {
			return nil, errNotJSON
		}
		name, err := r.str()
		if err != nil || !r.take(':') {
			return nil, errNotJSON
		}
		if object[name], err = r.value(depth - 1); err != nil {
			return nil, err
		}
		if r.take('}') {
			return object, nil
		}
		if !r.take(',') {
			return nil, errNotJSON
		}
	}
}

func (r *jsonReader) array(depth int) ([]any, error) {
	r.at++
	array := []any{}
	if r.take(']') {
		return array, nil
	}
	for {
		v, err := r.value(depth - 1)
		if err != nil {
			return nil, err
		}
		array = append(array, v)
		if r.take(']') {
			return array, nil
		}
		if !r.take(',') {
			return nil, errNotJSON
		}
	}
}

// str reads a string; one with escapes is left to encoding/json.
func (r *jsonReader) str() (string, error) {
	start, escaped := r.at, false
	for r.at++; r.at < len(r.text); r.at++ {
		switch c := r.text[r.at]; {
		case c == '\\':
			escaped = true
			r.at++
		case c < ' ':
			return "", errNotJSON
		case c == '"':
			r.at++
			if !escaped {
				return r.text[start+1 : r.at-1], nil
			}
			var s string
			err := json.Unmarshal([]byte(r.text[start:r.at]), &s)
			return s, err
		}
	}
	return "", errNotJSON
}

// integer reads a number without fraction or exponent.
func (r *jsonReader) integer() (int64, error) {
	start := r.at
	for r.at < len(r.text) && (r.text[r.at] == '-' || r.text[r.at] >= '0' && r.text[r.at] <= '9') {
		r.at++
	}
	digits := strings.TrimPrefix(r.text[start:r.at], "-")
	if len(digits) > 1 && digits[0] == '0' { // RFC 8259, Section 6: no leading zeros
		return 0, errNotJSON
	}
	n, err := strconv.ParseInt(r.text[start:r.at], 10, 64)
	if err != nil {
		return 0, errNotJSON
	}
	return n, nil
}

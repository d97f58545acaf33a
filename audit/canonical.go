package audit

import (
	"encoding/json"
	"fmt"
	"sort"
	"strconv"
	"unicode/utf8"
)

// AppendCanonical appends v to b as canonical JSON (RFC 8785): object keys
// sorted, no white space, the shortest escapes. It takes nil, bool, string,
// int, int64, []string, []any, map[string]any (not maps under a name of their
// own), and json.RawMessage that is canonical already. Invalid
// UTF-8 becomes U+FFFD. It panics on any other type: a programming error.
func AppendCanonical(b []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...)
	case bool:
		return strconv.AppendBool(b, v)
	case int:
		return strconv.AppendInt(b, int64(v), 10)
	case int64:
		return strconv.AppendInt(b, v, 10)
	case string:
		return appendString(b, v)
	case json.RawMessage:
		return append(b, v...)
	case []string:
		b = append(b, '[')
		for i, s := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendString(b, s)
		}
		return append(b, ']')
	case []any:
		b = append(b, '[')
		for i, e := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = AppendCanonical(b, e)
		}
		return append(b, ']')
	case map[string]any:
		return appendObject(b, v)
	}
	panic(fmt.Sprintf("audit: no canonical form for %T", v))
}

func appendObject(b []byte, object map[string]any) []byte {
	var room [16]string
	keys := room[:0]
	for k := range object {
		keys = append(keys, k)
	}
	sort.Strings(keys) // our keys are ASCII, where UTF-8 and UTF-16 order agree
	b = append(b, '{')
	for i, k := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, k), ':')
		b = AppendCanonical(b, object[k])
	}
	return append(b, '}')
}

// appendString writes s with the escapes of RFC 8785, Section 3.2.2.2.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
			i++
		case c >= 0x20 && c < utf8.RuneSelf:
			b = append(b, c)
			i++
		case c < 0x20:
			b = appendControl(b, c)
			i++
		default:
			r, size := utf8.DecodeRuneInString(s[i:])
			b = utf8.AppendRune(b, r) // RuneError is U+FFFD
			i += size
		}
	}
	return append(b, '"')
}

func appendControl(b []byte, c byte) []byte {
	switch c {
	case '\b':
		return append(b, '\\', 'b')
	case '\t':
		return append(b, '\\', 't')
	case '\n':
		return append(b, '\\', 'n')
	case '\f':
		return append(b, '\\', 'f')
	case '\r':
		return append(b, '\\', 'r')
	}
	const hex = "0123456789abcdef"
	return append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
}

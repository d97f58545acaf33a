package audit

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"unicode/utf8"
)

// AppendCanonical appends v to b as canonical JSON (RFC 8785): object keys
// sorted, no white space, the shortest escapes. It takes nil, bool, string,
// int, int64, []string, []any, map[string]any (not maps under a name of their
// own), and json.RawMessage that is canonical already. Invalid UTF-8 becomes
// U+FFFD, and an integer beyond ±2^53 is rounded to a double, as the RFC's
// numbers are. It panics on any other type: a programming error.
func AppendCanonical(b []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...)
	case bool:
		return strconv.AppendBool(b, v)
	case int:
		return appendInt(b, int64(v))
	case int64:
		return appendInt(b, v)
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

// maxExact is the largest integer up to which every one is a double.
const maxExact = 1 << 53

// appendInt writes an integer as ECMAScript does (RFC 8785, Section 3.2.2.3).
func appendInt(b []byte, v int64) []byte {
	if -maxExact <= v && v <= maxExact {
		return strconv.AppendInt(b, v, 10)
	}
	return strconv.AppendFloat(b, float64(v), 'f', -1, 64)
}

func appendObject(b []byte, object map[string]any) []byte {
	var room [16]string
	keys := room[:0]
	for k := range object {
		if !utf8.ValidString(k) {
			return appendObject(b, validKeys(object))
		}
		keys = append(keys, k)
	}
	slices.SortFunc(keys, compareKeys[string])
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

// validKeys returns the object with invalid UTF-8 in its keys replaced. Of keys
// that become equal the first in byte order stays.
func validKeys(object map[string]any) map[string]any {
	valid := make(map[string]any, len(object))
	for _, k := range slices.Sorted(maps.Keys(object)) {
		fixed := string([]rune(k))
		if _, taken := valid[fixed]; !taken {
			valid[fixed] = object[k]
		}
	}
	return valid
}

// compareKeys orders keys by their UTF-16 code units (RFC 8785, Section
// 3.2.3). That is the order of the UTF-8 bytes, except that the characters past
// U+FFFF (first byte 0xF0 and up), being surrogates there, come before U+E000 to
// U+FFFF (first byte 0xEE or 0xEF).
func compareKeys[T string | []byte](a, b T) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return cmp.Compare(rank(a[i]), rank(b[i]))
		}
	}
	return cmp.Compare(len(a), len(b))
}

func rank(c byte) byte {
	if c == 0xEE || c == 0xEF {
		return c + 0x10
	}
	return c
}

// appendString writes s with the escapes of RFC 8785, Section 3.2.2.2.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for i := 0; i < len(s); {
		start := i
		for i < len(s) && plain(s[i]) {
			i++
		}
		b = append(b, s[start:i]...)
		if i == len(s) {
			break
		}
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
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

// plain reports whether a byte of text stands for itself.
func plain(c byte) bool { return c >= 0x20 && c < utf8.RuneSelf && c != '"' && c != '\\' }

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

package audit

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"
)

// CheckCanonical returns an error, with the offset in bytes, unless b is one
// JSON value in the canonical form that AppendCanonical writes (RFC 8785;
// numbers are integers).
func CheckCanonical(b []byte) error {
	s := scanner{b: b}
	if err := s.value(0, nil); err != nil {
		return err
	}
	return s.end()
}

// scanObject is CheckCanonical for an object. It calls member with the bytes of
// each of its keys (between the quotes) and values (as they stand).
func scanObject(b []byte, member func(key, value []byte)) error {
	s := scanner{b: b}
	if len(b) == 0 || b[0] != '{' {
		return errors.New("not a JSON object")
	}
	if err := s.object(0, member); err != nil {
		return err
	}
	return s.end()
}

// maxDepth bounds the nesting of what is scanned.
const maxDepth = 128

// scanner reads canonical JSON strictly, and nothing else.
type scanner struct {
	b []byte
	i int
}

func (s *scanner) fail(what string) error { return fmt.Errorf("%s at byte %d", what, s.i) }

func (s *scanner) end() error {
	if s.i != len(s.b) {
		return s.fail("more than one value")
	}
	return nil
}

// next returns the next byte, 0 at the end.
func (s *scanner) next() byte {
	if s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

func (s *scanner) value(depth int, member func(key, value []byte)) error {
	if depth > maxDepth {
		return s.fail("nested too deeply")
	}
	switch c := s.next(); {
	case c == '{':
		return s.object(depth, member)
	case c == '[':
		return s.array(depth)
	case c == '"':
		_, err := s.text()
		return err
	case c == '-' || '0' <= c && c <= '9':
		return s.number()
	}
	for _, word := range []string{"null", "true", "false"} {
		if bytes.HasPrefix(s.b[s.i:], []byte(word)) {
			s.i += len(word)
			return nil
		}
	}
	return s.fail("no value")
}

func (s *scanner) object(depth int, member func(key, value []byte)) error {
	s.i++ // the brace
	if s.next() == '}' {
		s.i++
		return nil
	}
	var before []byte
	for first := true; ; first = false {
		key, err := s.text()
		if err != nil {
			return err
		}
		if !first && !keysAscend(before, key) {
			return s.fail(fmt.Sprintf("key %.40q out of order or repeated", key))
		}
		before = key
		if s.next() != ':' {
			return s.fail("no colon")
		}
		s.i++
		start := s.i
		if err := s.value(depth+1, nil); err != nil {
			return err
		}
		if member != nil {
			member(key, s.b[start:s.i])
		}
		switch s.next() {
		case ',':
			s.i++
		case '}':
			s.i++
			return nil
		default:
			return s.fail("no comma")
		}
	}
}

func (s *scanner) array(depth int) error {
	s.i++ // the bracket
	if s.next() == ']' {
		s.i++
		return nil
	}
	for {
		if err := s.value(depth+1, nil); err != nil {
			return err
		}
		switch s.next() {
		case ',':
			s.i++
		case ']':
			s.i++
			return nil
		default:
			return s.fail("no comma")
		}
	}
}

// text reads a string and returns what is between its quotes, escapes and all.
func (s *scanner) text() ([]byte, error) {
	if s.next() != '"' {
		return nil, s.fail("no string")
	}
	s.i++
	start := s.i
	for s.i < len(s.b) {
		switch c := s.b[s.i]; {
		case c == '"':
			s.i++
			return s.b[start : s.i-1], nil
		case c == '\\':
			if err := s.escape(); err != nil {
				return nil, err
			}
		case c < 0x20:
			return nil, s.fail("bare control character")
		case c < utf8.RuneSelf:
			s.i++
		default:
			r, size := utf8.DecodeRune(s.b[s.i:])
			if r == utf8.RuneError && size == 1 {
				return nil, s.fail("invalid UTF-8")
			}
			s.i += size
		}
	}
	return nil, s.fail("unfinished string")
}

// escape reads one escape: the two-character ones where they exist, and
// \u00xx in lower case for the other control characters, nothing else (RFC
// 8785, Section 3.2.2.2).
func (s *scanner) escape() error {
	rest := s.b[s.i:]
	if len(rest) >= 2 && bytes.IndexByte([]byte(`"\bfnrt`), rest[1]) >= 0 {
		s.i += 2
		return nil
	}
	if len(rest) >= 6 && string(rest[:4]) == `\u00` {
		c, err := strconv.ParseUint(string(rest[4:6]), 16, 8)
		if err == nil && bytes.Equal(appendControl(nil, byte(c)), rest[:6]) && c < 0x20 {
			s.i += 6
			return nil
		}
	}
	return s.fail("escape that is not canonical")
}

// number reads an integer as AppendCanonical writes it.
func (s *scanner) number() error {
	start := s.i
	if s.next() == '-' {
		s.i++
	}
	digits := s.i
	for c := s.next(); '0' <= c && c <= '9'; c = s.next() {
		s.i++
	}
	n := s.i - digits
	if n == 0 || s.b[digits] == '0' && s.i-start > 1 {
		return s.fail("number that is not canonical")
	}
	if n > 15 { // may be beyond 2^53
		v, err := strconv.ParseFloat(string(s.b[start:s.i]), 64)
		if err != nil || math.Abs(v) > 1<<63 || !bytes.Equal(strconv.AppendFloat(nil, v, 'f', -1, 64), s.b[start:s.i]) {
			return s.fail("number that is not canonical")
		}
	}
	return nil
}

// keysAscend compares keys as they stand between the quotes.
func keysAscend(a, b []byte) bool {
	if bytes.IndexByte(a, '\\') >= 0 || bytes.IndexByte(b, '\\') >= 0 {
		return compareKeys(unescape(a), unescape(b)) < 0
	}
	return compareKeys(a, b) < 0
}

// unescape decodes what text has checked.
func unescape(b []byte) string {
	s, err := strconv.Unquote(`"` + string(b) + `"`)
	if err != nil {
		return string(b)
	}
	return s
}

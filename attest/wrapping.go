package attest

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// EventLogType is the media type of a TCG2 crypto-agile event log, as a PC's
// firmware writes and Linux shows it (binary_bios_measurements). None is registered
// for it, hence one of our own. With GzipSuffix the log is compressed.
const (
	EventLogType = "application/vnd.hallmark.tcg2-eventlog"
	GzipSuffix   = "+gzip"
)

// readWrapped reads a conceptual message wrapper:
//
//	CMW ::= CHOICE { json UTF8String, cbor OCTET STRING }
//
// either of which is a record [type, value, indicators]. Collections, and records
// of other types, are of no use here and count as unknown.
func (e *Evidence) readWrapped(element cryptobyte.String) error {
	whole := element
	var body cryptobyte.String
	var tag casn1.Tag
	if !element.ReadAnyASN1(&body, &tag) || !element.Empty() {
		return malformed("a wrapped message is not one DER element")
	}
	var kind string
	var value func() ([]byte, bool)
	var ok bool
	switch tag {
	case casn1.UTF8String:
		kind, value, ok = openJSON(body)
	case casn1.OCTET_STRING:
		kind, value, ok = openCBOR(body)
	}
	if !ok {
		return malformed("a wrapped message is neither a JSON nor a CBOR record of type, value and indicators")
	}
	name, packed := strings.CutSuffix(kind, GzipSuffix)
	if name != EventLogType {
		e.Unknown = append(e.Unknown, kind)
		return nil
	}
	if e.EventLog != nil {
		return twice("event log")
	}
	log, ok := value()
	if !ok {
		return malformed("the event log is not in unpadded base64url")
	}
	e.wrapped = whole
	return e.keepLog(log, packed)
}

func (e *Evidence) keepLog(log []byte, packed bool) (err error) {
	if packed {
		if log, err = unpack(log); err != nil {
			return RefuseBecause(LogMalformed, "the event log does not decompress; send it as one gzip member", err)
		}
	}
	if len(log) == 0 || len(log) > MaxEventLog {
		return Refuse(LogMalformed, "the event log is empty or larger than 512 KiB")
	}
	e.EventLog = log
	return nil
}

// unpack decompresses one gzip member, and a byte more than the bound at most.
func unpack(packed []byte) ([]byte, error) {
	from := bytes.NewReader(packed)
	r, err := gzip.NewReader(from)
	if err != nil {
		return nil, err
	}
	r.Multistream(false)
	log, err := io.ReadAll(io.LimitReader(r, MaxEventLog+1))
	if err == nil && len(log) <= MaxEventLog && from.Len() > 0 {
		err = errors.New("bytes after the end of the gzip member")
	}
	return log, err
}

// maxKind bounds a media type; 127 octets to each side of its slash (RFC 6838, Section 4.2).
const maxKind = 255

// openJSON reads ["type", "base64url", indicators] and returns the type and how
// to decode the value. The value is long and needs no escapes, so it is not put through a
// JSON decoder; the type is.
func openJSON(text []byte) (kind string, value func() ([]byte, bool), ok bool) {
	rest, ok := expect(text, '[')
	if !ok {
		return "", nil, false
	}
	quoted, rest, ok := cutString(rest)
	if !ok || len(quoted) > maxKind || json.Unmarshal(quoted, &kind) != nil {
		return "", nil, false
	}
	if rest, ok = expect(rest, ','); !ok {
		return "", nil, false
	}
	encoded, rest, ok := cutString(rest)
	if !ok || !endsRecord(rest) {
		return "", nil, false
	}
	return kind, func() ([]byte, bool) {
		inner := encoded[1 : len(encoded)-1]
		out := make([]byte, base64.RawURLEncoding.DecodedLen(len(inner)))
		// Decode would skip line breaks, which no JSON string holds.
		n, err := base64.RawURLEncoding.Strict().Decode(out, inner)
		return out[:n], err == nil && bytes.IndexByte(inner, '\n') < 0 && bytes.IndexByte(inner, '\r') < 0
	}, true
}

// endsRecord reports whether rest is the end of a JSON record: indicators, a
// number from 0 to 15 of the kinds of message inside, or none, and a bracket.
func endsRecord(rest []byte) bool {
	if after, ok := expect(rest, ','); ok {
		digits := 0
		for digits < len(after) && '0' <= after[digits] && after[digits] <= '9' {
			digits++
		}
		if digits == 0 || digits > 2 {
			return false
		}
		rest = after[digits:]
	}
	rest, ok := expect(rest, ']')
	return ok && len(skipSpace(rest)) == 0
}

func skipSpace(b []byte) []byte { return bytes.TrimLeft(b, " \t\r\n") }

// expect skips white space and one character.
func expect(b []byte, c byte) (rest []byte, ok bool) {
	b = skipSpace(b)
	if len(b) == 0 || b[0] != c {
		return nil, false
	}
	return skipSpace(b[1:]), true
}

// cutString cuts a JSON string off, with its quotes. A quote in it is escaped;
// an even number of backslashes before one escapes themselves.
func cutString(b []byte) (quoted, rest []byte, ok bool) {
	if len(b) == 0 || b[0] != '"' {
		return nil, nil, false
	}
	for end := 1; ; end++ {
		next := bytes.IndexByte(b[end:], '"')
		if next < 0 {
			return nil, nil, false
		}
		end += next
		text := b[1:end]
		if escapes := len(text) - len(bytes.TrimRight(text, `\`)); escapes%2 == 0 {
			return b[:end+1], b[end+1:], true
		}
	}
}

// Major types of CBOR (RFC 8949, Section 3.1).
const (
	cborUint  = 0
	cborBytes = 2
	cborText  = 3
	cborArray = 4
)

// openCBOR reads [type, value, indicators] of definite lengths. A type may be a
// number, a CoAP content format, of which none is known here.
func openCBOR(b []byte) (kind string, value func() ([]byte, bool), ok bool) {
	in := cryptobyte.String(b)
	size, ok := readHead(&in, cborArray)
	if !ok || size < 2 || size > 3 {
		return "", nil, false
	}
	if n, isText := readHead(&in, cborText); isText {
		var text []byte
		if n > maxKind || !in.ReadBytes(&text, int(n)) {
			return "", nil, false
		}
		kind = string(text)
	} else if format, ok := readHead(&in, cborUint); ok {
		kind = fmt.Sprintf("content format %d", format)
	} else {
		return "", nil, false
	}
	var body []byte
	if n, ok := readHead(&in, cborBytes); !ok || n > MaxEvidence || !in.ReadBytes(&body, int(n)) {
		return "", nil, false
	}
	if size == 3 {
		if n, ok := readHead(&in, cborUint); !ok || n > 15 {
			return "", nil, false
		}
	}
	return kind, func() ([]byte, bool) { return body, true }, in.Empty()
}

// readHead reads the head of an item of one major type: its argument. It reads
// nothing where the type is another one.
func readHead(in *cryptobyte.String, major byte) (argument uint64, ok bool) {
	next := *in
	var first uint8
	if !next.ReadUint8(&first) || first>>5 != major {
		return 0, false
	}
	switch short := first & 0x1f; {
	case short < 24:
		argument, ok = uint64(short), true
	case short == 24:
		var n uint8
		ok = next.ReadUint8(&n)
		argument = uint64(n)
	case short == 25:
		var n uint16
		ok = next.ReadUint16(&n)
		argument = uint64(n)
	case short == 26:
		var n uint32
		ok = next.ReadUint32(&n)
		argument = uint64(n)
	}
	if ok {
		*in = next
	}
	return argument, ok
}

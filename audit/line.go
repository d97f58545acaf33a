package audit

import (
	"bytes"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"
)

// The fixed parts of the lines of an export.
const (
	entryStart = `{"index":`
	entryHash  = `,"hash":"`
	entryLeaf  = `","leaf":`
	tileStart  = `{"tile":`
	tileRoot   = `,"root":"`
)

func appendEntry(b []byte, index int64, hash tlog.Hash, leaf []byte) []byte {
	b = strconv.AppendInt(append(b, entryStart...), index, 10)
	b = append(append(b, entryHash...), hash.String()...)
	b = append(append(b, entryLeaf...), leaf...)
	return append(b, "}\n"...)
}

func appendTileRoot(b []byte, tile int64, root tlog.Hash) []byte {
	b = strconv.AppendInt(append(b, tileStart...), tile, 10)
	b = append(append(b, tileRoot...), root.String()...)
	return append(b, "\"}\n"...)
}

// parseEntry reads {"index":…,"hash":"…","leaf":{…}} in exactly that spelling.
func parseEntry(line []byte) (index int64, hash tlog.Hash, leaf []byte, ok bool) {
	index, rest, ok := parseNumber(line, entryStart)
	if !ok {
		return 0, hash, nil, false
	}
	hash, rest, ok = parseRoot(rest, entryHash)
	if !ok {
		return 0, hash, nil, false
	}
	rest, ok = bytes.CutPrefix(rest, []byte(entryLeaf))
	if !ok || len(rest) < 3 || rest[0] != '{' || rest[len(rest)-1] != '}' {
		return 0, hash, nil, false
	}
	return index, hash, rest[:len(rest)-1], true
}

// parseTileRoot reads {"tile":…,"root":"…"} in exactly that spelling.
func parseTileRoot(line []byte) (index int64, root tlog.Hash, ok bool) {
	index, rest, ok := parseNumber(line, tileStart)
	if !ok {
		return 0, root, false
	}
	root, rest, ok = parseRoot(rest, tileRoot)
	return index, root, ok && string(rest) == `"}`
}

// parseNumber reads a decimal number of up to 15 digits without leading zeroes behind prefix.
func parseNumber(b []byte, prefix string) (n int64, rest []byte, ok bool) {
	b, ok = bytes.CutPrefix(b, []byte(prefix))
	if !ok {
		return 0, nil, false
	}
	end := 0
	for end < len(b) && '0' <= b[end] && b[end] <= '9' {
		end++
	}
	n, err := strconv.ParseInt(string(b[:end]), 10, 64)
	return n, b[end:], err == nil && end <= 15 && (end == 1 || b[0] != '0')
}

// hashText is how many characters a hash has in base64.
const hashText = 44

func parseRoot(b []byte, prefix string) (h tlog.Hash, rest []byte, ok bool) {
	b, ok = bytes.CutPrefix(b, []byte(prefix))
	if !ok || len(b) < hashText {
		return h, nil, false
	}
	h, err := parseHash(string(b[:hashText]))
	return h, b[hashText:], err == nil
}

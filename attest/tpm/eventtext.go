package tpm

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// maxSays bounds the description of an event, in bytes.
const maxSays = 96

// variable is a UEFI_VARIABLE_DATA (TCG PC Client Platform Firmware Profile,
// Section 10.2.6): a name in a namespace, and its value.
type variable struct {
	guid  [16]byte
	name  string
	value []byte
}

// globalVariable is EFI_GLOBAL_VARIABLE, 8be4df61-93ca-11d2-aa0d-00e098032b8c.
var globalVariable = [16]byte{0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c}

func (v *variable) is(guid [16]byte, name string) bool { return v.guid == guid && v.name == name }

// parseVariable reads a UEFI_VARIABLE_DATA. What follows it is not looked at.
func parseVariable(b []byte) (variable, bool) {
	in := logReader{rest: b}
	var v variable
	copy(v.guid[:], in.take(16))
	name, value := in.u64(), in.u64()
	if in.short || name > uint64(len(in.rest))/2 || value > uint64(len(in.rest)) {
		return variable{}, false
	}
	v.name = utf16Text(in.take(2 * int(name)))
	v.value = in.take(int(value))
	return v, !in.short
}

func (r *logReader) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// utf16Text reads little-endian UTF-16, up to a NUL.
func utf16Text(b []byte) string {
	units := make([]uint16, 0, len(b)/2)
	for ; len(b) >= 2; b = b[2:] {
		u := binary.LittleEndian.Uint16(b)
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units))
}

// says describes a measurement whose data its digest covers; others it
// leaves undescribed.
func (c *content) says() string {
	switch {
	case c.separator:
		return "separator"
	case !c.covered:
		return ""
	case c.kind == evVariableConfig || c.kind == evVariableBoot || c.kind == evVariableBoot2 || c.kind == evVariableAuth:
		if len(c.variable.value) == 1 {
			return clean(fmt.Sprintf("%s = %d", c.variable.name, c.variable.value[0]))
		}
		return clean(fmt.Sprintf("%s, %d bytes", c.variable.name, len(c.variable.value)))
	}
	return text(c.data)
}

// text is what b says if it is text, in ASCII or UTF-16, or nothing.
func text(b []byte) string {
	if isUTF16(b) {
		return clean(utf16Text(b))
	}
	s := strings.TrimRight(string(b[:min(len(b), 4*maxSays)]), "\x00")
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return ""
	}
	return clean(s)
}

// isUTF16 reports whether b looks like English in UTF-16.
func isUTF16(b []byte) bool { return len(b) >= 4 && b[0] != 0 && b[1] == 0 && b[2] != 0 && b[3] == 0 }

// clean replaces what a terminal could take for a command, and cuts to maxSays.
func clean(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		s = strings.Map(func(r rune) rune {
			if !unicode.IsPrint(r) {
				return '?'
			}
			return r
		}, s)
	}
	if len(s) <= maxSays {
		return s
	}
	cut := maxSays - len("…")
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

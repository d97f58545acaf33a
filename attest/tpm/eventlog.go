package tpm

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"hash"
	"slices"
	"strings"

	"github.com/hallmark-pki/hallmark/attest"
)

// Bounds of an event log. Logs of real machines have some hundred events in some ten thousand bytes.
const (
	MaxEventLog = 1 << 20 // bytes
	MaxEvents   = 4096
)

// record is one entry of an event log as it was read: it proves nothing until the log replayed.
type record struct {
	index  int // place in the log; the header is 0
	pcr    uint32
	kind   eventType
	digest []byte // of the bank asked for; nil if the entry has none
	data   []byte
}

// eventLog is a log as it was read, for one bank. Its slices are views into the log's bytes.
type eventLog struct {
	records []record
	banks   []string // that the log says it has
}

// logBank is a kind of digest that a log may carry.
type logBank struct {
	name string
	id   uint16           // TPM_ALG_ID (TCG Algorithm Registry, Table 3)
	size uint16           // bytes
	hash func() hash.Hash // nil: quotes are never of it
}

// logBanks are those that PC firmware is known to write. Quotes are of SHA-256 and
// SHA-384 only; the others are stepped over.
var logBanks = []logBank{
	{"sha1", 0x0004, 20, nil}, {"sha256", 0x000b, 32, sha256.New}, {"sha384", 0x000c, 48, sha512.New384}, {"sha512", 0x000d, 64, nil},
	{"sm3-256", 0x0012, 32, nil}, {"sha3-256", 0x0027, 32, nil}, {"sha3-384", 0x0028, 48, nil}, {"sha3-512", 0x0029, 64, nil},
}

// logBankOf returns the bank by its name, if quotes may be of it.
func logBankOf(name string) (logBank, bool) {
	i := slices.IndexFunc(logBanks, func(b logBank) bool { return b.name == name && b.hash != nil })
	if i < 0 {
		return logBank{}, false
	}
	return logBanks[i], true
}

// parseEventLog reads a TCG2 crypto-agile event log (TCG PC Client Platform
// Firmware Profile, Section 10). A log in the older SHA-1 format is read to its end, too: it has
// no digest of any bank that can be quoted. What cannot be read is log_malformed.
func parseEventLog(log []byte, of logBank) (*eventLog, error) {
	if len(log) > MaxEventLog {
		return nil, malformedLog("has %d bytes, at most %d are read", len(log), MaxEventLog)
	}
	in := logReader{rest: log}
	header := in.legacy()
	if in.short {
		return nil, malformedLog("ends inside its first entry")
	}
	out := &eventLog{banks: []string{"sha1"}}
	// Section 10.4.5.1: the first entry of a crypto-agile log, and only there, is an
	// EV_NO_ACTION in the older format that says which digests the others carry.
	if header.kind != evNoAction || !strings.HasPrefix(string(header.data), specID) {
		out.records = append(out.records, header)
		return out, in.all(out, in.legacy)
	}
	listed, err := parseSpecID(header.data[len(specID):])
	if err != nil {
		return nil, err
	}
	out.banks = out.banks[:0]
	for _, b := range listed {
		out.banks = append(out.banks, b.name)
	}
	out.records = make([]record, 1, 16+len(log)/384)
	out.records[0] = header
	return out, in.all(out, func() record { return in.agile(listed, of.id) })
}

// specID is the signature of TCG_EfiSpecIDEvent.
const specID = "Spec ID Event03\x00"

// parseSpecID reads the rest of a TCG_EfiSpecIDEvent: which logBanks the log has.
// Each is listed once, with the size that it is known to have: the other entries
// are read by it, so nothing of a log's own invention is accepted.
func parseSpecID(b []byte) ([]logBank, error) {
	in := logReader{rest: b}
	in.take(4) // platformClass
	minor, major := in.u8(), in.u8()
	in.take(2) // errata, uintnSize
	count := in.u32()
	if in.short || major != 2 || minor != 0 {
		return nil, malformedLog("has a header of another version than 2.0")
	}
	if count == 0 || count > uint32(len(logBanks)) {
		return nil, malformedLog("lists %d digest algorithms", count)
	}
	listed := make([]logBank, 0, count)
	for range count {
		id, size := in.u16(), in.u16()
		i := slices.IndexFunc(logBanks, func(b logBank) bool { return b.id == id && b.size == size })
		if in.short || i < 0 || slices.ContainsFunc(listed, func(b logBank) bool { return b.id == id }) {
			return nil, malformedLog("lists digest algorithm 0x%04x of %d bytes twice, or it is none", id, size)
		}
		listed = append(listed, logBanks[i])
	}
	if in.take(int(in.u8())); in.short || len(in.rest) > 0 { // vendorInfo
		return nil, malformedLog("has a header of the wrong length")
	}
	return listed, nil
}

// logReader reads little-endian fields. Past the end it is short, and what it returns means nothing.
type logReader struct {
	rest  []byte
	short bool
}

// all reads entries with next until the log ends.
func (r *logReader) all(into *eventLog, next func() record) error {
	for len(r.rest) > 0 {
		index := len(into.records)
		if index > MaxEvents {
			return malformedLog("has more than %d entries", MaxEvents)
		}
		entry := next()
		if r.short {
			return malformedLog("cannot be read at entry %d", index)
		}
		entry.index = index
		into.records = append(into.records, entry)
	}
	return nil
}

// legacy reads a TCG_PCClientPCREvent: one SHA-1 digest.
func (r *logReader) legacy() record {
	e := record{pcr: r.u32(), kind: eventType(r.u32())}
	r.take(20)
	e.data = r.take(int(r.u32()))
	return e
}

// agile reads a TCG_PCR_EVENT2: digests of the logBanks listed, each at most once.
func (r *logReader) agile(listed []logBank, of uint16) record {
	e := record{pcr: r.u32(), kind: eventType(r.u32())}
	count := r.u32()
	if count > uint32(len(listed)) {
		r.short = true
	}
	for seen := 0; !r.short && count > 0; count-- {
		id := r.u16()
		i := slices.IndexFunc(listed, func(b logBank) bool { return b.id == id })
		if i < 0 || seen&(1<<i) != 0 {
			r.short = true
			break
		}
		seen |= 1 << i
		if digest := r.take(int(listed[i].size)); id == of {
			e.digest = digest
		}
	}
	e.data = r.take(int(r.u32()))
	return e
}

// take returns the next n bytes, a view.
func (r *logReader) take(n int) []byte {
	if r.short || n < 0 || n > len(r.rest) {
		r.short = true
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

func (r *logReader) u8() uint8 {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *logReader) u16() uint16 {
	if b := r.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (r *logReader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func malformedLog(format string, args ...any) error {
	return attest.Refuse(attest.LogMalformed, "the event log "+fmt.Sprintf(format, args...))
}

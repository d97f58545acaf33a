package tpm

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"
	"strings"

	"github.com/hallmark-pki/hallmark/attest"
)

// ReplayLog reads a TCG2 crypto-agile event log, extends its measurements as
// a TPM would, and returns what it tells once every register that was quoted holds
// exactly what the log comes to. Registers that were not quoted are not
// looked at: nothing vouches for them. Without quoted registers the Boot is the zero one.
//
// Errors: log_malformed for what cannot be read; log_mismatch, with the register, for a log that
// comes to something else or lacks the quoted bank; log_digest for an event whose
// data is not what its digest says.
func ReplayLog(log []byte, pcrs attest.PCRs) (attest.Boot, error) {
	of, ok := logBankOf(pcrs.Bank)
	if pcrs.Bank != "" && !ok {
		return attest.Boot{}, attest.Refuse(attest.AlgorithmNotAllowed, fmt.Sprintf("event logs are not replayed for bank %q", pcrs.Bank))
	}
	parsed, err := parseEventLog(log, of)
	if err != nil || len(pcrs.Values) == 0 {
		return attest.Boot{}, err
	}
	if !slices.Contains(parsed.banks, pcrs.Bank) {
		return attest.Boot{}, logMismatch("has digests of %s only, and the quote is of %s: set the firmware to that bank, or ask for another",
			strings.Join(parsed.banks, ", "), pcrs.Bank)
	}
	replayed := replay{hash: of.hash(), measured: make([]record, 0, len(parsed.records))}
	for pcr, value := range pcrs.Values {
		if pcr < 0 || pcr >= len(replayed.quoted) || len(value) != int(of.size) {
			return attest.Boot{}, attest.Refuse(attest.PCRSelection, fmt.Sprintf("PCR %d of %d bytes is none of bank %s", pcr, len(value), pcrs.Bank))
		}
		replayed.quoted[pcr] = value
	}
	for i := range parsed.records {
		if err := replayed.add(&parsed.records[i]); err != nil {
			return attest.Boot{}, err
		}
	}
	if err := replayed.compare(); err != nil {
		return attest.Boot{}, err
	}
	return replayed.boot()
}

// replay is what a TPM would hold after the measurements of a log.
type replay struct {
	hash     hash.Hash
	quoted   [24][]byte // nil where a register was not quoted
	values   [24][]byte // nil where the log has nothing to say of it
	locality byte       // that the TPM was started from
	measured []record   // of quoted registers, in order

	separators [][]byte // the digests of a separator
	sized      []byte   // for sum
}

// add extends a register as TPM2_PCR_Extend does: new value = H(old value ‖ digest).
func (r *replay) add(e *record) error {
	switch {
	case e.kind == evNoAction:
		r.start(e)
		return nil
	case e.pcr >= uint32(len(r.quoted)) || r.quoted[e.pcr] == nil:
		return nil
	case e.digest == nil:
		return logMismatch("has no digest of the quoted bank in event %d (%s, PCR %d)", e.index, e.kind, e.pcr)
	}
	if r.values[e.pcr] == nil {
		r.values[e.pcr] = r.initial(int(e.pcr))
	}
	r.extend(r.values[e.pcr], e.digest)
	r.measured = append(r.measured, *e)
	return nil
}

func (r *replay) extend(value, digest []byte) {
	r.hash.Reset()
	r.hash.Write(value)
	r.hash.Write(digest)
	r.hash.Sum(value[:0])
}

// start takes the locality of TPM2_Startup from the event that tells it (TCG PC
// Client Platform Firmware Profile, Section 10.4.5.3): PCR 0 begins with it. A lie
// does not replay.
func (r *replay) start(e *record) {
	const signature = "StartupLocality\x00"
	if rest, ok := bytes.CutPrefix(e.data, []byte(signature)); ok && len(rest) == 1 && e.pcr == 0 {
		r.locality = rest[0]
	}
}

// initial is the register's value after TPM2_Startup (TCG PC Client Platform TPM
// Profile, Section 4.6.2): zeros, or ones for those of a dynamic root of trust.
func (r *replay) initial(pcr int) []byte {
	value := make([]byte, r.hash.Size())
	switch {
	case pcr == 0:
		value[len(value)-1] = r.locality
	case pcr >= 17 && pcr <= 22:
		for i := range value {
			value[i] = 0xff
		}
	}
	return value
}

// compare holds every quoted register against what the log comes to. One
// that the log does not mention has to be as it was started, if it is the firmware's
// (0 to 7): its measurements were left out. Others the operating system extends without
// an entry in this log.
func (r *replay) compare() error {
	for pcr, want := range r.quoted {
		got, told := r.values[pcr], r.values[pcr] != nil
		if !told {
			got = r.initial(pcr)
		}
		switch {
		case want == nil:
		case bytes.Equal(got, want), !told && pcr > 7:
		case pcr == 5 && r.completeExit(got, want):
		case !told:
			return logMismatch("has no measurement of PCR %d, and the quote says that there were some", pcr)
		default:
			return logMismatch("brings PCR %d to %s, and the quote says %s: measurements are missing from it, or are not the machine's",
				pcr, shorten(got), shorten(want))
		}
	}
	return nil
}

// exits are what firmware measures into PCR 5 while the loader leaves it
// (TCG PC Client Platform Firmware Profile, Section 8.2.4).
var exits = [][]string{
	{"Exit Boot Services Invocation", "Exit Boot Services Returned with Success"},
	{"Exit Boot Services Invocation", "Exit Boot Services Returned with Failure"},
	{"Exit Boot Services Invocation", "Exit Boot Services Returned with Failure", "Exit Boot Services Returned with Success"},
}

// completeExit reports whether PCR 5 lacks only the measurements of leaving the
// firmware, and adds them. A loader reads the log before it leaves, so they are not in the
// logs of those that forget the firmware's second table; and that the register replays with them
// proves that they were made.
func (r *replay) completeExit(got, want []byte) bool {
	for _, exit := range exits {
		value := bytes.Clone(got)
		var added []record
		for _, action := range exit {
			digest := r.digest([]byte(action))
			r.extend(value, digest)
			added = append(added, record{index: -1, pcr: 5, kind: evEFIAction, digest: digest, data: []byte(action)})
		}
		if bytes.Equal(value, want) {
			r.measured = append(r.measured, added...)
			return true
		}
	}
	return false
}

// sum is the digest of b until the next call.
func (r *replay) sum(b []byte) []byte {
	r.hash.Reset()
	r.hash.Write(b)
	r.sized = r.hash.Sum(r.sized[:0])
	return r.sized
}

func (r *replay) digest(b []byte) []byte { return bytes.Clone(r.sum(b)) }

// shorten gives the beginning of a digest, enough for a person to compare.
func shorten(digest []byte) string {
	return hex.EncodeToString(digest[:min(8, len(digest))]) + "…"
}

func logMismatch(format string, args ...any) error {
	return attest.Refuse(attest.LogMismatch, "the event log "+fmt.Sprintf(format, args...))
}

package attest

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hallmark-pki/hallmark/internal/fault"
)

// Bounds of a baseline.
const (
	MaxBaseline = 1 << 20 // bytes of its JSON
	maxText     = 256     // bytes of a name, a source
	maxReason   = 1024    // bytes of a reason
	maxValues   = 64      // values of one register
	maxDigests  = 4096    // digests of a log rule, and events
)

// ParseBaseline reads a baseline from its JSON, strictly: a member that it does not
// know is an error, and so is a digest of the wrong length. What the server keeps of
// a baseline (id, state, created and what follows from them) may be there, as in a file that came out of
// another server, and is dropped: a file decides about no state. Errors are of kind Malformed.
func ParseBaseline(document []byte) (Baseline, error) {
	if len(document) > MaxBaseline {
		return Baseline{}, wrong("a baseline has at most %d bytes", MaxBaseline)
	}
	var b Baseline
	decoder := json.NewDecoder(bytes.NewReader(document))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&b); err != nil {
		return Baseline{}, wrong("the baseline cannot be read: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := decoder.Token(); err != io.EOF {
		return Baseline{}, wrong("something follows the baseline in its file")
	}
	b = Baseline{Model: b.Model, Firmware: b.Firmware, PCRs: b.PCRs, Events: b.Events, Log: b.Log,
		ValidFrom: b.ValidFrom, ValidUntil: b.ValidUntil, Source: b.Source}
	b.lower()
	return b, b.check()
}

// lower writes every digest in lower case, as they are compared.
func (b *Baseline) lower() {
	lower := func(digests []string) {
		for i, d := range digests {
			digests[i] = strings.ToLower(d)
		}
	}
	for _, registers := range b.PCRs {
		for _, values := range registers {
			lower(values)
		}
	}
	for _, digests := range b.Log.Allowed {
		lower(digests)
	}
	lower(b.Log.Denied)
	for _, events := range b.Events {
		for i := range events {
			events[i].Digest = strings.ToLower(events[i].Digest)
		}
	}
}

// check reports what makes b no baseline.
func (b *Baseline) check() error {
	for field, text := range map[string]string{"model": b.Model, "firmware": b.Firmware, "source": b.Source} {
		if len(text) > maxText || !plain(text) {
			return wrong("the %s has at most %d bytes of printable text", field, maxText)
		}
	}
	switch {
	case b.Model == "":
		return wrong("a baseline is of a model, and this one names none")
	case b.empty():
		return wrong("the baseline demands nothing: it lists no register and has no log rules")
	case !b.ValidFrom.IsZero() && !b.ValidUntil.IsZero() && !b.ValidUntil.After(b.ValidFrom):
		return wrong("valid_to is not after valid_from")
	}
	if err := b.checkPCRs(); err != nil {
		return err
	}
	return b.checkLog()
}

// empty reports whether b would match anything.
func (b *Baseline) empty() bool {
	for _, registers := range b.PCRs {
		if len(registers) > 0 {
			return false
		}
	}
	return b.Log.SecureBoot == nil && len(b.Log.Allowed) == 0 && len(b.Log.Denied) == 0
}

func (b *Baseline) checkPCRs() error {
	for bank, registers := range b.PCRs {
		size := bankSize(bank)
		if size == 0 {
			return wrong("pcrs has bank %.20q; banks are sha256 and sha384", bank)
		}
		if len(registers) == 0 {
			return wrong("pcrs has bank %s without a register", bank)
		}
		for pcr, values := range registers {
			if pcr < 0 || pcr > 23 || len(values) == 0 || len(values) > maxValues {
				return wrong("pcrs.%s.%d: registers are 0 to 23 and have 1 to %d values", bank, pcr, maxValues)
			}
			for _, v := range values {
				if !isDigest(v, size) {
					return wrong("pcrs.%s.%d: %.80q is not a digest of %d bytes in hex", bank, pcr, v, size)
				}
			}
		}
	}
	return nil
}

// checkLog checks log rules and events. Their digests are of one bank or the other:
// they match only logs of that bank.
func (b *Baseline) checkLog() error {
	lists := map[string][]string{"denied_digests": b.Log.Denied}
	for pcr, digests := range b.Log.Allowed {
		if pcr < 0 || pcr > 23 || len(digests) == 0 {
			return wrong("allowed_digests.%d: registers are 0 to 23 and allow something", pcr)
		}
		lists[fmt.Sprintf("allowed_digests.%d", pcr)] = digests
	}
	for pcr, events := range b.Events {
		if pcr < 0 || pcr > 23 {
			return wrong("events.%d: registers are 0 to 23", pcr)
		}
		digests := make([]string, len(events))
		for i, e := range events {
			digests[i] = e.Digest
			if len(e.Type) > maxText || len(e.Says) > maxText || !plain(e.Type) || !plain(e.Says) {
				return wrong("events.%d: types and descriptions have at most %d bytes of printable text", pcr, maxText)
			}
		}
		lists[fmt.Sprintf("events.%d", pcr)] = digests
	}
	for name, digests := range lists {
		if len(digests) > maxDigests {
			return wrong("%s has more than %d digests", name, maxDigests)
		}
		for _, d := range digests {
			if !isDigest(d, 32) && !isDigest(d, 48) {
				return wrong("%s: %.100q is not a SHA-256 or SHA-384 digest in hex", name, d)
			}
		}
	}
	return nil
}

// bankSize is the size of a bank's digests in bytes, 0 for what is no bank.
func bankSize(bank string) int {
	switch bank {
	case "sha256":
		return 32
	case "sha384":
		return 48
	}
	return 0
}

// isDigest reports whether s is size bytes in lower-case hex.
func isDigest(s string, size int) bool {
	if len(s) != 2*size || s != strings.ToLower(s) {
		return false
	}
	_, err := hex.DecodeString(s)
	return err == nil
}

// plain reports whether s is printable text on one line.
func plain(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

func wrong(format string, args ...any) error {
	return fault.New(fault.Malformed, "baseline_malformed", fmt.Sprintf(format, args...))
}

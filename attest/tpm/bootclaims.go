package tpm

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/hallmark-pki/hallmark/attest"
)

// maxDigests bounds the elements of a claim: policy input and record hold it.
const maxDigests = 64

// boot is what the measurements of a log that replayed tell.
func (r *replay) boot() (attest.Boot, error) {
	b := attest.Boot{LogReplayed: true, Events: r.room()}
	var secure secureBoot
	digests := r.hex()
	for i := range r.measured {
		e := &r.measured[i]
		c := r.content(e)
		if c.wrong {
			return attest.Boot{}, attest.Refuse(attest.LogDigest,
				fmt.Sprintf("event %d of the event log (%s, PCR %d) is not what its digest says", e.index, e.kind, e.pcr))
		}
		digest, pcr := digests[:2*len(e.digest)], int(e.pcr)
		digests = digests[2*len(e.digest):]
		b.Events[pcr] = append(b.Events[pcr], attest.Event{Index: e.index, Type: e.kind.String(), Digest: digest, Says: c.says()})
		switch {
		case pcr == 7:
			secure.add(c)
		case pcr == 4 && !c.marks():
			b.BootLoader = append(b.BootLoader, digest)
		case (pcr == 8 || pcr == 9) && !c.marks():
			b.Kernel = append(b.Kernel, digest)
		}
	}
	b.BootLoader, b.Kernel, b.SecureBoot = bounded(b.BootLoader), bounded(b.Kernel), secure.state()
	return b, nil
}

// room makes room for the measurements of each register.
func (r *replay) room() map[int][]attest.Event {
	var count [24]int
	for i := range r.measured {
		count[r.measured[i].pcr]++
	}
	events := map[int][]attest.Event{}
	for pcr, n := range count {
		if n > 0 {
			events[pcr] = make([]attest.Event, 0, n)
		}
	}
	return events
}

// hex is the measurements' digests in one piece, to be cut up: they are many.
func (r *replay) hex() string {
	all := make([]byte, 0, len(r.measured)*2*r.hash.Size())
	for i := range r.measured {
		all = hex.AppendEncode(all, r.measured[i].digest)
	}
	return string(all)
}

// bounded drops repetitions, and what is too much for a claim. The
// last element then says so: it is no digest, so that a rule which knows every digest does not know this list.
func bounded(digests []string) []string {
	seen := map[string]bool{}
	digests = slices.DeleteFunc(digests, func(d string) bool {
		again := seen[d]
		seen[d] = true
		return again
	})
	if over := len(digests) - (maxDigests - 1); over > 1 {
		return append(digests[:maxDigests-1], fmt.Sprintf("and %d more", over))
	}
	return digests
}

// secureBoot follows PCR 7. The firmware measures its variables and then a
// separator; what comes later, others can measure. So the variable counts only before the
// separator, and only if every measurement until then is what its type says:
// otherwise the real one may have been hidden under another type.
type secureBoot struct {
	value            *bool
	separated, mixed bool
}

func (s *secureBoot) add(c content) {
	switch {
	case s.separated:
	case c.separator:
		s.separated = true
	case !c.covered:
		s.mixed = true
	case c.kind == evEFIAction && string(c.data) == "UEFI Debug Mode":
		s.mixed = true // a debugger can do as it likes
	case c.kind == evVariableConfig && c.variable.is(globalVariable, "SecureBoot"):
		if len(c.variable.value) != 1 || c.variable.value[0] > 1 || s.value != nil {
			s.mixed = true
			return
		}
		on := c.variable.value[0] == 1
		s.value = &on
	}
}

// state is nil where the log does not say.
func (s *secureBoot) state() *bool {
	if !s.separated || s.mixed {
		return nil
	}
	return s.value
}

// content is what the data of a measurement is worth.
type content struct {
	kind      eventType
	data      []byte
	variable  variable // of EV_EFI_VARIABLE_*
	covered   bool     // the digest is over the data
	wrong     bool     // it ought to be, and is not
	separator bool     // by its digest, whatever its type says
}

// marks reports whether the measurement marks a moment and measures no code.
func (c *content) marks() bool {
	return c.separator || c.covered && (c.kind == evEFIAction || c.kind == evAction)
}

// content holds a measurement's data against its digest, where the digest is
// defined over it (TCG PC Client Platform Firmware Profile, Section 10.4.1, Table 27).
//
// EV_S_CRTM_VERSION is defined so, too. But there are machines in the field whose
// boot guard measures something else under that name, so it is only left undescribed.
func (r *replay) content(e *record) content {
	c := content{kind: e.kind, data: e.data, separator: r.separates(e.digest)}
	c.covered = bytes.Equal(e.digest, r.sum(e.data))
	switch e.kind {
	case evVariableConfig, evVariableBoot, evVariableBoot2, evVariableAuth:
		var ok bool
		c.variable, ok = parseVariable(e.data)
		if e.kind == evVariableBoot && ok && !c.covered { // older firmware measures the value alone
			c.covered = bytes.Equal(e.digest, r.sum(c.variable.value))
		}
		if e.kind == evVariableAuth && len(e.data) > 0 && !c.covered { // shim before 15.3 logs a byte too many
			c.covered = bytes.Equal(e.digest, r.sum(e.data[:len(e.data)-1]))
		}
		c.wrong = !ok || !c.covered
	case evSeparator, evAction, evEFIAction, evOmitBootDevice:
		c.wrong = !c.covered
	case evIPL:
		if !c.covered {
			c.data, c.covered = r.command(e)
		}
	}
	return c
}

// command finds what the digest of a boot loader's measurement is over, if that
// is text. GRUB logs a word such as grub_cmd before the command that it measures, and
// systemd-boot a byte less than it measures.
func (r *replay) command(e *record) ([]byte, bool) {
	if isUTF16(e.data) {
		measured := append(bytes.Clone(e.data), 0)
		return measured, bytes.Equal(e.digest, r.sum(measured))
	}
	_, command, _ := bytes.Cut(e.data, []byte(" "))
	for _, measured := range [][]byte{bytes.TrimRight(command, "\x00"), command} {
		if len(measured) > 0 && bytes.Equal(e.digest, r.sum(measured)) {
			return measured, true
		}
	}
	return nil, false
}

// separates reports whether the digest is a separator's, whatever the event calls itself.
func (r *replay) separates(digest []byte) bool {
	if r.separators == nil {
		r.separators = [][]byte{r.digest([]byte{0, 0, 0, 0}), r.digest([]byte{0xff, 0xff, 0xff, 0xff})}
	}
	return bytes.Equal(digest, r.separators[0]) || bytes.Equal(digest, r.separators[1])
}

package attest

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"time"
)

// Bounds of what differences list: they go into the record, and a device chooses
// how long its event log is.
const (
	maxExpected  = 4  // values or digests expected of one register
	maxDiffering = 4  // events of one register, either way
	maxExplained = 32 // events of all registers, either way
)

// likeness is how a boot compares to one baseline.
type likeness struct {
	baseline    *Baseline
	differences []Difference
	expired     bool
}

// matches reports whether the boot is what the baseline says.
func (l *likeness) matches() bool { return len(l.differences) == 0 && !l.expired }

// nearest returns the baseline that the boot differs least from; of those
// alike, one that is still valid, and one that is not deprecated.
func nearest(judged []Baseline, r *Result, quoted map[int]string, now time.Time) likeness {
	var best likeness
	for i := range judged {
		b := &judged[i]
		l := likeness{baseline: b, differences: differences(b, r, quoted), expired: !b.ValidUntil.IsZero() && !now.Before(b.ValidUntil)}
		if best.baseline == nil || l.nearer(&best) {
			best = l
		}
	}
	return best
}

func (l *likeness) nearer(than *likeness) bool {
	switch {
	case len(l.differences) != len(than.differences):
		return len(l.differences) < len(than.differences)
	case l.expired != than.expired:
		return than.expired
	}
	return l.baseline.State != Deprecated && than.baseline.State == Deprecated
}

// differences are the registers that are not what b allows, in order. None: b matches.
func differences(b *Baseline, r *Result, quoted map[int]string) []Difference {
	var differ []Difference
	for pcr := range 24 {
		allowed, listed := b.PCRs[r.PCR.Bank][pcr]
		got := quoted[pcr]
		if listed && !slices.Contains(allowed, got) {
			d := Difference{PCR: pcr, Got: got, Expected: bound(allowed, maxExpected)}
			if r.Boot.LogReplayed && b.Events != nil {
				d.Events, d.Missing = differing(r.Boot.Events[pcr], b.Events[pcr])
			}
			differ = append(differ, d)
			continue
		}
		if digests, ruled := b.Log.Allowed[pcr]; ruled {
			unknown := unlisted(r.Boot.Events[pcr], digests)
			if got == "" || !r.Boot.LogReplayed || len(unknown) > 0 {
				differ = append(differ, Difference{PCR: pcr, Got: got, Expected: bound(digests, maxExpected), Events: bound(unknown, maxDiffering)})
			}
		}
	}
	if want := b.Log.SecureBoot; want != nil && (r.Boot.SecureBoot == nil || *r.Boot.SecureBoot != *want) {
		got := "secure boot unknown"
		if r.Boot.SecureBoot != nil {
			got = onOff(*r.Boot.SecureBoot)
		}
		differ = append(differ, Difference{PCR: 7, Got: got, Expected: []string{onOff(*want)}})
	}
	return differ
}

func onOff(on bool) string {
	if on {
		return "secure boot on"
	}
	return "secure boot off"
}

// unlisted are the measurements that a rule does not allow.
func unlisted(events []Event, allowed []string) []Event {
	var unknown []Event
	for _, e := range events {
		if !slices.Contains(allowed, e.Digest) {
			unknown = append(unknown, e)
		}
	}
	return unknown
}

// differing finds where two lists of measurements part: what got has between
// the beginning and the end that they share and want does not know, and the other way round. Lists that
// differ in order alone give both middles whole.
func differing(got, want []Event) ([]Event, []string) {
	for len(got) > 0 && len(want) > 0 && got[0].Digest == want[0].Digest {
		got, want = got[1:], want[1:]
	}
	for len(got) > 0 && len(want) > 0 && got[len(got)-1].Digest == want[len(want)-1].Digest {
		got, want = got[:len(got)-1], want[:len(want)-1]
	}
	wanted, had := digestsOf(want), digestsOf(got)
	added, missing := unlisted(got, wanted), []string(nil)
	for _, d := range wanted {
		if !slices.Contains(had, d) {
			missing = append(missing, d)
		}
	}
	if len(added) == 0 && len(missing) == 0 {
		added, missing = got, wanted
	}
	return bound(added, maxDiffering), bound(missing, maxDiffering)
}

func digestsOf(events []Event) []string {
	digests := make([]string, len(events))
	for i, e := range events {
		digests[i] = e.Digest
	}
	return digests
}

// bound returns up to n of the list, a copy.
func bound[T any](list []T, n int) []T {
	if len(list) == 0 {
		return nil
	}
	return slices.Clone(list[:min(len(list), n)])
}

// explained drops the events of later registers when there are too many in all.
func explained(differ []Difference) []Difference {
	events, missing := maxExplained, maxExplained
	for i := range differ {
		d := &differ[i]
		d.Events, d.Missing = bound(d.Events, events), bound(d.Missing, missing)
		events, missing = events-len(d.Events), missing-len(d.Missing)
	}
	return differ
}

// says names the first register that differs and what it comes from, on one line.
func (l *likeness) says() string {
	if len(l.differences) == 0 {
		return fmt.Sprintf("%s, which the device booted, was valid until %s", l.baseline.name(), l.baseline.ValidUntil.UTC().Format(time.RFC3339))
	}
	text := fmt.Sprintf("%s, not as %s says", l.differences[0].Says(), l.baseline.name())
	if n := len(l.differences) - 1; n > 0 {
		text += fmt.Sprintf("; %d more differ", n)
	}
	return text
}

// Says tells of one register on one line: its value, the first event that differs, and
// what was expected.
func (d *Difference) Says() string {
	if d.Got == "" {
		return fmt.Sprintf("PCR %d was not quoted", d.PCR)
	}
	text := fmt.Sprintf("PCR %d is %s", d.PCR, shorten(d.Got))
	switch {
	case len(d.Events) > 0:
		e := d.Events[0]
		text += fmt.Sprintf(" by event %d %s %s", e.Index, e.Type, shorten(e.Digest))
	case len(d.Missing) > 0:
		text += fmt.Sprintf(" without event %s", shorten(d.Missing[0]))
	}
	if len(d.Expected) > 0 {
		text += ", expected " + shorten(d.Expected[0])
	}
	return text
}

// compareWithBond holds a boot against the device's last accepted one. That is all
// there is to say without a baseline, and policy decides what it means.
func (s *Baselines) compareWithBond(ctx context.Context, r *Result, bond *Bond) error {
	r.Boot.Changed, r.Boot.Differences = nil, nil
	if bond == nil || len(bond.PCRs) == 0 || len(r.PCR.Values) == 0 {
		return nil
	}
	own := Baseline{PCRs: map[string]map[int][]string{r.PCR.Bank: {}}}
	for pcr := range r.PCR.Values {
		last, ok := bond.PCRs[pcr]
		switch {
		case bond.Bank != r.PCR.Bank: // another bank shows nothing of what was booted last
			own.PCRs[r.PCR.Bank][pcr] = []string{bond.Bank + " was quoted last"}
		case ok:
			own.PCRs[r.PCR.Bank][pcr] = []string{hex.EncodeToString(last)}
		}
	}
	quoted := quotedHex(&r.PCR)
	if len(differences(&own, r, quoted)) == 0 {
		return nil
	}
	if bond.Bank == r.PCR.Bank && r.Boot.LogReplayed {
		var err error
		if own.Events, err = s.events(ctx, bond); err != nil {
			return err
		}
	}
	r.Boot.Differences = explained(differences(&own, r, quoted))
	for _, d := range r.Boot.Differences {
		r.Boot.Changed = append(r.Boot.Changed, d.PCR)
	}
	r.Verdict = max(r.Verdict, Warning)
	return nil
}

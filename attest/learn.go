package attest

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// Lesson is what a baseline is learned from: the evidence that a device was last accepted with.
type Lesson struct {
	ID       string // of the baseline to be; the permit must be for it
	Device   string
	Firmware string // a name for what the device runs
	PCRs     []int  // the registers to learn; none: all that were quoted

	// Refused is what the device showed when it was refused for its boot, to propose
	// that as a reference; nil for what it was accepted with.
	Refused *Sighting
}

// Sighting is a verified quote as the record of a decision tells it.
type Sighting struct {
	Bank     string
	PCRs     map[int][]byte
	Evidence string   // SHA-256, hex
	EventLog [32]byte // zero: none came
}

// Learn proposes a baseline: what one device booted when it was last accepted, the
// registers that it quoted, each with that one value, and the events of its log. To make it count
// is a decision of its own. It learns nothing from a device that is out of service or never quoted,
// unless what it was refused for is to become a reference.
func (s *Baselines) Learn(ctx context.Context, p policy.Permit, l Lesson) (Baseline, error) {
	if err := p.Covers(policy.LearnBaseline, l.ID); err != nil {
		return Baseline{}, err
	}
	model, bond, err := s.teacher(ctx, l.Device, l.Refused)
	if err != nil {
		return Baseline{}, err
	}
	for _, pcr := range l.PCRs {
		if bond.PCRs[pcr] == nil {
			return Baseline{}, fault.New(fault.Conflict, "not_quoted", fmt.Sprintf("the device did not quote PCR %d", pcr))
		}
	}
	b := Baseline{ID: l.ID, Model: model, Firmware: l.Firmware, State: Draft,
		PCRs:   map[string]map[int][]string{bond.Bank: {}},
		Source: fmt.Sprintf("device %s, evidence %s", l.Device, hex.EncodeToString(bond.Evidence[:]))}
	if l.Refused != nil {
		b.Source = fmt.Sprintf("device %s, refused evidence %s", l.Device, l.Refused.Evidence)
	}
	if b.Events, err = s.events(ctx, &bond); err != nil {
		return Baseline{}, err
	}
	for pcr, value := range bond.PCRs {
		if len(l.PCRs) > 0 && !slices.Contains(l.PCRs, pcr) {
			delete(b.Events, pcr)
			continue
		}
		b.PCRs[bond.Bank][pcr] = []string{hex.EncodeToString(value)}
	}
	return s.add(ctx, p, policy.LearnBaseline, b)
}

// teacher returns what there is to learn from the device, or why it is no reference.
func (s *Baselines) teacher(ctx context.Context, device string, refused *Sighting) (model string, bond Bond, err error) {
	specimen, err := s.Device(ctx, device)
	if err != nil {
		return "", Bond{}, err
	}
	if refused != nil {
		return cmp.Or(specimen.Model, NoModel), Bond{Bank: refused.Bank, PCRs: refused.PCRs, EventLog: refused.EventLog}, nil
	}
	refuse := func(code, says string) (string, Bond, error) {
		return "", Bond{}, fault.New(fault.Conflict, code, says)
	}
	bond, err = s.Bonds.Bond(ctx, device)
	switch {
	case fault.Is(err, fault.NotFound):
		return refuse("not_attested", "the device has never attested: there is nothing to learn from")
	case err != nil:
		return "", Bond{}, err
	case !specimen.InService:
		return refuse("device_not_in_service", "the device is quarantined or retired: what it boots is no reference")
	case bond.Verdict == Contraindicated:
		return refuse("device_contraindicated", "the device last booted what it should not: that is no reference")
	case bond.Bank == "" || len(bond.PCRs) == 0:
		return refuse("not_quoted", "the device has attested without a quote: nothing is known of what it boots")
	}
	return cmp.Or(specimen.Model, NoModel), bond, nil
}

// events are those of the log that the bond was last accepted with, or nil where it
// has none, or one of an earlier boot.
func (s *Baselines) events(ctx context.Context, bond *Bond) (map[int][]Event, error) {
	if bond.EventLog == ([32]byte{}) {
		return nil, nil
	}
	blob, err := s.Evidence.Evidence(ctx, bond.EventLog)
	if fault.Is(err, fault.NotFound) {
		return nil, nil // kept for a while only
	}
	if err != nil {
		return nil, err
	}
	boot, err := s.Replay(blob.Bytes, PCRs{Bank: bond.Bank, Values: bond.PCRs})
	if err != nil {
		return nil, nil // of an earlier boot: the last evidence came without a log
	}
	return boot.Events, nil
}

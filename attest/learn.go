package attest

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// Lesson is what a baseline is learned from: the evidence that a device was last accepted with.
type Lesson struct {
	ID       string // of the baseline to be; the permit must be for it
	Device   string
	Firmware string // a name for what the device runs
	Activate bool   // make it count at once; otherwise it is a draft for a person to promote
}

// Learn makes a baseline of what one device booted when it was last accepted:
// the registers that it quoted, each with that one value, and the events of its log. It
// learns nothing from a device that is out of service or never quoted. Evidence that was
// refused leaves no bond, so nothing is learned from it either.
func (s *Baselines) Learn(ctx context.Context, p policy.Permit, l Lesson) (Baseline, error) {
	if err := p.Covers(policy.LearnBaseline, l.ID); err != nil {
		return Baseline{}, err
	}
	specimen, err := s.Device(ctx, l.Device)
	if err != nil {
		return Baseline{}, err
	}
	bond, err := s.Bonds.Bond(ctx, l.Device)
	switch {
	case fault.Is(err, fault.NotFound):
		return Baseline{}, fault.New(fault.Conflict, "not_attested", "the device has never attested: there is nothing to learn from")
	case err != nil:
		return Baseline{}, err
	case !specimen.InService:
		return Baseline{}, fault.New(fault.Conflict, "device_not_in_service", "the device is quarantined or retired: what it boots is no reference")
	case specimen.Model == "":
		return Baseline{}, fault.New(fault.Conflict, "model_unknown", "the register knows no model of the device")
	case bond.Verdict == Contraindicated:
		return Baseline{}, fault.New(fault.Conflict, "device_contraindicated", "the device last booted what it should not: that is no reference")
	case bond.Bank == "" || len(bond.PCRs) == 0:
		return Baseline{}, fault.New(fault.Conflict, "not_quoted", "the device has attested without a quote: nothing is known of what it boots")
	}
	b := Baseline{ID: l.ID, Model: specimen.Model, Firmware: l.Firmware, State: Draft,
		PCRs:   map[string]map[int][]string{bond.Bank: {}},
		Source: fmt.Sprintf("device %s, evidence %s", l.Device, hex.EncodeToString(bond.Evidence[:]))}
	for pcr, value := range bond.PCRs {
		b.PCRs[bond.Bank][pcr] = []string{hex.EncodeToString(value)}
	}
	if b.Events, err = s.events(ctx, &bond); err != nil {
		return Baseline{}, err
	}
	if l.Activate {
		b.State = Active
	}
	return s.add(ctx, p, policy.LearnBaseline, b)
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

package attest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// Baselines are the reference values as operators manage them and as devices
// are held against them. Whatever an operator asks of it takes a Permit.
type Baselines struct {
	Store    BaselineStore
	Bonds    BondStore
	Evidence EvidenceStore
	Now      func() time.Time

	// Replay reads the event log of evidence that was accepted: tpm.ReplayLog, which
	// stands above this room.
	Replay func(log []byte, pcrs PCRs) (Boot, error)

	// Device returns what the register knows of a device that a baseline is to be learned
	// from, or an error of kind NotFound.
	Device func(ctx context.Context, id string) (Specimen, error)

	mu   sync.Mutex
	held map[string]inForce // by model; see inForce
}

// Specimen is a device that a baseline may be learned from.
type Specimen struct {
	Model     string
	InService bool // neither quarantined nor retired
}

// Add takes a baseline in as a draft. Of b it keeps the ID, which the permit
// must be for, and what ParseBaseline reads; the rest is set here.
func (s *Baselines) Add(ctx context.Context, p policy.Permit, b Baseline) (Baseline, error) {
	b.State, b.Canary = Draft, ""
	return s.add(ctx, p, policy.AddBaseline, b)
}

// add checks, stamps and records a new baseline.
func (s *Baselines) add(ctx context.Context, p policy.Permit, a policy.Action, b Baseline) (Baseline, error) {
	if err := b.check(); err != nil {
		return Baseline{}, err
	}
	now := s.Now().UTC().Truncate(time.Millisecond) // as it is kept
	b.Created, b.Changed, b.By, b.ChangedBy, b.Why = now, now, p.Actor(), "", ""
	event, err := p.Redeem(a, b.ID, b.fact(""))
	if err != nil {
		return Baseline{}, err
	}
	defer s.forget(b.Model)
	return b, s.Store.AddBaseline(ctx, b, event)
}

// List returns the baselines that the filter selects, newest first.
func (s *Baselines) List(ctx context.Context, p policy.Permit, f BaselineFilter) ([]Baseline, error) {
	if err := p.Covers(policy.ListBaselines, ""); err != nil {
		return nil, err
	}
	return s.Store.Baselines(ctx, f)
}

// Show returns one baseline, or an error of kind NotFound.
func (s *Baselines) Show(ctx context.Context, p policy.Permit, id string) (Baseline, error) {
	if err := p.Covers(policy.ShowBaseline, id); err != nil {
		return Baseline{}, err
	}
	return s.Find(ctx, id)
}

// Find returns one baseline, or an error of kind NotFound. It is for asking policy
// about it, and answers no operator.
func (s *Baselines) Find(ctx context.Context, id string) (Baseline, error) {
	found, err := s.Store.Baselines(ctx, BaselineFilter{ID: id, Limit: 1})
	if err != nil {
		return Baseline{}, err
	}
	if len(found) == 0 {
		return Baseline{}, fault.New(fault.NotFound, "baseline_unknown", "no baseline has this id")
	}
	return found[0], nil
}

// Activation is a baseline's promotion.
type Activation struct {
	ID     string
	To     BaselineState // Canary or Active
	Canary string        // label=value of the devices; only with Canary
	Reason string
}

// Activate makes a baseline count: for the devices under a label, or for
// every device of its model. A canary can be given another label.
func (s *Baselines) Activate(ctx context.Context, p policy.Permit, a Activation) error {
	move := BaselineMove{ID: a.ID, To: a.To, Canary: a.Canary, Reason: a.Reason}
	switch a.To {
	case Canary:
		if err := checkCanary(a.Canary); err != nil {
			return err
		}
		move.From = []BaselineState{Draft, Canary}
	case Active:
		if a.Canary != "" {
			return fault.New(fault.Malformed, "baseline_canary", "an active baseline counts for all devices of its model: it has no canary label")
		}
		move.From = []BaselineState{Draft, Canary}
	default:
		return fault.New(fault.Malformed, "baseline_state", "a baseline is activated to canary or to active")
	}
	return s.move(ctx, p, policy.ActivateBaseline, move)
}

// Deprecate lets devices still boot what an active baseline says, with a warning.
func (s *Baselines) Deprecate(ctx context.Context, p policy.Permit, id, reason string) error {
	return s.move(ctx, p, policy.DeprecateBaseline, BaselineMove{ID: id, From: []BaselineState{Active}, To: Deprecated, Reason: reason})
}

// Deny makes whoever boots what the baseline says refused and quarantined, for good:
// to allow it again is a new baseline. The
// reason is told to the technician at the device.
func (s *Baselines) Deny(ctx context.Context, p policy.Permit, id, reason string) error {
	return s.move(ctx, p, policy.DenyBaseline, BaselineMove{
		ID: id, From: []BaselineState{Draft, Canary, Active, Deprecated}, To: Rejected, Reason: reason})
}

// move changes a baseline's state. Its event says what the baseline held, by
// digest, so that the record alone tells what was made to count.
func (s *Baselines) move(ctx context.Context, p policy.Permit, a policy.Action, m BaselineMove) error {
	if err := p.Covers(a, m.ID); err != nil {
		return err
	}
	if len(m.Reason) > maxReason {
		return fault.New(fault.Malformed, "reason_length", fmt.Sprintf("a reason has at most %d bytes", maxReason))
	}
	b, err := s.Find(ctx, m.ID)
	if err != nil {
		return err
	}
	if !slices.Contains(m.From, b.State) {
		return fault.New(fault.Conflict, "baseline_state", fmt.Sprintf("the baseline is %s; it cannot become %s", b.State, m.To))
	}
	from := b.State
	b.State, b.Canary, b.Why = m.To, m.Canary, m.Reason
	m.By, m.At = p.Actor(), s.Now().UTC().Truncate(time.Millisecond)
	event, err := p.Redeem(a, m.ID, b.fact(from))
	if err != nil {
		return err
	}
	defer s.forget(b.Model)
	return s.Store.MoveBaseline(ctx, m, event)
}

// fact is what the record keeps of a baseline's addition or change.
func (b *Baseline) fact(from BaselineState) policy.Properties {
	digest := b.Digest()
	f := map[string]any{"model": b.Model, "firmware": b.Firmware, "state": string(b.State),
		"source": b.Source, "sha256": hex.EncodeToString(digest[:])}
	if from != "" {
		f["from"] = string(from)
	}
	if b.Canary != "" {
		f["canary"] = b.Canary
	}
	if b.Why != "" {
		f["reason"] = b.Why
	}
	return policy.Properties{"baseline": f}
}

// Digest is the SHA-256 over what the baseline demands: the JSON of its model, firmware,
// registers, log rules and window. Its state, its history and Events, which only explain, are not part of it.
func (b *Baseline) Digest() [32]byte {
	demands, _ := json.Marshal(Baseline{Model: b.Model, Firmware: b.Firmware, PCRs: b.PCRs, Log: b.Log,
		ValidFrom: b.ValidFrom.UTC(), ValidUntil: b.ValidUntil.UTC()}) // of maps, strings and times in the years that have one: never fails
	return sha256.Sum256(demands)
}

// checkCanary makes sure that a canary label can be one: label=value.
func checkCanary(label string) error {
	name, value, ok := strings.Cut(label, "=")
	if !ok || name == "" || value == "" || len(label) > maxText || !plain(label) {
		return fault.New(fault.Malformed, "baseline_canary", "a canary label is written label=value, such as ring=canary")
	}
	return nil
}

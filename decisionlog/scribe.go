package decisionlog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

// Rules are one policy, as the log asks it.
type Rules interface {
	// Labels are those of the METADATA of the rules that succeed for the input of a decision.
	Labels(ctx context.Context, input map[string]any) ([]map[string]any, error)

	// Treat says what data.system.log makes of an event: whether it is dropped, and
	// else what of it is masked.
	Treat(ctx context.Context, event map[string]any) (drop bool, masks []any, err error)
}

// Scribe writes events. It does not change, and may be used by many goroutines.
type Scribe struct {
	Labels map[string]string // of every event
	Masks  []Mask            // applied to every event, after those of the rules

	// InForce are the rules that say what is masked: those in force now, since it
	// is now that the event leaves.
	InForce func() Rules

	// Recall returns the rules with that digest, which made a decision; an error of kind
	// NotFound says that they are kept no longer. Nil: events carry no rule labels.
	Recall func(ctx context.Context, digest string) (Rules, error)
}

// maxAsking bounds what one event may take the rules.
const maxAsking = time.Second

// errDropped says that the rules keep an event out of the log.
var errDropped = errors.New("the rules drop this event from the decision log")

// Event writes the event of an entry. It is nil where the entry carries no
// decision, or where the rules drop it from the log. Where the rules' masks give no
// clear answer, input and result are out of it, and it says so.
func (s *Scribe) Event(ctx context.Context, e audit.Entry) (*Event, error) {
	event, err := s.write(ctx, e)
	if errors.Is(err, errNoDecision) || errors.Is(err, errDropped) {
		return nil, nil
	}
	if errors.Is(err, errMask) {
		return event, nil
	}
	return event, err
}

// write is Event that tells why there is none; with errMask there is one.
func (s *Scribe) write(ctx context.Context, e audit.Entry) (*Event, error) {
	d, err := read(e)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, maxAsking)
	defer cancel()
	d.Labels = s.Labels
	if d.RuleLabels, d.note.RuleLabels, err = s.ruleLabels(ctx, d); err != nil {
		return nil, err
	}
	err = s.mask(ctx, d)
	if errors.Is(err, errMask) {
		d.blot()
		d.note.Mask = "failed"
		return d.finish(), err
	}
	if err != nil {
		return nil, err
	}
	return d.finish(), nil
}

// ruleLabels are found by asking the rules that decided once more: so the
// decision itself, which a device waits for, costs nothing for them. Where they cannot be asked, why says that.
func (s *Scribe) ruleLabels(ctx context.Context, d *draft) (labels []map[string]any, why string, err error) {
	switch {
	case s.Recall == nil:
		return nil, "", nil
	case d.Bundles == nil:
		return nil, "no_rules", nil
	case d.failed:
		return nil, "no_answer", nil
	}
	rules, err := s.Recall(ctx, d.policy)
	if fault.Is(err, fault.NotFound) {
		return nil, "rules_gone", nil
	}
	if fault.Is(err, fault.Busy) { // it may be possible later
		return nil, "", err
	}
	if err == nil {
		labels, err = rules.Labels(ctx, d.input)
	}
	if err != nil {
		return nil, "failed", nil
	}
	return labels, "", nil
}

// mask applies the rules' masks, and then the configured ones.
func (s *Scribe) mask(ctx context.Context, d *draft) error {
	rules := s.InForce()
	if rules == nil {
		return fmt.Errorf("%w: no rules are in force", errMask)
	}
	drop, list, err := rules.Treat(ctx, d.document())
	if err != nil {
		return fmt.Errorf("%w: %w", errMask, err)
	}
	if drop {
		return errDropped
	}
	masks, err := parseMasks(list)
	if err != nil {
		return fmt.Errorf("%w: %w", errMask, err)
	}
	d.apply(masks)
	d.apply(s.Masks)
	return nil
}

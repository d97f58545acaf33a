package release

import (
	"context"
	"sync"

	"github.com/hallmark-pki/hallmark/internal/fault"
)

// InForce returns the rules in force; nil before Start.
func (r *Running) InForce() Rules {
	if l := r.lineup.Load(); l != nil {
		return l.active
	}
	return nil
}

// Memory brings rules back that decided earlier: it is for those who look at a
// decision later, such as the decision log. It keeps the last few that it loaded.
type Memory struct {
	Running *Running

	mu     sync.Mutex
	recent []Rules // the last first
}

// remembered is how many earlier rules a Memory keeps: a log is mostly read in order.
const remembered = 2

// Recall returns the rules with that digest: those in force, those on trial, or
// those of a revision. Others, such as of a policy directory before it was reloaded, are
// kept nowhere: then the error is of kind NotFound with the code rules_gone.
func (m *Memory) Recall(ctx context.Context, digest string) (Rules, error) {
	if l := m.Running.lineup.Load(); l != nil {
		if l.active.Digest() == digest {
			return l.active, nil
		}
		if l.trial != nil && l.trial.rules.Digest() == digest {
			return l.trial.rules, nil
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, known := range m.recent {
		if known.Digest() == digest {
			return known, nil
		}
	}
	found, err := m.load(ctx, digest)
	if err != nil {
		return nil, err
	}
	m.recent = append([]Rules{found}, m.recent[:min(len(m.recent), remembered-1)]...)
	return found, nil
}

// load looks for a revision with that digest.
func (m *Memory) load(ctx context.Context, digest string) (Rules, error) {
	for before := int64(0); ; {
		page, err := m.Running.Revisions.Revisions(ctx, RevisionFilter{Before: before})
		if err != nil {
			return nil, err
		}
		for i := range page {
			if page[i].Digest == digest {
				whole, err := m.Running.revision(ctx, page[i].Number)
				if err != nil {
					return nil, err
				}
				return m.Running.Language.Load(ctx, whole.Bundle)
			}
			before = page[i].Number
		}
		if len(page) == 0 || before <= 1 {
			return nil, fault.New(fault.NotFound, "rules_gone", "the rules that made this decision are kept nowhere")
		}
	}
}

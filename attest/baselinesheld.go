package attest

import (
	"cmp"
	"context"
	"time"
)

// inForceFor bounds how long a replica goes by what it read: a move made by
// another replica is seen after that.
const inForceFor = time.Second

// maxHeld bounds how many models are remembered.
const maxHeld = 1024

// inForce is what was read of one model's baselines, and when.
type inForce struct {
	baselines []Baseline
	read      time.Time
}

// inForce are the model's baselines in every state but draft. It reads them
// about once a second and model, whatever the load.
func (s *Baselines) inForce(ctx context.Context, model string) ([]Baseline, error) {
	model = cmp.Or(model, NoModel)
	now := time.Now() // a real span of time, whatever Now says it is
	s.mu.Lock()
	have, ok := s.held[model]
	s.mu.Unlock()
	if ok && now.Sub(have.read) < inForceFor {
		return have.baselines, nil
	}
	fresh := inForce{read: now}
	// In the order of their life, so that one which moves meanwhile is seen twice and never missed.
	for _, state := range []BaselineState{Canary, Active, Deprecated, Rejected} {
		found, err := s.all(ctx, BaselineFilter{Model: model, State: state})
		if err != nil {
			return nil, err
		}
		fresh.baselines = append(fresh.baselines, found...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == nil || len(s.held) >= maxHeld {
		s.held = map[string]inForce{}
	}
	s.held[model] = fresh
	return fresh.baselines, nil
}

// all reads page after page: none of a model's baselines may be overlooked.
func (s *Baselines) all(ctx context.Context, f BaselineFilter) ([]Baseline, error) {
	var all []Baseline
	for f.Limit = 100; ; f.Before = all[len(all)-1].ID {
		page, err := s.Store.Baselines(ctx, f)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < f.Limit {
			return all, nil
		}
	}
}

// forget has the model's baselines read anew.
func (s *Baselines) forget(model string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.held, model)
}

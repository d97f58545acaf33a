package rego

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/hallmark-pki/hallmark/policy"
)

// Bounds of the search for a change, beside its time.
const (
	maxTried    = 20_000 // inputs evaluated
	maxPaired   = 120    // changes that are tried in pairs, which makes half of its square
	maxTogether = 6      // changes together
	maxWays     = 5      // that are told
)

// search looks for the smallest change of an input that rules would have allowed. Each is
// evaluated with the very rules. Nobody can ask for something else instead: the action stays.
type search struct {
	ctx     context.Context
	rules   *rules
	input   map[string]any
	action  policy.Action
	before  policy.Answer
	tried   int
	stopped bool // before everything was tried
	ways    [][]Change
}

// run tries every change of one attribute; then adds up changes that each remove
// a reason; and then, if that took more than two or led nowhere, tries every pair.
func (s *search) run(concerned map[*ast.Rule]bool) {
	candidates := s.rules.candidates(s.input, concerned)
	if s.singles(candidates); len(s.ways) > 0 || len(candidates) == 0 {
		return
	}
	together := s.addUp(candidates)
	if len(together) != 2 {
		if pair := s.pairs(candidates); pair != nil {
			together = pair
		}
	}
	if together != nil {
		s.ways = [][]Change{together}
	}
}

// try evaluates the input with changes; over says that the search has to end.
func (s *search) try(changes ...Change) (answer policy.Answer, over bool) {
	if s.tried == maxTried || s.ctx.Err() != nil {
		s.stopped = true
		return policy.Answer{}, true
	}
	s.tried++
	changed := s.input
	for _, c := range changes {
		changed = with(changed, c.Path, c.To)
	}
	document, err := inputValue(changed)
	if err != nil {
		return policy.Answer{}, false
	}
	answer, err = s.rules.answer(&budget{ctx: s.ctx}, document, nil)
	return policy.Settle(s.action, answer, err), false
}

// singles finds all changes of one attribute that would have been allowed. Who asks,
// and how they proved it, is told only where nothing else would do.
func (s *search) singles(candidates []Change) {
	for _, c := range candidates {
		if len(s.ways) > 0 && c.Kind == OfIdentity && s.ways[0][0].Kind != OfIdentity {
			return
		}
		answer, over := s.try(c)
		if over {
			return
		}
		if answer.Verdict != policy.Allow {
			continue
		}
		known := slices.IndexFunc(s.ways, func(w []Change) bool { return slices.Equal(w[0].Path, c.Path) })
		switch {
		case known >= 0 && len(s.ways[known][0].Or) < maxWays:
			s.ways[known][0].Or = append(s.ways[known][0].Or, c.To)
		case known < 0 && len(s.ways) < maxWays:
			s.ways = append(s.ways, []Change{c})
		}
	}
}

// addUp goes from change to change, each time to the one that leaves the least
// against it, and then drops what was not needed. It finds a small way, where there is one, not always the smallest.
func (s *search) addUp(candidates []Change) []Change {
	var way []Change
	seen := map[string]bool{signature(&s.before): true}
	for len(way) < maxTogether {
		best, found := s.step(way, candidates, seen)
		if found == nil {
			return nil
		}
		way = append(way, *found)
		if best.Verdict == policy.Allow {
			return s.without(way)
		}
		seen[signature(&best)] = true
	}
	return nil
}

// step is the change that leaves the least against the way, among those that change anything.
func (s *search) step(way, candidates []Change, seen map[string]bool) (best policy.Answer, found *Change) {
	for i, c := range candidates {
		if slices.ContainsFunc(way, func(w Change) bool { return slices.Equal(w.Path, c.Path) }) {
			continue
		}
		answer, over := s.try(append(slices.Clone(way), c)...)
		if over {
			return best, nil
		}
		if seen[signature(&answer)] || found != nil && against(&answer, &best) >= 0 {
			continue
		}
		if best, found = answer, &candidates[i]; answer.Verdict == policy.Allow {
			return best, found
		}
	}
	return best, found
}

// against compares how much stands against two answers.
func against(a, b *policy.Answer) int {
	return cmp.Or(-cmp.Compare(a.Verdict, b.Verdict), cmp.Compare(len(a.Reasons), len(b.Reasons)))
}

// signature is what an answer says, for recognising it.
func signature(a *policy.Answer) string {
	parts := []string{a.Verdict.String()}
	for _, r := range a.Reasons {
		parts = append(parts, r.Code)
	}
	return strings.Join(parts, " ")
}

// without drops every change that is not needed.
func (s *search) without(way []Change) []Change {
	for i := len(way) - 1; i >= 0; i-- {
		fewer := slices.Delete(slices.Clone(way), i, i+1)
		if answer, over := s.try(fewer...); !over && answer.Verdict == policy.Allow {
			way = fewer
		}
	}
	return way
}

// pairs is the first pair of changes that would have been allowed.
func (s *search) pairs(candidates []Change) []Change {
	if len(candidates) > maxPaired {
		candidates, s.stopped = candidates[:maxPaired], true
	}
	for i, a := range candidates {
		for _, b := range candidates[i+1:] {
			if slices.Equal(a.Path, b.Path) {
				continue
			}
			answer, over := s.try(a, b)
			if over {
				return nil
			}
			if answer.Verdict == policy.Allow {
				return []Change{a, b}
			}
		}
	}
	return nil
}

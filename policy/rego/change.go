package rego

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/hallmark-pki/hallmark/policy"
)

// Change is one attribute of the input, as it was and as it would have to be.
type Change struct {
	Path []string `json:"path"`          // such as resource, properties, state
	Was  any      `json:"was,omitempty"` // nil: it was not there
	To   any      `json:"to"`            // nil: it would have to be away
}

// Bounds of the search for a change.
const (
	maxTried  = 20_000 // inputs evaluated
	maxPaired = 300    // changes that are tried in pairs, which makes half of its square
	maxWords  = 64     // values for one attribute
)

// wouldPass searches single changes, and then pairs, for one that is allowed. Each is
// evaluated with the very rules; what an attribute may become stands in the rules that ask
// for it, and in the data. Nobody can ask for something else instead: the action stays.
func (r *rules) wouldPass(ctx context.Context, input map[string]any) (found []Change, tried int) {
	candidates := r.candidates(input)
	passes := func(changes ...Change) bool {
		tried++
		changed := input
		for _, c := range changes {
			changed = with(changed, c.Path, c.To)
		}
		document, err := inputValue(changed)
		if err != nil {
			return false
		}
		answer, err := r.answer(&budget{ctx: ctx}, document, nil)
		return err == nil && answer.Verdict == policy.Allow
	}
	for _, c := range candidates {
		if tried == maxTried || ctx.Err() != nil {
			return nil, tried
		}
		if passes(c) {
			return []Change{c}, tried
		}
	}
	candidates = candidates[:min(len(candidates), maxPaired)]
	for i, a := range candidates {
		for _, b := range candidates[i+1:] {
			if tried == maxTried || ctx.Err() != nil {
				return nil, tried
			}
			if !slices.Equal(a.Path, b.Path) && passes(a, b) {
				return []Change{a, b}, tried
			}
		}
	}
	return nil, tried
}

// candidates are the changes of single attributes that rules ask for, in a fixed order.
func (r *rules) candidates(input map[string]any) []Change {
	values := map[string]map[string]bool{} // by path, joined
	for _, name := range slices.Sorted(maps.Keys(r.compiler.Modules)) {
		for _, rule := range r.compiler.Modules[name].Rules {
			words := wordsOf(rule)
			for _, path := range asked(rule) {
				if values[path] == nil {
					values[path] = map[string]bool{}
				}
				for _, word := range words {
					if len(values[path]) < maxWords && !strings.Contains(word, " ") {
						values[path][word] = true
					}
				}
			}
		}
	}
	var all []Change
	for _, joined := range slices.Sorted(maps.Keys(values)) {
		path := strings.Split(joined, "\x00")
		was := valueAt(input, path)
		add := func(to any) {
			if to != was {
				all = append(all, Change{path, was, to})
			}
		}
		switch was := was.(type) {
		case bool:
			add(!was)
			continue
		case map[string]any, []any, []string:
			all = append(all, Change{path, was, nil})
			continue
		case nil:
			add(true)
		default:
			add(nil)
		}
		for _, word := range slices.Sorted(maps.Keys(values[joined])) {
			add(word)
		}
	}
	return all
}

// asked returns the paths below input that a rule reads, the action's name
// apart, each joined by zero bytes.
func asked(rule *ast.Rule) []string {
	var paths []string
	ast.WalkRefs(rule, func(ref ast.Ref) bool {
		if !ref.HasPrefix(ast.InputRootRef) || len(ref) < 3 {
			return false
		}
		var path []string
		for _, part := range ref[1:] {
			name, ok := part.Value.(ast.String)
			if !ok {
				break
			}
			path = append(path, string(name))
		}
		if len(path) > 1 && !slices.Equal(path, []string{"action", "name"}) {
			paths = append(paths, strings.Join(path, "\x00"))
		}
		return false
	})
	return paths
}

// valueAt returns what stands at path; nil if nothing does.
func valueAt(input map[string]any, path []string) any {
	for _, name := range path[:len(path)-1] {
		input, _ = input[name].(map[string]any)
	}
	return input[path[len(path)-1]]
}

// with returns a copy of input with another value at path, or with none if it is nil.
func with(input map[string]any, path []string, to any) map[string]any {
	changed := maps.Clone(input)
	if changed == nil {
		changed = map[string]any{}
	}
	switch {
	case len(path) > 1:
		inner, _ := input[path[0]].(map[string]any)
		changed[path[0]] = with(inner, path[1:], to)
	case to == nil:
		delete(changed, path[0])
	default:
		changed[path[0]] = to
	}
	return changed
}

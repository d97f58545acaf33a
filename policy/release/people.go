package release

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/hallmark-pki/hallmark/policy"
)

// comparePeople says which operators lose or gain actions under the proposed rules.
func (r *Releases) comparePeople(ctx context.Context, active, proposed Rules, progress func()) ([]OperatorDiff, int, error) {
	people, err := r.Operators(ctx)
	if err != nil {
		return nil, 0, err
	}
	var diffs []OperatorDiff
	for _, person := range people {
		diff := OperatorDiff{Operator: person.ID}
		for _, a := range policy.OperatorActions() {
			q := r.errand(person, a)
			was := policy.Rehearse(ctx, active, a, q, 0).Verdict == policy.Allow
			is := policy.Rehearse(ctx, proposed, a, q, 0).Verdict == policy.Allow
			switch {
			case was && !is:
				diff.Loses = append(diff.Loses, string(a))
			case is && !was:
				diff.Gains = append(diff.Gains, string(a))
			}
		}
		if len(diff.Loses)+len(diff.Gains) > 0 {
			diffs = append(diffs, diff)
		}
		progress()
		if err := ctx.Err(); err != nil {
			return nil, 0, err
		}
	}
	slices.SortFunc(diffs, func(a, b OperatorDiff) int { return strings.Compare(a.Operator, b.Operator) })
	return diffs, len(people), nil
}

// errand is a question of that action as the operator might ask it: about
// something within the operator's scopes, made by somebody else.
func (r *Releases) errand(person policy.Entity, a policy.Action) map[string]any {
	noun, _, _ := strings.Cut(string(a), ".")
	within := policy.Properties{"author": "somebody else"}
	parameters := policy.Properties{}
	scopes, _ := person.Properties["scopes"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(scopes)) {
		value, ok := first(scopes[name])
		if !ok {
			continue
		}
		within[name], parameters[name] = value, value
	}
	q := policy.Request{Subject: person, Action: a, Parameters: parameters, At: r.Now(), RequestID: "rehearsal",
		Resource: policy.Entity{Type: noun, ID: "rehearsal", Properties: within},
		Context:  policy.Properties{"change": map[string]any{"author": "somebody else", "approvals": []any{}}}}
	return q.Document()
}

// first is one value that a scope allows.
func first(scope any) (any, bool) {
	switch s := scope.(type) {
	case string:
		return s, true
	case []string:
		if len(s) > 0 {
			return s[0], true
		}
	case []any:
		if len(s) > 0 {
			return s[0], true
		}
	case map[string]any: // labels
		labels := map[string]any{}
		for name, values := range s {
			if v, ok := first(values); ok {
				labels[name] = v
			}
		}
		return labels, len(labels) > 0
	}
	return nil, false
}

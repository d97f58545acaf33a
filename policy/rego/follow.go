package rego

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/hallmark-pki/hallmark/policy"
)

// followed is a tracer that notes how far each rule came.
type followed struct {
	queries   map[uint64]*ast.Rule // whose body a query evaluates
	furthest  map[*ast.Rule]*ast.Expr
	succeeded map[*ast.Rule]bool
}

func newFollowed() *followed {
	return &followed{map[uint64]*ast.Rule{}, map[*ast.Rule]*ast.Expr{}, map[*ast.Rule]bool{}}
}

// Enabled implements topdown.QueryTracer.
func (*followed) Enabled() bool { return true }

// Config implements topdown.QueryTracer.
func (*followed) Config() topdown.TraceConfig { return topdown.TraceConfig{} }

// TraceEvent implements topdown.QueryTracer.
func (f *followed) TraceEvent(event topdown.Event) {
	switch node := event.Node.(type) {
	case *ast.Rule:
		switch event.Op {
		case topdown.EnterOp:
			f.queries[event.QueryID] = node
		case topdown.ExitOp:
			f.succeeded[node] = true
		}
	case *ast.Expr:
		rule := f.queries[event.QueryID]
		if event.Op != topdown.EvalOp || rule == nil {
			return
		}
		if before := f.furthest[rule]; before == nil || node.Index > before.Index {
			f.furthest[rule] = node
		}
	}
}

// fired lists the rules that succeeded, with the reasons that they gave.
func (r *rules) fired(f *followed, reasons []policy.Reason) []Fired {
	var all []Fired
	for rule := range f.succeeded {
		one := Fired{Place: r.place(rule)}
		if one.Rule != Entrypoint { // it passes on what others gave
			words := wordsOf(rule)
			for _, reason := range reasons {
				if slices.Contains(words, reason.Code) {
					one.Gave = append(one.Gave, reason)
				}
			}
		}
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b Fired) int { return a.compare(&b.Place) })
	return slices.CompactFunc(all, func(a, b Fired) bool { return a.compare(&b.Place) == 0 })
}

func (p *Place) compare(other *Place) int {
	return cmp.Or(strings.Compare(p.File, other.File), cmp.Compare(p.Line, other.Line), strings.Compare(p.Rule, other.Rule))
}

// place is where a rule stands.
func (r *rules) place(rule *ast.Rule) Place {
	p := Place{Rule: nameOf(rule), File: rule.Location.File, Line: rule.Location.Row}
	set := r.compiler.GetAnnotationSet()
	if labels, _ := set.MergedLabels(rule); len(labels) > 0 {
		p.Labels = maps.Clone(labels)
	}
	for _, ref := range set.Chain(rule) {
		if a := ref.Annotations; a != nil && (a.Scope == "rule" || a.Scope == "document") && p.Title == "" {
			p.Title = a.Title
		}
	}
	return p
}

func nameOf(rule *ast.Rule) string {
	return rule.Module.Package.Path.String() + "." + rule.Head.Ref().String()
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

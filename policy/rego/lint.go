package rego

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/hallmark-pki/hallmark/policy"
)

// lint says what in the rules compiles and is all the same a mistake.
func (s *suite) lint(ctx context.Context) Problems {
	wrong := s.lintEntrypoint(ctx)
	for _, f := range s.rules {
		module := s.modules[f.name]
		if name := module.Package.Path.String(); strings.HasSuffix(name, "_test") {
			wrong = append(wrong, at(module.Package.Location, "package %s is of tests; its file has to be named …_test.rego", name))
		}
		for _, rule := range module.Rules {
			if name := rule.Head.Ref().String(); strings.HasPrefix(name, "test_") || strings.HasPrefix(name, "todo_test_") {
				wrong = append(wrong, at(rule.Location, "%s is a test; it belongs into a file named …_test.rego", name))
			}
			ast.WalkExprs(rule, func(e *ast.Expr) bool {
				if neverTrue(e) {
					wrong = append(wrong, at(e.Location, "this is never true"))
				}
				return false
			})
		}
	}
	return append(append(wrong, s.lintReach()...), s.lintActions()...)
}

func at(l *ast.Location, says string, args ...any) Problem {
	return Problem{l.File, l.Row, l.Col, fmt.Sprintf(says, args...)}
}

// lintEntrypoint demands that the entrypoint is declared, described, and has a
// value whatever is asked: a question that nobody foresaw must be denied by a rule and not by an error.
func (s *suite) lintEntrypoint(ctx context.Context) Problems {
	rule := s.compiled.compiler.GetRulesExact(ast.MustParseRef(Entrypoint))[0]
	var wrong Problems
	declared, titled := false, false
	for _, ref := range s.compiled.compiler.GetAnnotationSet().Chain(rule) {
		if a := ref.Annotations; a != nil && (a.Scope == "rule" || a.Scope == "document") {
			declared, titled = declared || a.Entrypoint, titled || a.Title != ""
		}
	}
	if !declared || !titled {
		wrong = append(wrong, at(rule.Location, "a public rule needs METADATA above it, with a title and entrypoint: true"))
	}
	if _, err := s.compiled.ask(&budget{ctx: ctx}, ast.NewObject()); errors.Is(err, errUndefined) {
		wrong = append(wrong, at(rule.Location, "%s is undefined for some input; add a default, or an else that denies", Entrypoint))
	}
	return wrong
}

// neverTrue reports whether an expression of constants alone is false.
func neverTrue(e *ast.Expr) bool {
	if len(e.With) > 0 {
		return false
	}
	if term, ok := e.Terms.(*ast.Term); ok {
		truth, constant := term.Value.(ast.Boolean)
		return constant && bool(truth) == e.Negated
	}
	if !e.IsEquality() && !e.IsCall() || len(e.Operands()) != 2 {
		return false
	}
	a, b := e.Operand(0), e.Operand(1)
	if !ast.IsConstant(a.Value) || !ast.IsConstant(b.Value) {
		return false
	}
	order := a.Value.Compare(b.Value)
	truth, known := map[string]bool{"eq": order == 0, "equal": order == 0, "neq": order != 0,
		"lt": order < 0, "lte": order <= 0, "gt": order > 0, "gte": order >= 0}[e.Operator().String()]
	return known && truth == e.Negated
}

// lintReach finds rules that no entrypoint leads to: a deny in the wrong
// package, or of a misspelt name, would never deny.
func (s *suite) lintReach() Problems {
	c := s.compiled.compiler
	seen := map[*ast.Rule]bool{}
	var follow func(*ast.Rule)
	follow = func(rule *ast.Rule) {
		if seen[rule] {
			return
		}
		seen[rule] = true
		for next := range c.Graph.Dependencies(rule) {
			if rule, ok := next.(*ast.Rule); ok {
				follow(rule)
			}
		}
		if rule.Else != nil {
			follow(rule.Else)
		}
	}
	for _, rule := range c.GetRulesExact(ast.MustParseRef(Entrypoint)) {
		follow(rule)
	}
	var all []*ast.Rule
	for _, f := range s.rules {
		for _, rule := range c.Modules[f.name].Rules {
			if isEntrypoint(c, rule) {
				follow(rule)
			}
			all = append(all, rule)
		}
	}
	var wrong Problems
	for _, rule := range all {
		if !seen[rule] {
			wrong = append(wrong, at(rule.Location, "no entrypoint leads to the rule %s", rule.Head.Ref()))
		}
	}
	return wrong
}

// isEntrypoint reports whether somebody else asks for the rule: OPA itself, for
// those of package system, or whoever its METADATA is for.
func isEntrypoint(c *ast.Compiler, rule *ast.Rule) bool {
	if strings.HasPrefix(rule.Module.Package.Path.String(), "data.system") {
		return true
	}
	for _, ref := range c.GetAnnotationSet().Chain(rule) {
		if ref.Annotations != nil && ref.Annotations.Entrypoint {
			return true
		}
	}
	return false
}

// lintActions demands that each action is spoken of in rules or in data, by
// its name or by a pattern: one that nobody thought of would be denied without a reason that says so.
func (s *suite) lintActions() Problems {
	var words []string
	collect := func(x any) {
		ast.WalkTerms(x, func(t *ast.Term) bool {
			if word, ok := t.Value.(ast.String); ok && (strings.Contains(string(word), ".") || strings.Contains(string(word), "*")) {
				words = append(words, string(word))
			}
			return false
		})
	}
	for _, f := range s.rules {
		collect(s.modules[f.name])
	}
	collect(s.data)
	var wrong Problems
	for _, action := range policy.Actions() {
		spoken := func() bool {
			for _, word := range words {
				if ok, err := path.Match(word, string(action)); ok && err == nil {
					return true
				}
			}
			return false
		}
		if !spoken() {
			wrong = append(wrong, Problem{File: ".", Says: fmt.Sprintf("the action %s is neither allowed nor denied by any rule", action)})
		}
	}
	return wrong
}

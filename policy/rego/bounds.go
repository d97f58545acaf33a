package rego

import (
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Bounds of what is compiled: OPA's compiler cannot be stopped half-way.
const (
	maxRules   = 4096 // compiling a chain of n rules takes n² time, and evaluating it n deep a stack
	maxClosure = 8    // compiling n comprehensions inside each other takes 2.7ⁿ time: 16 of them eleven seconds
)

// checkBounds refuses modules whose compilation would take for ever.
func checkBounds(modules map[string]*ast.Module) Problems {
	var wrong Problems
	count := 0
	for _, module := range modules {
		count += len(module.Rules)
		for _, rule := range module.Rules {
			if tooDeep(rule, maxClosure) {
				at := rule.Loc()
				wrong = append(wrong, Problem{at.File, at.Row, at.Col,
					fmt.Sprintf("comprehensions or every inside each other more than %d deep; give the inner ones names", maxClosure)})
			}
		}
	}
	if count > maxRules {
		wrong = append(wrong, Problem{File: ".", Says: fmt.Sprintf("%d rules are more than %d; long lists belong into the data", count, maxRules)})
	}
	return wrong
}

// tooDeep reports whether there are more than depth closures inside each other below x.
func tooDeep(x any, depth int) bool {
	deep := false
	ast.WalkClosures(x, func(closure any) bool {
		deep = deep || depth == 0
		for _, part := range inside(closure) {
			deep = deep || tooDeep(part, depth-1)
		}
		return true // what is inside has been looked at
	})
	return deep
}

// inside returns the parts of a closure that may hold others.
func inside(closure any) []any {
	switch c := closure.(type) {
	case *ast.ArrayComprehension:
		return []any{c.Term, c.Body}
	case *ast.SetComprehension:
		return []any{c.Term, c.Body}
	case *ast.ObjectComprehension:
		return []any{c.Key, c.Value, c.Body}
	case *ast.Every:
		return []any{c.Domain, c.Body}
	}
	return nil
}

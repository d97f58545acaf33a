package rego

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// The rules that OPA asks about each event of its decision log. Their input is the event.
const (
	maskRule = "data.system.log.mask"
	dropRule = "data.system.log.drop"
)

// loggingPackage begins the names of packages whose rules are about the log.
const loggingPackage = "data.system"

// aboutLog reports whether a module's rules see events instead of questions.
func aboutLog(m *ast.Module) bool {
	name := m.Package.Path.String()
	return name == loggingPackage || strings.HasPrefix(name, loggingPackage+".")
}

// withoutLogging returns the modules whose rules see questions, and whether there are others.
func withoutLogging(modules map[string]*ast.Module) (asked map[string]*ast.Module, others bool) {
	asked = maps.Clone(modules)
	maps.DeleteFunc(asked, func(_ string, m *ast.Module) bool { return aboutLog(m) })
	return asked, len(asked) < len(modules)
}

// prepareLogging compiles the questions about events, where there are rules for them.
func (r *rules) prepareLogging() error {
	for name, question := range map[string]*ast.Body{maskRule: &r.mask, dropRule: &r.drop} {
		ref := ast.MustParseRef(name)
		if len(r.compiler.GetRules(ref)) == 0 {
			continue
		}
		compiled, err := r.compiler.QueryCompiler().Compile(ast.NewBody(ast.Equality.Expr(ast.NewTerm(ref), ast.NewTerm(answerVar))))
		if err != nil {
			return problemsOf(err)
		}
		*question = compiled
	}
	return nil
}

// Treat asks data.system.log of the active rules what becomes of an event of the
// decision log: whether it is dropped, and else what of it is masked, in the
// words of the rules: JSON pointers and objects {op, path, value}, as
// encoding/json decodes them. The event is plain JSON. An error says that the rules gave no clear answer.
func (e *Engine) Treat(ctx context.Context, event map[string]any) (drop bool, masks []any, err error) {
	r := e.active.Load()
	if r == nil {
		return false, nil, errors.New("no rules are loaded")
	}
	if r.mask == nil && r.drop == nil {
		return false, nil, nil
	}
	defer func() {
		if p := recover(); p != nil {
			drop, masks, err = false, nil, errors.New("the evaluator broke")
		}
	}()
	input, err := ast.InterfaceToValue(event)
	if err != nil {
		return false, nil, err
	}
	answer, err := r.aboutEvent(ctx, r.drop, input)
	if err != nil {
		return false, nil, fmt.Errorf("%s: %w", dropRule, err)
	}
	if answer == true {
		return true, nil, nil
	}
	if answer != nil && answer != false {
		return false, nil, fmt.Errorf("%s is neither true nor false", dropRule)
	}
	answer, err = r.aboutEvent(ctx, r.mask, input)
	if err != nil {
		return false, nil, fmt.Errorf("%s: %w", maskRule, err)
	}
	masks, ok := answer.([]any)
	if answer != nil && !ok {
		return false, nil, fmt.Errorf("%s is neither a set nor a list", maskRule)
	}
	return false, masks, nil
}

// aboutEvent returns what the rules say, as JSON; nil where they say nothing.
func (r *rules) aboutEvent(ctx context.Context, question ast.Body, event ast.Value) (any, error) {
	if question == nil {
		return nil, nil
	}
	answer, err := r.askWith(&budget{ctx: ctx}, question, event, nil)
	if errors.Is(err, errUndefined) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return ast.JSON(answer)
}

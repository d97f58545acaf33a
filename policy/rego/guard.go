package rego

import (
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// maxProduce is what the guarded functions may produce in one evaluation, in
// bytes as guessed beforehand. Doubling a text forty times takes forty steps
// and a terabyte, so counting steps alone would not bound memory.
const maxProduce = 4 << 20

// guarded are the functions whose result can be much larger than what goes in,
// or that write out what was shared, each with an upper bound of its result in
// bytes. They run under the name guardPrefix + their own.
var guarded = map[string]func([]*ast.Term) int{
	"concat":                           product, // the separator goes between all elements
	"replace":                          product,
	"strings.replace_n":                product,
	"regex.replace":                    product,
	"sprintf":                          product, // a verb may name the same argument again
	"internal.template_string":         sum,
	"json.marshal":                     escaped,
	"urlquery.encode":                  escaped,
	"hex.encode":                       escaped,
	"base64.encode":                    escaped,
	"base64url.encode":                 escaped,
	"base64url.encode_no_pad":          escaped,
	"upper":                            escaped,
	"lower":                            escaped,
	"strings.reverse":                  sum,
	"array.concat":                     members,
	"object.union":                     sum,
	"object.union_n":                   sum,
	"union":                            sum,
	"split":                            elements,
	"regex.split":                      elements,
	"regex.find_n":                     elements,
	"indexof_n":                        elements,
	"json.unmarshal":                   elements,
	"regex.find_all_string_submatch_n": elements,
}

const guardPrefix = "guarded."

// guard sends the calls of guarded functions in c's rules through the meter.
// It comes after compilation, which knows them by their own names.
func guard(c *ast.Compiler) (map[string]*topdown.Builtin, error) {
	functions := make(map[string]*topdown.Builtin, len(guarded))
	var wrong Problems
	for _, module := range c.Modules {
		ast.WalkWiths(module, func(w *ast.With) bool {
			if isGuarded(w.Target) || isGuarded(w.Value) {
				at := w.Location
				wrong = append(wrong, Problem{at.File, at.Row, at.Col, "with may replace this built-in function in tests only"})
			}
			return false
		})
		ast.WalkExprs(module, func(e *ast.Expr) bool {
			if terms, ok := e.Terms.([]*ast.Term); ok && isGuarded(terms[0]) {
				name := terms[0].Value.(ast.Ref).String()
				functions[guardPrefix+name] = metered(name)
				terms[0] = ast.NewTerm(ast.Ref{ast.VarTerm(guardPrefix + name)})
			}
			return false
		})
	}
	if len(wrong) > 0 {
		return nil, wrong
	}
	return functions, nil
}

func isGuarded(t *ast.Term) bool {
	ref, ok := t.Value.(ast.Ref)
	return ok && guarded[ref.String()] != nil
}

// metered is the built-in function of that name, asked only while the
// evaluation's budget lasts.
func metered(name string) *topdown.Builtin {
	bound, function := guarded[name], topdown.GetBuiltin(name)
	return &topdown.Builtin{
		Decl: &ast.Builtin{Name: guardPrefix + name, Decl: ast.BuiltinMap[name].Decl},
		Func: func(c topdown.BuiltinContext, operands []*ast.Term, iter func(*ast.Term) error) error {
			b, ok := c.Cancel.(*budget)
			if !ok || !b.produce(bound(operands)) || name == "sprintf" && pads(operands[0]) {
				return topdown.Halt{Err: fmt.Errorf("%s: %s would make too large a value", c.Location, name)}
			}
			return function(c, operands, iter)
		},
	}
}

// produce takes n bytes from the budget and reports whether they were there.
func (b *budget) produce(n int) bool {
	b.produced += n
	return b.produced <= maxProduce
}

// pads reports whether a format asks for a width of four digits or one given
// by an argument, which fills any amount of memory from nothing.
func pads(format *ast.Term) bool {
	text, _ := format.Value.(ast.String)
	digits := 0
	for _, r := range string(text) {
		if r < '0' || r > '9' {
			digits = 0
		} else if digits++; digits > 3 {
			return true
		}
	}
	return strings.Contains(string(text), "%*") || strings.Contains(string(text), ".*")
}

func product(operands []*ast.Term) int {
	n := 1
	for _, t := range operands {
		if n *= 1 + weigh(t.Value, maxProduce); n > maxProduce {
			break
		}
	}
	return n
}

func sum(operands []*ast.Term) int {
	n := 0
	for _, t := range operands {
		n += weigh(t.Value, maxProduce-n)
	}
	return n
}

func escaped(operands []*ast.Term) int { return 6 * sum(operands) } // \u0000

func elements(operands []*ast.Term) int { return 64 * sum(operands) } // a term per byte

// members counts those of lists alone: a new list shares them with the old.
func members(operands []*ast.Term) int {
	n := 0
	for _, t := range operands {
		if list, ok := t.Value.(*ast.Array); ok {
			n += list.Len()
		}
	}
	return 64 * n
}

// weigh returns about how many bytes v takes when it is written out, or
// something above limit as soon as that is clear.
func weigh(v ast.Value, limit int) int {
	n := 0
	add := func(t *ast.Term) bool {
		n += 1 + weigh(t.Value, limit-n)
		return n > limit
	}
	switch v := v.(type) {
	case ast.String:
		return len(v)
	case ast.Number:
		return len(v)
	case ast.Boolean, ast.Null:
		return 5
	case *ast.Array:
		v.Until(add)
	case ast.Set:
		v.Until(add)
	case ast.Object:
		v.Until(func(k, v *ast.Term) bool { return add(k) || add(v) })
	}
	return n
}

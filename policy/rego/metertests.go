package rego

import (
	"fmt"
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/tester"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// maxTestProduce is what the guarded functions may produce in all tests of a
// suite together, in bytes as guessed beforehand.
const maxTestProduce = 64 << 20

// meterTests has the compiler send the calls of guarded functions through a
// meter, as guard does, and returns them for the test runner, which compiles and evaluates by itself.
func meterTests(c *ast.Compiler) []*tester.Builtin {
	var produced atomic.Int64
	var all []*tester.Builtin
	for name := range guarded {
		declared := &rego.Function{Name: guardPrefix + name, Decl: ast.BuiltinMap[name].Decl}
		function := topdown.GetBuiltin(name)
		all = append(all, &tester.Builtin{
			Decl: &ast.Builtin{Name: declared.Name, Decl: declared.Decl},
			Func: rego.FunctionDyn(declared, func(b rego.BuiltinContext, operands []*ast.Term) (result *ast.Term, err error) {
				if produced.Add(int64(guarded[name](operands))) > maxTestProduce || name == "sprintf" && pads(operands[0]) {
					return nil, rego.NewHaltError(fmt.Errorf("%s: %s would make too large a value", b.Location, name))
				}
				err = function(b, operands, func(t *ast.Term) error {
					result = t
					return nil
				})
				return result, err
			}),
		})
	}
	c.WithStageAfterID(ast.StageBuildComprehensionIndices, ast.CompilerStageDefinition{
		Name: "MeterTests", MetricName: "compile_stage_meter_tests",
		Stage: func(c *ast.Compiler) *ast.Error {
			_, err := guard(c)
			if found, ok := err.(Problems); ok {
				return &ast.Error{Code: ast.CompileErr, Location: &ast.Location{File: found[0].File, Row: found[0].Line, Col: found[0].Column}, Message: found[0].Says}
			}
			return nil
		},
	})
	return all
}

package rego

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/tester"
)

// maxTestTime bounds one test rule.
const maxTestTime = 5 * time.Second

// Case is one test rule that was run.
type Case struct {
	Name    string        `json:"name"` // such as data.hallmark_test.test_stranger_is_denied
	File    string        `json:"file"`
	Line    int           `json:"line"`
	Passed  bool          `json:"passed"`
	Skipped bool          `json:"skipped,omitempty"` // named todo_test_…
	Error   string        `json:"error,omitempty"`   // why it broke off; empty if it was merely false
	Output  string        `json:"output,omitempty"`  // what print() said
	Took    time.Duration `json:"took_ns"`
}

// Results are those of all tests of a policy directory.
type Results struct {
	Cases    []Case   `json:"cases"`                 // by file and line
	Coverage float64  `json:"coverage"`              // per cent of the lines of rules that the tests ran
	Missed   Problems `json:"not_covered,omitempty"` // where the other lines are
}

// Passed reports whether there were tests and none of them failed.
func (r *Results) Passed() bool {
	failed := func(c Case) bool { return !c.Passed && !c.Skipped }
	return len(r.Cases) > 0 && !slices.ContainsFunc(r.Cases, failed)
}

// Check says what is wrong with the policy in dir, its tests included, as
// Problems. A policy that passes will be taken by Load and Reload.
func Check(ctx context.Context, dir string) error {
	_, err := prepare(ctx, dir)
	return err
}

// Test runs the rules named test_… in the *_test.rego files of dir. The error
// is about a policy that Check refuses; failed tests are in the Results.
func Test(ctx context.Context, dir string) (Results, error) {
	s, err := prepare(ctx, dir)
	if err != nil {
		return Results{}, err
	}
	coverage := cover.New()
	cases, err := s.run(ctx, coverage)
	if err != nil {
		return Results{}, err
	}
	r := Results{Cases: cases}
	r.Coverage, r.Missed = measure(coverage.Report(s.modules), s.rules)
	return r, nil
}

// suite is a policy with its tests, checked and ready to run.
type suite struct {
	compiled *rules // without tests
	rules    []file
	modules  map[string]*ast.Module // rules and tests
	data     ast.Value
	store    storage.Store
	allowed  *ast.Capabilities
}

// prepare checks the policy in dir as the server would take it, and then along with its tests.
func prepare(ctx context.Context, dir string) (*suite, error) {
	files, err := readDir(dir)
	if err != nil {
		return nil, err
	}
	return files.prepare(ctx)
}

func (files *sources) prepare(ctx context.Context) (*suite, error) {
	compiled, err := compile(ctx, files)
	if err != nil {
		return nil, err
	}
	s := &suite{compiled: compiled, rules: files.rules, allowed: capabilities()}
	document, err := files.document()
	if err != nil {
		return nil, err
	}
	if s.data, err = ast.InterfaceToValue(document); err != nil {
		return nil, err
	}
	if s.store, err = newStore(files); err != nil {
		return nil, err
	}
	if s.modules, err = parse(slices.Concat(files.rules, files.tests), s.allowed); err != nil {
		return nil, err
	}
	_, err = compileModules(ctx, s.modules, s.allowed, s.store)
	return s, err
}

// run compiles the modules once more, as the test runner wants them, and
// runs what it finds.
func (s *suite) run(ctx context.Context, coverage *cover.Cover) ([]Case, error) {
	txn, err := s.store.NewTransaction(ctx)
	if err != nil {
		return nil, err
	}
	defer s.store.Abort(ctx, txn)
	compiler := ast.NewCompiler().
		WithDefaultRegoVersion(ast.RegoV1).
		WithCapabilities(s.allowed).
		WithEnablePrintStatements(true)
	runner := tester.NewRunner().
		AddCustomBuiltins(meterTests(compiler)).
		SetCompiler(compiler).
		SetModules(s.modules).
		SetStore(s.store).
		SetTimeout(maxTestTime).
		RaiseBuiltinErrors(true).
		SetCoverageRuns(nil).
		SetCoverageQueryTracer(coverage)
	results, err := runner.RunTests(ctx, txn)
	if err != nil {
		return nil, problemsOf(err)
	}
	var cases []Case
	for result := range results {
		cases = append(cases, readResult(result))
	}
	slices.SortFunc(cases, func(a, b Case) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Name, b.Name))
	})
	return cases, ctx.Err()
}

func readResult(r *tester.Result) Case {
	c := Case{
		Name: r.Package + "." + r.Name, File: r.Location.File, Line: r.Location.Row,
		Passed: r.Pass(), Skipped: r.Skip, Output: string(r.Output), Took: r.Duration,
	}
	if r.Error != nil {
		c.Error = r.Error.Error()
	}
	return c
}

// measure counts the lines of the rules alone: tests cover themselves.
func measure(report cover.Report, files []file) (percent float64, missed Problems) {
	covered, total := 0, 0
	for _, f := range files {
		found := report.Files[f.name]
		if found == nil {
			continue
		}
		covered += found.CoveredLines
		total += found.CoveredLines + found.NotCoveredLines
		for _, gap := range found.NotCovered {
			missed = append(missed, Problem{File: f.name, Line: gap.Start.Row, Column: max(1, gap.Start.Col),
				Says: fmt.Sprintf("not covered up to line %d", gap.End.Row)})
		}
	}
	if total == 0 {
		return 0, missed
	}
	return 100 * float64(covered) / float64(total), missed
}

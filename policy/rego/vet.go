package rego

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/format"
)

// Gate is what a bundle has to reach beyond compiling. The zero Gate is the usual one.
type Gate struct {
	Coverage float64 // least per cent of the rules' lines that tests run; 0 means DefaultCoverage, below 0 none
}

// DefaultCoverage is the least coverage of a Gate, in per cent of the rules' lines.
const DefaultCoverage = 90

// maxVetTime bounds all that Vet does with one bundle.
const maxVetTime = 60 * time.Second

// Report is everything that Vet found.
type Report struct {
	Digest   string   `json:"digest"`
	Revision string   `json:"revision"`
	Problems Problems `json:"problems,omitempty"` // by file and line; none: the bundle may be proposed
	Tests    Results  `json:"tests"`              // of none, where the rules do not compile
}

// Passed reports whether nothing was found.
func (r *Report) Passed() bool { return len(r.Problems) == 0 }

// Vet looks at a bundle as strictly as a proposal has to pass: compiled with our
// capabilities, formatted as opa fmt does, linted, its tests run and covering the rules. The error says
// that it could not be looked at, as ctx has ended; what is wrong with the bundle is in the Report.
func Vet(ctx context.Context, b *Bundle, g Gate) (Report, error) {
	report := Report{Digest: b.Digest(), Revision: b.Revision()}
	limit, cancel := context.WithTimeout(ctx, maxVetTime)
	defer cancel()
	suite, err := b.sources.prepare(limit)
	if err != nil {
		report.Problems = asProblems(err)
		return report, ctx.Err()
	}
	report.Problems = append(formatting(b.sources), suite.lint(limit)...)
	coverage := cover.New()
	if report.Tests.Cases, err = suite.run(limit, coverage); err != nil {
		report.Problems = append(report.Problems, asProblems(err)...)
		return report, ctx.Err()
	}
	report.Tests.Coverage, report.Tests.Missed = measure(coverage.Report(suite.modules), suite.rules)
	report.Problems = append(report.Problems, report.Tests.shortOf(g)...)
	slices.SortStableFunc(report.Problems, func(a, b Problem) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return report, ctx.Err()
}

// asProblems is err as Problems.
func asProblems(err error) Problems {
	if found, ok := err.(Problems); ok {
		return found
	}
	return problemsOf(err)
}

// shortOf is what the tests lack.
func (r *Results) shortOf(g Gate) Problems {
	var wrong Problems
	for _, c := range r.Cases {
		if c.Passed || c.Skipped {
			continue
		}
		says := "the test " + c.Name + " fails"
		if c.Error != "" {
			says += ": " + c.Error
		}
		wrong = append(wrong, Problem{c.File, c.Line, 1, says})
	}
	if len(r.Cases) == 0 {
		wrong = append(wrong, Problem{File: ".", Says: "there are no tests; rules named test_… in *_test.rego files are run"})
	}
	least := g.Coverage
	if least == 0 {
		least = DefaultCoverage
	}
	if r.Coverage >= least {
		return wrong
	}
	wrong = append(wrong, Problem{File: ".", Says: fmt.Sprintf("tests run %.1f %% of the rules' lines; at least %.0f %% are needed", r.Coverage, least)})
	return append(wrong, r.Missed...)
}

// formatting says which files opa fmt would change, and from which line on.
func formatting(s *sources) Problems {
	var wrong Problems
	for _, f := range slices.Concat(s.rules, s.tests) {
		tidy, err := format.SourceWithOpts(f.name, f.text, format.Opts{RegoVersion: ast.RegoV1})
		if err != nil {
			wrong = append(wrong, problemsOf(err)...)
			continue
		}
		if string(tidy) == string(f.text) {
			continue
		}
		is, want := strings.Split(string(f.text), "\n"), strings.Split(string(tidy), "\n")
		line := 0
		for line < len(is) && line < len(want) && is[line] == want[line] {
			line++
		}
		wrong = append(wrong, Problem{f.name, min(line+1, len(is)), 1, "not formatted; run: opa fmt --write " + f.name})
	}
	return wrong
}

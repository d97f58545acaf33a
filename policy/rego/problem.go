package rego

import (
	"errors"
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Problem is one thing that is wrong with a policy directory.
type Problem struct {
	File   string `json:"file"`             // below the directory, with slashes
	Line   int    `json:"line,omitempty"`   // from 1; 0 if the problem is not at one place
	Column int    `json:"column,omitempty"` // in bytes from 1
	Says   string `json:"error"`
}

// String returns "file:line:column: what is wrong", as editors understand it.
func (p Problem) String() string {
	if p.Line == 0 {
		return fmt.Sprintf("%s: %s", p.File, p.Says)
	}
	return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Says)
}

// Problems is why a policy is refused: everything that was found, never empty.
type Problems []Problem

// Error returns all problems, one a line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// problemsOf translates errors of the parser and the compiler.
func problemsOf(err error) Problems {
	var list ast.Errors
	var single *ast.Error
	switch {
	case errors.As(err, &list):
	case errors.As(err, &single):
		list = ast.Errors{single}
	default:
		return Problems{{File: ".", Says: err.Error()}}
	}
	found := make(Problems, 0, len(list))
	for _, e := range list {
		p := Problem{File: ".", Says: e.Message}
		if e.Location != nil {
			p.File, p.Line, p.Column = e.Location.File, e.Location.Row, e.Location.Col
		}
		if e.Details != nil {
			for _, line := range e.Details.Lines() {
				p.Says += "\n\t" + line
			}
		}
		found = append(found, p)
	}
	return found
}

package rego

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"
)

// maxNesting bounds the input; ours is six deep.
const maxNesting = 32

// inputValue lays input out for the evaluator. Members are converted when a
// rule first reads them, which is why everything is checked beforehand.
func inputValue(input map[string]any) (ast.Value, error) {
	clean, err := checkObject(input, maxNesting)
	if err != nil {
		return nil, fmt.Errorf("the input cannot be judged: %w", err)
	}
	return ast.LazyObject(clean), nil
}

// checkObject returns m, or a copy with U+FFFD in place of invalid UTF-8: the
// rules have to see what the record will show.
func checkObject(m map[string]any, depth int) (map[string]any, error) {
	if depth == 0 {
		return nil, fmt.Errorf("nested more than %d deep", maxNesting)
	}
	var clean map[string]any // nil while nothing had to be changed
	for name, value := range m {
		checked, changed, err := check(value, depth-1)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if !changed && utf8.ValidString(name) {
			continue
		}
		if clean == nil {
			clean = make(map[string]any, len(m))
			for n, v := range m {
				clean[n] = v
			}
		}
		delete(clean, name)
		clean[validText(name)] = checked
	}
	if clean == nil {
		return m, nil
	}
	return clean, nil
}

package rego

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"
)

// maxNesting bounds the input; ours is five deep.
const maxNesting = 32

// inputValue lays input out for the evaluator. Members are converted when a
// rule first reads them, so everything is checked beforehand. The rules have to
// see what the record will show: invalid UTF-8 becomes U+FFFD in both.
func inputValue(input map[string]any) (ast.Value, error) {
	clean, err := checkObject(input, maxNesting)
	if err != nil {
		return nil, fmt.Errorf("the input cannot be judged: %w", err)
	}
	if !clean {
		input = repairObject(input)
	}
	return ast.LazyObject(input), nil
}

// check refuses what no rule could read or no record could show, and reports
// whether all text in v is valid.
func check(v any, depth int) (bool, error) {
	switch v := v.(type) {
	case nil, bool:
		return true, nil
	case int:
		return true, checkNumber(int64(v))
	case int64:
		return true, checkNumber(v)
	case string:
		return utf8.ValidString(v), nil
	case []string:
		clean := true
		for _, s := range v {
			clean = clean && utf8.ValidString(s)
		}
		return clean, nil
	case map[string]any:
		return checkObject(v, depth)
	case []any:
		if depth == 0 {
			return false, fmt.Errorf("nested more than %d deep", maxNesting)
		}
		clean := true
		for _, e := range v {
			sound, err := check(e, depth-1)
			if err != nil {
				return false, err
			}
			clean = clean && sound
		}
		return clean, nil
	}
	return false, fmt.Errorf("a %T has no place in it", v)
}

func checkObject(m map[string]any, depth int) (bool, error) {
	if depth == 0 {
		return false, fmt.Errorf("nested more than %d deep", maxNesting)
	}
	clean := true
	for name, v := range m {
		if !utf8.ValidString(name) {
			return false, fmt.Errorf("the name %q is no UTF-8", name)
		}
		sound, err := check(v, depth-1)
		if err != nil {
			return false, fmt.Errorf("%s: %w", name, err)
		}
		clean = clean && sound
	}
	return clean, nil
}

// checkNumber refuses what JSON readers round (RFC 8785, Section 3.2.2.3).
func checkNumber(n int64) error {
	const largest = 1 << 53
	if n > largest || n < -largest {
		return fmt.Errorf("%d is too large a number", n)
	}
	return nil
}

// repair copies v, which check has passed, with U+FFFD for every invalid byte,
// exactly as audit.AppendCanonical writes it.
func repair(v any) any {
	switch v := v.(type) {
	case string:
		return repairText(v)
	case []string:
		repaired := make([]string, len(v))
		for i, s := range v {
			repaired[i] = repairText(s)
		}
		return repaired
	case []any:
		repaired := make([]any, len(v))
		for i, e := range v {
			repaired[i] = repair(e)
		}
		return repaired
	case map[string]any:
		return repairObject(v)
	}
	return v
}

func repairObject(m map[string]any) map[string]any {
	repaired := make(map[string]any, len(m))
	for name, v := range m {
		repaired[name] = repair(v)
	}
	return repaired
}

func repairText(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for _, r := range s { // an invalid byte ranges as U+FFFD
		b.WriteRune(r)
	}
	return b.String()
}

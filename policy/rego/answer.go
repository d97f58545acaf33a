package rego

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/hallmark-pki/hallmark/policy"
)

// Bounds of an answer.
const (
	maxReasons  = 32
	maxDuties   = 16
	maxText     = 2048                      // bytes of a reason's detail
	maxName     = 64                        // bytes of a code, a profile or an obligation's type
	maxLifetime = 10 * 365 * 24 * time.Hour // what a profile allows is usually far less
)

// readAnswer reads the decision as rules give it:
//
//	{"verdict": "allow"|"hold"|"deny", "reasons": [{"code", "detail"}],
//	 "profile": …, "lifetime": "24h", "obligations": [{"type"}]}
//
// Only verdict is required. Anything else, or of another type, is an error:
// a misspelt condition must not become no condition.
func readAnswer(v ast.Value) (policy.Answer, error) {
	var a policy.Answer
	decided := false
	err := eachMember(v, "decision", func(name string, v ast.Value) (err error) {
		switch name {
		case "verdict":
			decided = true
			a.Verdict, err = readVerdict(v)
		case "reasons":
			a.Reasons, err = readReasons(v)
		case "profile":
			a.Profile, err = readName(v, name)
		case "lifetime":
			a.Lifetime, err = readLifetime(v)
		case "obligations":
			a.Obligations, err = readObligations(v)
		default:
			err = fmt.Errorf("decision has a member %q that means nothing here", shorten(name))
		}
		return err
	})
	if err == nil && !decided {
		err = errors.New("decision has no verdict")
	}
	if err != nil {
		return policy.Answer{}, err
	}
	return a, nil
}

func readVerdict(v ast.Value) (policy.Verdict, error) {
	word, _ := v.(ast.String)
	for _, known := range []policy.Verdict{policy.Allow, policy.Hold, policy.Deny} {
		if string(word) == known.String() {
			return known, nil
		}
	}
	return policy.Deny, errors.New(`verdict must be "allow", "hold" or "deny"`)
}

func readReasons(v ast.Value) ([]policy.Reason, error) {
	var reasons []policy.Reason
	err := eachElement(v, "reasons", maxReasons, func(v ast.Value) error {
		var r policy.Reason
		err := eachMember(v, "a reason", func(name string, v ast.Value) (err error) {
			switch name {
			case "code":
				r.Code, err = readName(v, "code")
			case "detail":
				r.Detail, err = readText(v)
			default:
				err = fmt.Errorf("a reason has a member %q that means nothing here", shorten(name))
			}
			return err
		})
		if err == nil && r.Code == "" {
			err = errors.New("a reason has no code")
		}
		reasons = append(reasons, r)
		return err
	})
	return reasons, err
}

func readObligations(v ast.Value) ([]policy.Obligation, error) {
	var duties []policy.Obligation
	err := eachElement(v, "obligations", maxDuties, func(v ast.Value) error {
		var o policy.Obligation
		err := eachMember(v, "an obligation", func(name string, v ast.Value) (err error) {
			if name != "type" {
				return fmt.Errorf("an obligation has a member %q that means nothing here", shorten(name))
			}
			o.Type, err = readName(v, "type")
			return err
		})
		if err == nil && o.Type == "" {
			err = errors.New("an obligation has no type")
		}
		duties = append(duties, o)
		return err
	})
	return duties, err
}

func readLifetime(v ast.Value) (time.Duration, error) {
	text, _ := v.(ast.String)
	d, err := time.ParseDuration(string(text))
	if err != nil || d < time.Second || d > maxLifetime {
		return 0, fmt.Errorf(`lifetime must be text such as "24h", between 1s and %s`, maxLifetime)
	}
	return d, nil
}

// readName reads a word for machines: letters, digits, dots, dashes and underscores.
func readName(v ast.Value, what string) (string, error) {
	s, ok := v.(ast.String)
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-' || r == '.'
	}
	if !ok || s == "" || len(s) > maxName || strings.ContainsFunc(string(s), func(r rune) bool { return !plain(r) }) {
		return "", fmt.Errorf("%s must be a word of 1 to %d letters, digits, dots, dashes and underscores", what, maxName)
	}
	return string(s), nil
}

// readText reads a sentence for people. It may quote what a device sent, and
// ends up in logs and answers: control characters become spaces.
func readText(v ast.Value) (string, error) {
	s, ok := v.(ast.String)
	if !ok || len(s) > maxText {
		return "", fmt.Errorf("detail must be text of up to %d bytes", maxText)
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, string(s)), nil
}

// eachMember calls f for the members of an object.
func eachMember(v ast.Value, what string, f func(name string, v ast.Value) error) error {
	object, ok := v.(ast.Object)
	if !ok {
		return fmt.Errorf("%s must be an object", what)
	}
	return object.Iter(func(k, v *ast.Term) error {
		name, ok := k.Value.(ast.String)
		if !ok {
			return fmt.Errorf("%s has a member whose name is no text", what)
		}
		return f(string(name), v.Value)
	})
}

// eachElement calls f for the elements of an array, or of a set in its sorted
// order: sets are what rules written with contains make.
func eachElement(v ast.Value, what string, most int, f func(ast.Value) error) error {
	var size int
	var iter func(func(*ast.Term) error) error
	switch v := v.(type) {
	case *ast.Array:
		size, iter = v.Len(), v.Iter
	case ast.Set:
		size, iter = v.Len(), v.Iter
	default:
		return fmt.Errorf("%s must be an array", what)
	}
	if size > most {
		return fmt.Errorf("%s are more than %d", what, most)
	}
	return iter(func(t *ast.Term) error { return f(t.Value) })
}

// shorten keeps a stranger's name from filling an error.
func shorten(name string) string {
	if len(name) > maxName {
		return name[:maxName] + "…"
	}
	return name
}

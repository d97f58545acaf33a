package policy

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"strconv"
	"testing"
)

// declared reads the Action constants from the source, so that the table
// cannot miss one.
func declared(t *testing.T) map[string]Action {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "actions.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]Action{}
	for _, d := range file.Decls {
		constants, ok := d.(*ast.GenDecl)
		if !ok || constants.Tok != token.CONST {
			continue
		}
		for _, s := range constants.Specs {
			spec := s.(*ast.ValueSpec)
			if kind, ok := spec.Type.(*ast.Ident); !ok || kind.Name != "Action" || len(spec.Values) != 1 {
				t.Errorf("constant %s is no Action with a value of its own", spec.Names[0])
				continue
			}
			name, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			found[spec.Names[0].Name] = Action(name)
		}
	}
	return found
}

func TestEveryActionHasItsEntry(t *testing.T) {
	constants := declared(t)
	shape := regexp.MustCompile(`^[a-z]+\.[a-z]+$`)
	seen := map[Action]string{}
	for name, a := range constants {
		if _, ok := actions[a]; !ok {
			t.Errorf("%s is missing in the table", name)
		}
		if !shape.MatchString(string(a)) {
			t.Errorf("%s = %q is not noun.verb", name, a)
		}
		if seen[a] != "" {
			t.Errorf("%s and %s have the same name", name, seen[a])
		}
		seen[a] = name
	}
	if len(actions) != len(constants) || len(constants) < 23 {
		t.Errorf("%d entries for %d constants", len(actions), len(constants))
	}
}

func TestReadsAreWhatTheirVerbsSay(t *testing.T) {
	reading := regexp.MustCompile(`\.(list|show|fetch|read|history|explain)$|^backup\.create$`) // a backup changes nothing here
	for a := range actions {
		if !a.Known() || a.Reads() != reading.MatchString(string(a)) {
			t.Errorf("%s: known %v, reads %v", a, a.Known(), a.Reads())
		}
		if a.Holds() && a.Reads() && a != CreateBackup {
			t.Errorf("%s is a read that may be held", a)
		}
	}
}

package console

import (
	"cmp"
	"go/ast"
	"go/token"
	"slices"
	"strconv"
	"strings"

	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/internal/openapi"
)

// code is one of the words by which scripts tell problems apart.
type code struct{ name, says string }

// rooms are those whose failures this door tells.
var rooms = []string{"console", "attest", "audit", "ca", "enroll", "fleet", "operators", "operators/oidc", "policy", "policy/rego", "policy/release", "store", "internal/once", "policy/source"}

// kindNames are the kinds as the source names them.
var kindNames = map[string]fault.Kind{
	"Internal": fault.Internal, "Malformed": fault.Malformed, "Unauthenticated": fault.Unauthenticated, "Denied": fault.Denied,
	"Held": fault.Held, "NotFound": fault.NotFound, "Conflict": fault.Conflict, "Busy": fault.Busy,
}

// codesOf finds every code in the source of the rooms, by the status that it is answered with.
func codesOf(source *openapi.Source) map[int][]code {
	found := map[int][]code{}
	for _, room := range rooms {
		path := "github.com/hallmark-pki/hallmark/" + room
		files := source.Files(path)
		constants := map[string]string{}
		for _, file := range files {
			for _, decl := range file.Decls {
				readStrings(decl, constants)
			}
		}
		for _, file := range files {
			ast.Inspect(file, func(n ast.Node) bool {
				kind, c, ok := failure(n, constants)
				if !ok {
					return true
				}
				status := statuses[kind]
				if exact, known := exactStatuses[c.name]; known {
					status = exact
				}
				prefix, open := strings.CutSuffix(c.name, anyState)
				if !open {
					found[status] = append(found[status], c)
					return true
				}
				for _, state := range source.Named(path, "State") {
					found[status] = append(found[status], code{prefix + state, c.says})
				}
				return true
			})
		}
	}
	for kind, name := range map[fault.Kind]string{fault.Internal: "internal", fault.Held: "held", fault.Denied: "denied"} { // of failures without a code
		found[statuses[kind]] = append(found[statuses[kind]], code{name: name})
	}
	for status, codes := range found {
		slices.SortFunc(codes, func(a, b code) int { // of the same code the one that says most first
			return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(len(b.says), len(a.says)), cmp.Compare(a.says, b.says))
		})
		found[status] = single(codes)
	}
	return found
}

// single leaves one of each code; one that is said in several ways says nothing.
func single(sorted []code) []code {
	var one []code
	for _, c := range sorted {
		last := len(one) - 1
		switch {
		case last < 0 || one[last].name != c.name:
			one = append(one, c)
		case one[last].says != c.says:
			one[last].says = ""
		}
	}
	return one
}

// anyState stands in a code for every state of the room's things.
const anyState = "*"

// failure reads fault.New(kind, code, says), fault.Wrap(…) and fault.Error{…}.
func failure(n ast.Node, constants map[string]string) (fault.Kind, code, bool) {
	switch n := n.(type) {
	case *ast.CallExpr:
		if name := selected(n.Fun, "fault"); (name == "New" || name == "Wrap") && len(n.Args) >= 3 {
			return failureOf(n.Args[0], n.Args[1], n.Args[2], constants)
		}
	case *ast.CompositeLit:
		if selected(n.Type, "fault") != "Error" {
			return 0, code{}, false
		}
		var kind, name, says ast.Expr
		for _, element := range n.Elts {
			if pair, ok := element.(*ast.KeyValueExpr); ok {
				switch pair.Key.(*ast.Ident).Name {
				case "Kind":
					kind = pair.Value
				case "Code":
					name = pair.Value
				case "Says":
					says = pair.Value
				}
			}
		}
		return failureOf(kind, name, says, constants)
	}
	return 0, code{}, false
}

func failureOf(kind, name, says ast.Expr, constants map[string]string) (fault.Kind, code, bool) {
	k, known := kindNames[selected(kind, "fault")]
	c := code{name: textOf(name, constants), says: textOf(says, constants)}
	return k, c, known && c.name != ""
}

// selected is X of from.X, else "".
func selected(e ast.Expr, from string) string {
	if s, ok := e.(*ast.SelectorExpr); ok {
		if x, ok := s.X.(*ast.Ident); ok && x.Name == from {
			return s.Sel.Name
		}
	}
	return ""
}

// textOf is the text of a literal or a constant, else "".
func textOf(e ast.Expr, constants map[string]string) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if text, err := strconv.Unquote(e.Value); err == nil && e.Kind == token.STRING {
			return text
		}
	case *ast.Ident:
		return constants[e.Name]
	case *ast.BinaryExpr: // "proposal_" + string(p.State)
		if call, ok := e.Y.(*ast.CallExpr); ok && len(call.Args) == 1 {
			if of, ok := call.Args[0].(*ast.SelectorExpr); ok && of.Sel.Name == "State" {
				return textOf(e.X, constants) + anyState
			}
		}
	}
	return ""
}

func readStrings(decl ast.Decl, constants map[string]string) {
	d, ok := decl.(*ast.GenDecl)
	if !ok || d.Tok != token.CONST {
		return
	}
	for _, spec := range d.Specs {
		v := spec.(*ast.ValueSpec)
		for i, name := range v.Names {
			if i < len(v.Values) {
				constants[name.Name] = textOf(v.Values[i], nil)
			}
		}
	}
}

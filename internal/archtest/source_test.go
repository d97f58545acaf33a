package archtest

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// source is one package's syntax.
type source struct {
	fset  *token.FileSet
	room  string
	files map[string]*ast.File
	text  map[string][]byte
}

func load(t *testing.T, l *listing) *source {
	t.Helper()
	s := &source{fset: token.NewFileSet(), room: l.room(), files: map[string]*ast.File{}, text: map[string][]byte{}}
	for _, name := range slices.Concat(l.GoFiles, l.TestGoFiles, l.XTestGoFiles, l.IgnoredGoFiles) {
		text, err := os.ReadFile(filepath.Join(l.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		s.add(t, name, text)
	}
	return s
}

func (s *source) add(t *testing.T, name string, text []byte) {
	t.Helper()
	file, err := parser.ParseFile(s.fset, name, text, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	s.files[name], s.text[name] = file, text
}

func isTest(name string) bool { return strings.HasSuffix(name, "_test.go") }

// TestSource holds every Go file against the rules of style.
func TestSource(t *testing.T) {
	for _, l := range list(t) {
		for _, says := range load(t, l).faults() {
			t.Error(says)
		}
	}
}

// faults lists what breaks a rule, as "room/file:line: what".
func (s *source) faults() []string {
	var out []string
	say := func(at token.Pos, format string, args ...any) {
		p := s.fset.Position(at)
		out = append(out, fmt.Sprintf("%s/%s:%d: %s", s.room, p.Filename, p.Line, fmt.Sprintf(format, args...)))
	}
	s.packageDoc(say)
	s.globals(say)
	for name, file := range s.files {
		if n := bytes.Count(s.text[name], []byte("\n")); n > 500 && !hasReason(file) {
			say(file.Package, "%d lines, and no `// long:` that says why", n)
		}
		if isTest(name) {
			skips(file, say)
			continue
		}
		for _, d := range file.Decls {
			documented(d, say)
			named(d, say)
		}
	}
	slices.Sort(out)
	return out
}

type sayer func(at token.Pos, format string, args ...any)

func hasReason(file *ast.File) bool {
	for _, group := range file.Comments {
		for _, c := range group.List {
			if strings.HasPrefix(c.Text, "// long: ") {
				return true
			}
		}
	}
	return false
}

// packageDoc wants one comment that says what the room is for.
func (s *source) packageDoc(say sayer) {
	docs := 0
	var at token.Pos
	for name, file := range s.files {
		if isTest(name) {
			continue
		}
		at = file.Package
		if file.Doc != nil && strings.TrimSpace(file.Doc.Text()) != "" {
			docs++
		}
	}
	if docs == 0 && at.IsValid() {
		say(at, "no file of the package says what it is for")
	}
	if last := filepath.Base(s.room); slices.Contains([]string{"utils", "util", "helpers", "common", "types", "models"}, last) {
		say(at, "%q names no room", last)
	}
}

// documented wants a comment on every exported name.
func documented(d ast.Decl, say sayer) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Name.Name == "init" && d.Recv == nil {
			say(d.Pos(), "an init function: nothing happens before main")
		}
		if d.Name.IsExported() && exportedReceiver(d) && d.Doc == nil {
			say(d.Pos(), "%s has no doc comment", d.Name.Name)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				if spec.Name.IsExported() && d.Doc == nil && spec.Doc == nil {
					say(spec.Pos(), "%s has no doc comment", spec.Name.Name)
				}
			case *ast.ValueSpec:
				for _, name := range spec.Names {
					if name.IsExported() && d.Doc == nil && spec.Doc == nil && spec.Comment == nil {
						say(name.Pos(), "%s has no doc comment", name.Name)
					}
				}
			}
		}
	}
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	t := d.Recv.List[0].Type
	for {
		switch u := t.(type) {
		case *ast.StarExpr:
			t = u.X
		case *ast.IndexExpr:
			t = u.X
		case *ast.Ident:
			return u.IsExported()
		default:
			return true
		}
	}
}

// named wants names that read aloud, and interfaces of at most four methods.
func named(d ast.Decl, say sayer) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if rest, ok := strings.CutPrefix(d.Name.Name, "Get"); ok && rest != "" && rest == strings.ToUpper(rest[:1])+rest[1:] {
			say(d.Pos(), "%s: no Get", d.Name.Name)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			ts, ok := spec.(*ast.TypeSpec)
			if !ok {
				continue
			}
			for _, suffix := range []string{"Impl", "Manager", "Service", "Helper", "Info", "Data"} {
				if strings.HasSuffix(ts.Name.Name, suffix) {
					say(ts.Pos(), "%s: no %s", ts.Name.Name, suffix)
				}
			}
			if it, ok := ts.Type.(*ast.InterfaceType); ok && ts.Name.IsExported() && it.Methods.NumFields() > 4 {
				say(ts.Pos(), "%s has %d methods; four are the most", ts.Name.Name, it.Methods.NumFields())
			}
		}
	}
}

// skips wants tests to fail, never to skip, when a tool is missing.
func skips(file *ast.File, say sayer) {
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if sel, ok := call.Fun.(*ast.SelectorExpr); ok {
			if x, ok := sel.X.(*ast.Ident); ok && slices.Contains([]string{"t", "b", "f", "testing"}, x.Name) &&
				slices.Contains([]string{"Skip", "Skipf", "SkipNow", "Short"}, sel.Sel.Name) {
				say(call.Pos(), "%s.%s: a test fails when it cannot run", x.Name, sel.Sel.Name)
			}
		}
		return true
	})
}

// globals wants package-level variables that never change. Rooms that exist
// for tests alone may build a binary once for all of them.
func (s *source) globals(say sayer) {
	if strings.HasSuffix(s.room, "test") {
		return
	}
	vars := map[string]*ast.ValueSpec{}
	for name, file := range s.files {
		if isTest(name) {
			continue
		}
		for _, d := range file.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, spec := range g.Specs {
				v := spec.(*ast.ValueSpec)
				for _, n := range v.Names {
					if n.Name != "_" {
						vars[n.Name] = v
					}
				}
				if len(v.Values) == 0 && !embedded(g, v) {
					say(v.Pos(), "a global without a value is one that changes")
				}
				if sel, ok := v.Type.(*ast.SelectorExpr); ok && fmt.Sprint(sel.X) == "sync" {
					say(v.Pos(), "a global lock guards global state")
				}
			}
		}
	}
	for name, file := range s.files {
		if !isTest(name) {
			s.assigned(file, vars, say)
		}
	}
}

func embedded(g *ast.GenDecl, v *ast.ValueSpec) bool {
	for _, doc := range []*ast.CommentGroup{g.Doc, v.Doc} {
		if doc == nil {
			continue
		}
		for _, c := range doc.List {
			if strings.HasPrefix(c.Text, "//go:embed ") {
				return true
			}
		}
	}
	return false
}

// assigned finds writes to the package's variables. A name that the parser
// resolved to something in its own scope is not one of them.
func (s *source) assigned(file *ast.File, vars map[string]*ast.ValueSpec, say sayer) {
	write := func(e ast.Expr) {
		for {
			switch u := e.(type) {
			case *ast.IndexExpr:
				e = u.X
				continue
			case *ast.ParenExpr:
				e = u.X
				continue
			case *ast.SelectorExpr:
				e = u.X
				continue
			case *ast.Ident:
				spec, ok := vars[u.Name]
				if ok && (u.Obj == nil || u.Obj.Decl == spec) {
					say(u.Pos(), "the global %s is changed", u.Name)
				}
			}
			return
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			if n.Tok != token.DEFINE {
				for _, e := range n.Lhs {
					write(e)
				}
			}
		case *ast.IncDecStmt:
			write(n.X)
		}
		return true
	})
}

// TestFaults shows that each rule sees what it is about.
func TestFaults(t *testing.T) {
	long := "// Package p is long.\npackage p\n" + strings.Repeat("\n", 600)
	for name, c := range map[string]struct {
		file, text, want string
	}{
		"clean":           {"p.go", "// Package p is clean.\npackage p\n\n// A is fine.\nvar A = 1\n", ""},
		"no package doc":  {"p.go", "package p\n", "what it is for"},
		"long":            {"p.go", long, "602 lines"},
		"long, reasoned":  {"p.go", long + "// long: a table that reads better in one piece\n", ""},
		"undocumented":    {"p.go", "// Package p x.\npackage p\n\nfunc F() {}\n", "F has no doc comment"},
		"method":          {"p.go", "// Package p x.\npackage p\n\n// T x.\ntype T int\n\nfunc (t *T) M() {}\n", "M has no doc comment"},
		"inner method":    {"p.go", "// Package p x.\npackage p\n\ntype t int\n\nfunc (t t) M() {}\n", ""},
		"init":            {"p.go", "// Package p x.\npackage p\n\nfunc init() {}\n", "init function"},
		"empty global":    {"p.go", "// Package p x.\npackage p\n\nvar cache map[int]int\n", "without a value"},
		"changed global":  {"p.go", "// Package p x.\npackage p\n\nvar n = 1\n\nfunc f() { n++ }\n", "n is changed"},
		"shadowed global": {"p.go", "// Package p x.\npackage p\n\nvar n = 1\n\nfunc f() { n := 2; n++ }\n", ""},
		"written map":     {"p.go", "// Package p x.\npackage p\n\nvar m = map[int]int{}\n\nfunc f() { m[1] = 2 }\n", "m is changed"},
		"get":             {"p.go", "// Package p x.\npackage p\n\nfunc (t t) GetName() {}\n\ntype t int\n", "no Get"},
		"manager":         {"p.go", "// Package p x.\npackage p\n\ntype keyManager struct{}\n", "no Manager"},
		"wide interface":  {"p.go", "// Package p x.\npackage p\n\n// I x.\ntype I interface{ A(); B(); C(); D(); E() }\n", "5 methods"},
		"skip":            {"p_test.go", "package p\n\nfunc TestX(t *testing.T) { t.Skip() }\n", "fails when it cannot run"},
	} {
		s := &source{fset: token.NewFileSet(), room: "p", files: map[string]*ast.File{}, text: map[string][]byte{}}
		s.add(t, c.file, []byte(c.text))
		got := strings.Join(s.faults(), "\n")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

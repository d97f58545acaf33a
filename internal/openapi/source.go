package openapi

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Source is what a module's source says about its types.
type Source struct {
	module, root string
	packages     map[string]*words // by import path
}

// words are those of one package.
type words struct {
	types     map[string]string   // doc comments, by type
	fields    map[string]string   // doc or line comments, by "Type.Field"
	constants map[string][]string // values of string constants, by type
	files     []*ast.File
}

// NewSource returns the source of the module of that path, which is the folder root.
func NewSource(module, root string) *Source {
	return &Source{module: module, root: root, packages: map[string]*words{}}
}

// Doc returns the doc comment of a type of the module, on one line; "" for any other.
func (s *Source) Doc(t reflect.Type) string { return s.of(t.PkgPath()).types[base(t)] }

// Field returns the comment of a field, on one line.
func (s *Source) Field(t reflect.Type, field string) string {
	return s.of(t.PkgPath()).fields[base(t)+"."+field]
}

// Constants returns the values of all string constants of type t, sorted.
func (s *Source) Constants(t reflect.Type) []string { return s.Named(t.PkgPath(), base(t)) }

// Named is Constants for the type of that name in the package of that path.
func (s *Source) Named(path, name string) []string { return s.of(path).constants[name] }

// base is a type's name without its arguments.
func base(t reflect.Type) string {
	name, _, _ := strings.Cut(t.Name(), "[")
	return name
}

// Files returns the parsed files of a package of the module, without tests.
func (s *Source) Files(path string) []*ast.File { return s.of(path).files }

func (s *Source) of(path string) *words {
	if w := s.packages[path]; w != nil {
		return w
	}
	w := &words{types: map[string]string{}, fields: map[string]string{}, constants: map[string][]string{}}
	s.packages[path] = w
	inside, ours := strings.CutPrefix(path, s.module)
	if !ours {
		return w
	}
	names, err := filepath.Glob(filepath.Join(s.root, filepath.FromSlash(inside), "*.go"))
	if err != nil || len(names) == 0 {
		panic(fmt.Sprintf("openapi: no source of %s: %v", path, err))
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			panic(&fs.PathError{Op: "openapi: reading", Path: name, Err: err})
		}
		w.files = append(w.files, file)
		for _, decl := range file.Decls {
			if d, ok := decl.(*ast.GenDecl); ok {
				w.read(d)
			}
		}
	}
	for _, values := range w.constants {
		slices.Sort(values)
	}
	return w
}

func (w *words) read(d *ast.GenDecl) {
	for _, spec := range d.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			doc := spec.Doc
			if doc == nil {
				doc = d.Doc
			}
			w.types[spec.Name.Name] = line(doc)
			if fields, ok := spec.Type.(*ast.StructType); ok {
				w.readFields(spec.Name.Name, fields)
			}
		case *ast.ValueSpec:
			w.readConstants(spec)
		}
	}
}

func (w *words) readFields(of string, s *ast.StructType) {
	for _, field := range s.Fields.List {
		says := line(field.Doc)
		if says == "" {
			says = line(field.Comment)
		}
		for _, name := range field.Names {
			w.fields[of+"."+name.Name] = says
		}
	}
}

func (w *words) readConstants(spec *ast.ValueSpec) {
	kind, ok := spec.Type.(*ast.Ident)
	if !ok {
		return
	}
	for _, value := range spec.Values {
		if literal, ok := value.(*ast.BasicLit); ok && literal.Kind == token.STRING {
			if text, err := strconv.Unquote(literal.Value); err == nil {
				w.constants[kind.Name] = append(w.constants[kind.Name], text)
			}
		}
	}
}

// line is a comment on one line.
func line(c *ast.CommentGroup) string { return strings.Join(strings.Fields(c.Text()), " ") }

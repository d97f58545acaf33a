package rego

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// answerVar holds the entrypoint's value in query results.
const answerVar = ast.Var("answer")

// rules are one compiled policy. Nothing in it changes after load.
type rules struct {
	digest        string
	revision      string
	settings      map[string]any // as encoding/json gives it
	compiler      *ast.Compiler
	store         storage.Store
	query         ast.Body
	mask, drop    ast.Body // see Treat; nil where the rules have none
	queryCompiler ast.QueryCompiler
	functions     map[string]*topdown.Builtin // see guard
}

// load reads and compiles the rules in dir.
func load(ctx context.Context, dir string) (*rules, error) {
	s, err := readDir(dir)
	if err != nil {
		return nil, err
	}
	return compile(ctx, s)
}

// maxCompileTime bounds how long anybody waits for the compiler. The default
// rules take 3 ms.
const maxCompileTime = 30 * time.Second

// compile makes rules of sources, tests left out. OPA's compiler can be neither
// stopped nor trusted never to panic, and a type nested in itself keeps it busy for
// years: it is left to itself then, and the rules are refused.
func compile(ctx context.Context, s *sources) (*rules, error) {
	type outcome struct {
		rules *rules
		err   error
	}
	done := make(chan outcome, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- outcome{err: Problems{{File: ".", Says: fmt.Sprintf("these rules break the compiler: %v", p)}}}
			}
		}()
		r, err := compileRules(ctx, s)
		done <- outcome{r, err}
	}()
	limit, cancel := context.WithTimeout(ctx, maxCompileTime)
	defer cancel()
	select {
	case o := <-done:
		return o.rules, o.err
	case <-limit.Done():
		return nil, Problems{{File: ".", Says: "these rules keep the compiler busy for too long: " + limit.Err().Error()}}
	}
}

func compileRules(ctx context.Context, s *sources) (*rules, error) {
	allowed := capabilities()
	modules, err := parse(s.rules, allowed)
	if err != nil {
		return nil, err
	}
	document, err := s.document()
	if err != nil {
		return nil, err
	}
	r := &rules{digest: s.digest(), settings: settingsOf(document)}
	r.revision = r.digest
	if r.store, err = newStore(s); err != nil {
		return nil, err
	}
	if r.compiler, err = compileModules(ctx, modules, allowed, r.store); err != nil {
		return nil, err
	}
	if err := checkEntrypoint(r.compiler); err != nil {
		return nil, err
	}
	if r.functions, err = guard(r.compiler); err != nil {
		return nil, err
	}
	r.queryCompiler = r.compiler.QueryCompiler()
	question := ast.Equality.Expr(ast.NewTerm(ast.MustParseRef(Entrypoint)), ast.NewTerm(answerVar))
	if r.query, err = r.queryCompiler.Compile(ast.NewBody(question)); err != nil {
		return nil, problemsOf(err)
	}
	return r, r.prepareLogging()
}

// newStore keeps the data as the evaluator wants to read it, so that reading costs nothing.
func newStore(s *sources) (storage.Store, error) {
	document, err := s.document()
	if err != nil {
		return nil, err
	}
	value, err := ast.InterfaceToValue(document)
	if err != nil {
		return nil, Problems{{File: s.data.name, Says: err.Error()}}
	}
	return inmem.NewFromASTObject(value.(ast.Object)), nil
}

// parse reads all files before it gives up, so that one check names every mistake.
func parse(files []file, allowed *ast.Capabilities) (map[string]*ast.Module, error) {
	modules := make(map[string]*ast.Module, len(files))
	var wrong Problems
	for _, f := range files {
		module, err := ast.ParseModuleWithOpts(f.name, string(f.text), ast.ParserOptions{
			RegoVersion:       ast.RegoV1,
			Capabilities:      allowed,
			ProcessAnnotation: true,
		})
		if err != nil {
			wrong = append(wrong, problemsOf(err)...)
			continue
		}
		modules[f.name] = module
	}
	wrong = append(wrong, checkBounds(modules)...)
	if len(wrong) > 0 {
		return nil, wrong
	}
	return modules, nil
}

// compileModules compiles strictly, and refuses rules that hide data or reach out.
func compileModules(ctx context.Context, modules map[string]*ast.Module, allowed *ast.Capabilities, store storage.Store) (*ast.Compiler, error) {
	txn, err := store.NewTransaction(ctx)
	if err != nil {
		return nil, err
	}
	defer store.Abort(ctx, txn)
	compile := func(modules map[string]*ast.Module, schemas *ast.SchemaSet) (*ast.Compiler, error) {
		compiler := ast.NewCompiler().
			WithDefaultRegoVersion(ast.RegoV1).
			WithCapabilities(allowed).
			WithStrict(true).
			WithSchemas(schemas).
			WithPathConflictsCheck(storage.NonEmpty(ctx, store, txn))
		if compiler.Compile(modules); compiler.Failed() {
			return nil, problemsOf(compiler.Errors)
		}
		return compiler, nil
	}
	asked, logging := withoutLogging(modules)
	compiler, err := compile(asked, inputSchema())
	if err != nil || !logging {
		return compiler, err
	}
	return compile(modules, nil) // the rules about the log see events, of which the schema knows nothing
}

//go:embed input.schema.json
var inputSchemaText []byte

// inputSchema lets the compiler find members of input that will never be
// there: a deny that asks for a misspelt one would never deny.
func inputSchema() *ast.SchemaSet {
	var schema any
	if err := json.Unmarshal(inputSchemaText, &schema); err != nil {
		panic("rego: input.schema.json is no JSON: " + err.Error()) // cannot happen: every test reads it
	}
	set := ast.NewSchemaSet()
	set.Put(ast.SchemaRootRef, schema)
	return set
}

// checkEntrypoint demands that the question has exactly one kind of answer: a
// value, not a function and not a set that grows rule by rule.
func checkEntrypoint(c *ast.Compiler) error {
	found := c.GetRulesExact(ast.MustParseRef(Entrypoint))
	if len(found) == 0 {
		return Problems{{File: ".", Says: fmt.Sprintf("no rule %s: package hallmark must have a rule called decision", Entrypoint)}}
	}
	for _, rule := range found {
		if len(rule.Head.Args) > 0 || rule.Head.RuleKind() != ast.SingleValue {
			at := rule.Loc()
			return Problems{{File: at.File, Line: at.Row, Column: at.Col, Says: "decision must be one value: write decision := … if …"}}
		}
	}
	return nil
}

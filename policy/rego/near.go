package rego

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// Bounds of what is told of rules that came near.
const (
	maxNear    = 20  // rules
	maxBehind  = 4   // deep
	maxSnippet = 200 // bytes of an expression
)

// near lists the rules that would have allowed, had they succeeded: those
// called allow, or where there are none those of the entrypoint.
func (r *rules) near(f *followed, input map[string]any) []Near {
	roots := r.allowing()
	for _, rule := range roots {
		if f.succeeded[rule] && rule.Head.Name == "allow" {
			return nil // what stands against it has fired
		}
	}
	return r.failed(f, roots, input, maxBehind)
}

// allowing are the rules called allow, or where there are none those of the entrypoint.
func (r *rules) allowing() []*ast.Rule {
	var roots []*ast.Rule
	for _, name := range sortedModules(r.compiler) {
		for _, rule := range r.compiler.Modules[name].Rules {
			if rule.Head.Name == "allow" {
				roots = append(roots, rule)
			}
		}
	}
	if len(roots) == 0 {
		roots = r.compiler.GetRulesExact(ast.MustParseRef(Entrypoint))
	}
	return withElse(roots)
}

// followAll asks every rule by its name, since a deny keeps the entrypoint from asking
// the others. The index passes rules over whose comparisons do not hold: without it they
// are seen to fail. What is seen counts, and not what comes of it.
func (r *rules) followAll(ctx context.Context, document ast.Value) *followed {
	f, limit, asked := newFollowed(), following(ctx), map[string]bool{}
	for _, name := range sortedModules(r.compiler) {
		for _, rule := range r.compiler.Modules[name].Rules {
			ref := rule.Ref().GroundPrefix()
			if asked[ref.String()] || len(rule.Head.Args) > 0 {
				continue
			}
			asked[ref.String()] = true
			question, err := r.compiler.QueryCompiler().Compile(ast.NewBody(ast.Equality.Expr(ast.NewTerm(ref), ast.NewTerm(answerVar))))
			if err == nil {
				clear(f.queries) // each question counts them anew
				_, _ = r.watched(limit, question, document, func(q *topdown.Query) { q.WithQueryTracer(f).WithIndexing(false) })
			}
		}
	}
	return f
}

// withElse adds the other branches of rules.
func withElse(rules []*ast.Rule) []*ast.Rule {
	var all []*ast.Rule
	for _, rule := range rules {
		for ; rule != nil; rule = rule.Else {
			all = append(all, rule)
		}
	}
	return all
}

// failed describes those of the rules that were tried and did not succeed, who came furthest first. Rules about
// other actions or other kinds of callers are left out.
func (r *rules) failed(f *followed, rules []*ast.Rule, input map[string]any, depth int) []Near {
	type come struct {
		near Near
		far  int
	}
	var all []come
	for _, rule := range rules {
		at := f.furthest[rule]
		if at == nil || f.succeeded[rule] || r.forOthers(rule, input, maxBehind) {
			continue
		}
		part := partsOf(rule, at)
		if part.elsewhere() {
			continue
		}
		n := Near{Place: r.place(rule), Failed: Failed{Line: at.Location.Row, Text: snippet(rule, at), Saw: part.saw(input)}}
		if behind := withElse(r.namedIn(part)); depth > 0 && !at.Negated && len(behind) > 0 {
			n.Behind = r.failed(f, behind, input, depth-1)
			if len(n.Behind) == 0 && !slices.ContainsFunc(behind, func(b *ast.Rule) bool { return f.succeeded[b] }) {
				continue // it relies on rules about other actions
			}
		}
		all = append(all, come{n, at.Index})
	}
	slices.SortStableFunc(all, func(a, b come) int {
		return cmp.Or(cmp.Compare(b.far, a.far), a.near.compare(&b.near.Place))
	})
	near := make([]Near, 0, len(all))
	for _, one := range all[:min(len(all), maxNear)] {
		near = append(near, one.near)
	}
	return near
}

// forOthers reports whether the rule, or all those that one of its lines relies on, demand
// another action or another type of caller in so many words, be it after what failed first.
func (r *rules) forOthers(rule *ast.Rule, input map[string]any, depth int) bool {
	return slices.ContainsFunc(rule.Body, func(e *ast.Expr) bool {
		if e.Negated || len(e.With) > 0 {
			return false
		}
		if named := r.namedIn(parts{rule, []*ast.Expr{e}}); len(named) > 0 && depth > 0 {
			return !slices.ContainsFunc(named, func(n *ast.Rule) bool { return n.Default || !r.forOthers(n, input, depth-1) })
		}
		if !e.IsEquality() && (!e.IsCall() || e.Operator().String() != "equal") || len(e.Operands()) != 2 {
			return false
		}
		for i := range 2 {
			ref, isRef := e.Operand(i).Value.(ast.Ref)
			word, isWord := e.Operand(1 - i).Value.(ast.String)
			if !isRef || !isWord {
				continue
			}
			if at := ref.String(); at == "input.action.name" || at == "input.subject.type" {
				return valueAt(input, strings.Split(at, ".")[1:]) != string(word)
			}
		}
		return false
	})
}

// snippet is the line of its rule on which an expression begins.
func snippet(rule *ast.Rule, at *ast.Expr) string {
	lines := strings.Split(string(rule.Location.Text), "\n")
	line := string(at.Location.Text)
	if n := at.Location.Row - rule.Location.Row; n >= 0 && n < len(lines) {
		line = lines[n]
	}
	line = strings.TrimSpace(line)
	if len(line) > maxSnippet {
		line = strings.ToValidUTF8(line[:maxSnippet], "") + "…"
	}
	return line
}

// parts are what the compiler has made of one line of a rule.
type parts struct {
	rule  *ast.Rule
	exprs []*ast.Expr
}

func partsOf(rule *ast.Rule, at *ast.Expr) parts {
	p := parts{rule: rule}
	for _, e := range rule.Body {
		if e.Location != nil && e.Location.File == at.Location.File && e.Location.Row == at.Location.Row {
			p.exprs = append(p.exprs, e)
		}
	}
	return p
}

// elsewhere reports whether the expression asks for nothing but another action,
// or another type of caller.
func (p parts) elsewhere() bool {
	read := p.read()
	if len(read) == 0 {
		return false
	}
	for _, path := range read {
		if joined := strings.Join(path, "."); joined != "action.name" && joined != "subject.type" {
			return false
		}
	}
	return !p.relies()
}

// relies reports whether the expression uses data, rules, or variables that others of the rule bind.
func (p parts) relies() bool {
	mine, others := ast.NewVarSet(), ast.NewVarSet()
	data := false
	for _, e := range p.rule.Body {
		into := others
		if slices.Contains(p.exprs, e) {
			into = mine
			ast.WalkRefs(e, func(ref ast.Ref) bool {
				data = data || ref.HasPrefix(ast.DefaultRootRef)
				return false
			})
		}
		into.Update(varsOf(e))
	}
	return data || len(mine.Intersect(others)) > 0
}

// varsOf returns the variables of an expression, the roots of documents and names of functions apart.
func varsOf(e *ast.Expr) ast.VarSet {
	visitor := ast.NewVarVisitor().WithParams(ast.VarVisitorParams{SkipRefHead: true, SkipRefCallHead: true})
	visitor.Walk(e)
	return visitor.Vars()
}

// read returns the paths below input that the expression reads.
func (p parts) read() [][]string {
	var paths [][]string
	for _, e := range p.exprs {
		paths = append(paths, pathsIn(e)...)
	}
	return paths
}

// saw is what the expression read of the input.
func (p parts) saw(input map[string]any) map[string]any {
	saw := map[string]any{}
	for _, path := range p.read() {
		saw[strings.Join(path, ".")] = valueAt(input, path)
	}
	if len(saw) == 0 {
		return nil
	}
	return saw
}

// namedIn returns the rules that the expression refers to.
func (r *rules) namedIn(p parts) []*ast.Rule {
	var found []*ast.Rule
	for _, e := range p.exprs {
		ast.WalkRefs(e, func(ref ast.Ref) bool {
			if ref.HasPrefix(ast.DefaultRootRef) {
				for _, rule := range r.compiler.GetRules(ref.ConstantPrefix()) {
					if !slices.Contains(found, rule) {
						found = append(found, rule)
					}
				}
			}
			return false
		})
	}
	return found
}

// concerned are the rules that a change may have to satisfy: those that succeed, and those
// that came near to allowing it, with all that they rely on. The entrypoint relies on everything: where there are rules called
// allow, what it relies on is left out.
func (r *rules) concerned(all *followed) map[*ast.Rule]bool {
	seen := map[*ast.Rule]bool{}
	roots := r.allowing()
	throughAllow := len(roots) > 0 && roots[0].Head.Name == "allow"
	var follow func(*ast.Rule)
	follow = func(rule *ast.Rule) {
		if seen[rule] {
			return
		}
		if seen[rule] = true; throughAllow && nameOf(rule) == Entrypoint {
			return
		}
		for _, next := range rulesOf(r.compiler.Graph.Dependencies(rule)) {
			follow(next)
		}
		if rule.Else != nil {
			follow(rule.Else)
		}
	}
	for rule := range all.succeeded {
		follow(rule)
	}
	for _, rule := range roots {
		at := all.furthest[rule]
		if at != nil && !all.succeeded[rule] && !partsOf(rule, at).elsewhere() {
			follow(rule)
		}
	}
	return seen
}

package rego

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
)

// maxWords bounds the values that are tried for one attribute.
const maxWords = 64

// candidates are the changes of single attributes that the rules concerned ask
// for, the most helpful kinds first. What an attribute may become stands in the rules
// that read it, in those around them, and in the data that they use.
func (r *rules) candidates(input map[string]any, concerned map[*ast.Rule]bool) []Change {
	values := map[string][]any{} // by path, joined
	for _, name := range sortedModules(r.compiler) {
		for _, rule := range withElse(r.compiler.Modules[name].Rules) {
			if !concerned[rule] {
				continue
			}
			read := pathsIn(rule)
			if len(read) == 0 {
				continue
			}
			words := r.wordsAround(rule)
			for _, path := range read {
				joined := strings.Join(path, "\x00")
				values[joined] = append(values[joined], words...)
			}
		}
	}
	var all []Change
	for _, joined := range slices.Sorted(maps.Keys(values)) {
		path := strings.Split(joined, "\x00")
		all = append(all, changesAt(input, path, distinct(values[joined]))...)
	}
	slices.SortStableFunc(all, func(a, b Change) int { return cmp.Compare(a.Kind.rank(), b.Kind.rank()) })
	return all
}

func sortedModules(c *ast.Compiler) []string { return slices.Sorted(maps.Keys(c.Modules)) }

// distinct drops values that came before, and those beyond the bound.
func distinct(values []any) []any {
	seen := map[any]bool{}
	return slices.DeleteFunc(values, func(v any) bool {
		if seen[v] || len(seen) == maxWords {
			return true
		}
		seen[v] = true
		return false
	})
}

// changesAt are the changes of one attribute.
func changesAt(input map[string]any, path []string, words []any) []Change {
	if last := path[len(path)-1]; last == "properties" || len(path) < 2 || slices.Equal(path, []string{"action", "name"}) {
		return nil // all that is known of something cannot be away, and another action is another question
	}
	was := valueAt(input, path)
	var all []Change
	add := func(path []string, was, to any) {
		if !sameValue(was, to) {
			all = append(all, Change{Path: path, Kind: kindOf(path), Was: was, To: to})
		}
	}
	for _, to := range modelsAt(input, path, was) {
		add(path, was, to)
	}
	switch was := was.(type) {
	case bool:
		add(path, was, !was)
	case []any:
		for _, to := range lists(was, words) {
			add(path, was, to)
		}
	case []string:
		plain := make([]any, len(was))
		for i := range was {
			plain[i] = was[i]
		}
		for _, to := range lists(plain, words) {
			add(path, plain, to)
		}
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(was)) {
			add(append(slices.Clone(path), name), was[name], nil)
		}
	default:
		if was == nil {
			add(path, was, true)
		}
		for _, word := range words {
			add(path, was, word)
		}
		add(path, was, nil)
	}
	return all
}

// lists are a list with one more element, with one fewer, and none at all.
func lists(was, words []any) []any {
	var all []any
	for _, word := range words {
		if _, text := word.(string); text && !slices.Contains(was, word) && (len(was) == 0 || isText(was[0])) {
			all = append(all, append(slices.Clone(was), word))
		}
	}
	for i := range min(len(was), maxWords) {
		if len(was) > 1 {
			all = append(all, slices.Delete(slices.Clone(was), i, i+1))
		}
	}
	if len(was) > 0 {
		all = append(all, []any{})
	}
	return append(all, nil)
}

func isText(v any) bool { _, ok := v.(string); return ok }

// modelsAt are values of attributes that rules expect to be more than a word.
func modelsAt(input map[string]any, path []string, was any) []any {
	switch strings.Join(path, ".") {
	case "context.approval":
		if was == nil {
			return []any{map[string]any{"id": "an approval", "by": "another operator", "at": valueAt(input, []string{"context", "time"})}}
		}
	case "context.change.approvals":
		given, _ := was.([]any)
		digest := valueAt(input, []string{"resource", "properties", "digest"})
		var more []any
		for _, who := range []string{"another operator", "a third operator", "a fourth operator"} {
			given = append(slices.Clone(given), map[string]any{"by": who, "digest": digest})
			more = append(more, given)
		}
		return more
	case "context.time":
		return laterTimes(was)
	}
	return nil
}

// laterTimes are the hours of the next day, and the days of the next week.
func laterTimes(was any) []any {
	text, _ := was.(string)
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return nil
	}
	var all []any
	add := func(t time.Time) { all = append(all, t.UTC().Format("2006-01-02T15:04:05.000Z")) }
	for h := 1; h < 24; h++ {
		add(at.Truncate(time.Hour).Add(time.Duration(h) * time.Hour))
	}
	for d := 1; d < 7; d++ {
		add(at.AddDate(0, 0, d))
		add(at.Truncate(24*time.Hour).AddDate(0, 0, d).Add(12 * time.Hour))
	}
	return all
}

// pathsIn returns the paths below input that a rule or an expression reads.
func pathsIn(x any) [][]string {
	var paths [][]string
	ast.WalkRefs(x, func(ref ast.Ref) bool {
		if !ref.HasPrefix(ast.InputRootRef) {
			return false
		}
		var path []string
		for _, part := range ref[1:] {
			name, ok := part.Value.(ast.String)
			if !ok {
				break
			}
			path = append(path, string(name))
		}
		if len(path) > 1 {
			paths = append(paths, path)
		}
		return false
	})
	return paths
}

// wordsAround are the values that stand in a rule and in the data that it uses,
// and then those of the rules that it uses and of those that use it.
func (r *rules) wordsAround(rule *ast.Rule) []any {
	words := r.valuesOf(rule)
	graph := r.compiler.Graph
	for _, other := range slices.Concat(rulesOf(graph.Dependencies(rule)), rulesOf(graph.Dependents(rule))) {
		words = append(words, r.valuesOf(other)...)
	}
	return words
}

// rulesOf are the rules in a set of the compiler's, in order, the entrypoint apart.
func rulesOf[T comparable](set map[T]struct{}) []*ast.Rule {
	var found []*ast.Rule
	for x := range set {
		if rule, ok := any(x).(*ast.Rule); ok && nameOf(rule) != Entrypoint {
			found = append(found, rule)
		}
	}
	slices.SortFunc(found, func(a, b *ast.Rule) int {
		return cmp.Or(strings.Compare(a.Location.File, b.Location.File), cmp.Compare(a.Location.Row, b.Location.Row))
	})
	return found
}

// valuesOf are the words and numbers that stand in a rule, and in the data that it uses.
func (r *rules) valuesOf(rule *ast.Rule) []any {
	var values []any
	for _, word := range wordsOf(rule) {
		if !strings.ContainsAny(word, " %") {
			values = append(values, word)
		}
	}
	ast.WalkTerms(rule, func(t *ast.Term) bool {
		if n, ok := t.Value.(ast.Number); ok {
			if i, whole := n.Int64(); whole {
				values = append(values, i, i+1, i-1)
			}
		}
		return false
	})
	ast.WalkRefs(rule, func(ref ast.Ref) bool {
		if ref.HasPrefix(ast.DefaultRootRef) {
			values = append(values, r.dataWords(ref.ConstantPrefix())...)
		}
		return false
	})
	return values
}

// dataWords are the words that stand in the data at ref: the elements of a list,
// and the names of an object, those first that stand for the least.
func (r *rules) dataWords(ref ast.Ref) []any {
	path, err := storage.NewPathForRef(ref)
	if err != nil {
		return nil
	}
	ctx := context.Background()
	txn, err := r.store.NewTransaction(ctx)
	if err != nil {
		return nil
	}
	defer r.store.Abort(ctx, txn)
	found, err := r.store.Read(ctx, txn, path)
	if err != nil {
		return nil // rules, and nothing of the data
	}
	var words []any
	switch v := found.(type) {
	case ast.String:
		words = append(words, string(v))
	case *ast.Array:
		v.Until(func(t *ast.Term) bool {
			if s, ok := t.Value.(ast.String); ok {
				words = append(words, string(s))
			}
			return len(words) == maxWords
		})
	case ast.Object:
		words = namesOf(v)
	}
	return words
}

// namesOf are the names of an object, those first that stand for the least: of
// two roles that would do, the smaller one comes first.
func namesOf(o ast.Object) []any {
	weights := map[string]int{}
	o.Until(func(k, v *ast.Term) bool {
		if name, ok := k.Value.(ast.String); ok {
			weights[string(name)] = heft(v.Value)
		}
		return len(weights) == maxWords
	})
	names := slices.SortedFunc(maps.Keys(weights), func(a, b string) int {
		return cmp.Or(cmp.Compare(weights[a], weights[b]), strings.Compare(a, b))
	})
	words := make([]any, len(names))
	for i, name := range names {
		words[i] = name
	}
	return words
}

// heft is how much a value of the data stands for: longer is more, and a pattern is more than any list.
func heft(v ast.Value) int {
	text, err := json.Marshal(v.String())
	if err != nil {
		return 0
	}
	return len(text) + 1000*strings.Count(string(text), "*") + 1_000_000*strings.Count(string(text), `\"*\"`)
}

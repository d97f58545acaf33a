// Package rego answers policy questions with rules written in Rego. It is the
// only room that knows the Open Policy Agent: rules come in as a directory of
// files, answers leave as policy.Answer.
//
// Rules are compiled strictly, may not reach the network, the clock, chance or
// the environment, and are stopped when their time or their budget of steps is
// used up. Whatever is not one clear and well-formed answer is an error, which
// package policy turns into a deny.
package rego

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/hallmark-pki/hallmark/policy"
)

// Entrypoint is the rule that is asked.
const Entrypoint = "data.hallmark.decision"

// Config says where the rules are.
type Config struct {
	Dir string // directory of *.rego files and one data.json or data.yaml
}

// Engine answers with the rules it was loaded with, until Reload replaces
// them. It implements policy.Engine and may be used by many goroutines. The
// zero Engine has no rules and answers nothing.
type Engine struct {
	dir       string
	reloading sync.Mutex // so that the last reload to begin is the one that stays
	active    atomic.Pointer[rules]
}

var _ policy.Engine = (*Engine)(nil)

// Load compiles the rules in c.Dir. What is wrong with them comes back as Problems.
func Load(ctx context.Context, c Config) (*Engine, error) {
	e := &Engine{dir: c.Dir}
	if err := e.Reload(ctx); err != nil {
		return nil, err
	}
	return e, nil
}

// Reload compiles the directory anew and swaps the rules in one step. If
// anything is wrong it returns Problems and the rules before stay active.
func (e *Engine) Reload(ctx context.Context) error {
	if e.dir == "" {
		return errNoDirectory
	}
	e.reloading.Lock()
	defer e.reloading.Unlock()
	fresh, err := load(ctx, e.dir)
	if err != nil {
		return err
	}
	e.active.Store(fresh)
	return nil
}

// Digest names the active rules as "sha256:<hex>", over the names and texts of
// the rules and the data (see the policy guide); empty if there are none.
func (e *Engine) Digest() string {
	r := e.active.Load()
	if r == nil {
		return ""
	}
	return r.digest
}

// Revision is what the manifest of the active rules' bundle calls them; the
// digest where there is none.
func (e *Engine) Revision() string {
	r := e.active.Load()
	if r == nil {
		return ""
	}
	return r.revision
}

// Settings is the member settings of the active rules' data, as encoding/json
// decodes it; nil if there is none. It is not to be changed.
func (e *Engine) Settings() map[string]any {
	r := e.active.Load()
	if r == nil {
		return nil
	}
	return r.settings
}

// Evaluate asks the active rules about input, whose values are limited to
// those that policy.Properties allows. The answer carries the digest of the
// rules that were asked, along with an error too.
func (e *Engine) Evaluate(ctx context.Context, input map[string]any) (answer policy.Answer, err error) {
	r := e.active.Load()
	if r == nil {
		return policy.Answer{}, errors.New("no rules are loaded")
	}
	defer func() {
		if p := recover(); p != nil {
			answer, err = policy.Answer{}, fmt.Errorf("the evaluator broke: %v", p)
		}
		answer.Policy = r.digest
	}()
	document, err := inputValue(input)
	if err != nil {
		return policy.Answer{}, err
	}
	result, err := r.ask(&budget{ctx: ctx}, document)
	if err != nil {
		return policy.Answer{}, err
	}
	return readAnswer(result)
}

var errUndefined = errors.New(Entrypoint + " is undefined for this input")

// ask evaluates the entrypoint within the budget and returns its one value.
func (r *rules) ask(limit *budget, input ast.Value) (ast.Value, error) {
	return r.askWith(limit, r.query, input, nil)
}

// askWith is ask for any query that binds answerVar, with somebody who watches; watch may be nil.
func (r *rules) askWith(limit *budget, question ast.Body, input ast.Value, watch func(*topdown.Query)) (ast.Value, error) {
	ctx := limit.ctx
	txn, err := r.store.NewTransaction(ctx)
	if err != nil {
		return nil, err
	}
	defer r.store.Abort(ctx, txn)

	var found []ast.Value
	query := topdown.NewQuery(question).
		WithQueryCompiler(r.queryCompiler).
		WithCompiler(r.compiler).
		WithStore(r.store).
		WithTransaction(txn).
		WithInput(ast.NewTerm(input)).
		WithCancel(limit).
		WithBuiltins(r.functions).
		WithMetrics(metrics.NoOp()).
		WithStrictBuiltinErrors(true)
	if watch != nil {
		watch(query)
	}
	err = query.Iter(ctx, func(result topdown.QueryResult) error {
		found = append(found, result[answerVar].Value)
		return nil
	})
	switch {
	case topdown.IsCancel(err):
		return nil, limit.reason()
	case err != nil:
		return nil, err
	case len(found) == 0:
		return nil, errUndefined
	case len(found) > 1:
		return nil, errors.New(Entrypoint + " has more than one value")
	}
	return found[0], nil
}

// maxSteps bounds one evaluation independently of the machine's load. The
// default rules take about forty.
const maxSteps = 1_000_000

// budget stops an evaluation whose time is over or whose steps are used up.
// The evaluator asks it before every expression.
type budget struct {
	ctx      context.Context
	steps    int
	produced int // bytes, see guard
}

// Cancel implements topdown.Cancel; nobody calls it.
func (b *budget) Cancel() {}

// Cancelled implements topdown.Cancel.
func (b *budget) Cancelled() bool {
	b.steps++
	return b.steps > maxSteps || b.ctx.Err() != nil
}

func (b *budget) reason() error {
	if err := b.ctx.Err(); err != nil {
		return fmt.Errorf("the rules were stopped after %d steps: %w", b.steps, err)
	}
	return fmt.Errorf("the rules were stopped after %d steps, the most one decision may take", maxSteps)
}

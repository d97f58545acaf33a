package decisionlog

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hallmark-pki/hallmark/internal/fault"
)

// Plan is how decisions are told of, and where to.
type Plan struct {
	Scribe *Scribe
	Sink   *Sink         // nil: they are not sent
	Start  Start         // for a sink that nothing was sent to yet
	Min    time.Duration // between looks at the record, and the first wait after a failure; 0 means DefaultMin
	Max    time.Duration // longest wait after failures; 0 means DefaultMax
	Limit  int           // compressed bytes of a chunk; 0 means DefaultLimit
}

// Defaults of a Plan.
const (
	DefaultMin = 5 * time.Second
	DefaultMax = 5 * time.Minute
)

// Start says where in the record a new sink begins. The zero Start is now.
type Start struct {
	Index *int64    // at this entry
	At    time.Time // with the decisions of that time
}

// Step is what a look at the record came to.
type Step struct {
	Sent       int           // events that the sink has taken
	Refused    int           // events that the sink will not take, and that are left out
	Dropped    int           // events that the rules keep out of the log
	Blotted    int           // events sent without input and result, since the rules' masks failed
	Unreadable int           // entries that no event can be made of
	Waiting    int64         // entries that are still to be sent
	Age        time.Duration // of the oldest of them; 0 where there are none
	Trouble    string        // why the sink has not taken what was sent: unavailable, refused, forbidden or unexpected; or database
}

// Forwarder sends the record's decisions to a sink, in order, each at least once.
// Of several replicas one sends at a time. It holds nothing that is not in the store.
type Forwarder struct {
	Record  Record
	Shifts  ShiftStore
	Process string // names this process among the replicas
	Now     func() time.Time
	Log     *slog.Logger
	Observe func(Step) // told of each look at the record, for metrics; may be nil

	plan    atomic.Pointer[Plan]
	once    sync.Once
	changed chan struct{}
}

// Follow puts a plan in force, also while Run runs.
func (f *Forwarder) Follow(p *Plan) {
	p.Min, p.Max, p.Limit = orElse(p.Min, DefaultMin), orElse(p.Max, DefaultMax), orElse(p.Limit, DefaultLimit)
	f.plan.Store(p)
	select {
	case f.waker() <- struct{}{}:
	default:
	}
}

func orElse[T comparable](v, otherwise T) T {
	if v == *new(T) {
		return otherwise
	}
	return v
}

// Plan is the plan in force; nil before the first.
func (f *Forwarder) Plan() *Plan { return f.plan.Load() }

func (f *Forwarder) waker() chan struct{} {
	f.once.Do(func() { f.changed = make(chan struct{}, 1) })
	return f.changed
}

// Run sends until ctx ends. What is not sent by then is sent by the next Run.
func (f *Forwarder) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		p := f.plan.Load()
		if p == nil || p.Sink == nil {
			select {
			case <-ctx.Done():
			case <-f.waker():
			}
			continue
		}
		f.follow(ctx, p)
		p.Sink.Close()
	}
	return nil
}

// follow sends by one plan until there is another.
func (f *Forwarder) follow(ctx context.Context, p *Plan) {
	c := &courier{Forwarder: f, plan: p, measure: measure{limit: p.Limit, ratio: 0.25}}
	defer c.leave()
	for f.plan.Load() == p && ctx.Err() == nil {
		var step Step
		more, err := c.step(ctx, &step)
		if ctx.Err() != nil {
			return
		}
		wait := c.wait(more, err, &step)
		if f.Observe != nil {
			f.Observe(step)
		}
		select {
		case <-ctx.Done():
		case <-f.waker():
		case <-time.After(wait):
		}
	}
}

// wait is how long to do nothing after a step.
func (c *courier) wait(more bool, err error, step *Step) time.Duration {
	if err == nil {
		if c.said != "" {
			c.Log.Info("decisions are sent again", "sink", c.plan.Sink.URL())
		}
		c.failures, c.said = 0, ""
		if more {
			return 0
		}
		return c.plan.Min
	}
	wait := c.plan.Max
	if c.failures < 30 {
		wait = min(wait, c.plan.Min<<c.failures)
	}
	c.failures++
	wait = max(wait/2, 1) + rand.N(max(wait/2, 1)) // replicas and servers must not come back all at once
	step.Trouble = "database"
	if r := (*refusal)(nil); errors.As(err, &r) {
		step.Trouble = r.why()
		if r.after > 0 {
			wait = r.after + rand.N(c.plan.Min)
		}
	}
	if text := err.Error(); text != c.said {
		c.said = text
		c.Log.Warn("decisions cannot be sent just now; they wait in the record", "sink", c.plan.Sink.URL(), "error", err)
	}
	return wait
}

// begin is where a new sink begins.
func (f *Forwarder) begin(ctx context.Context, s Start) (int64, error) {
	switch {
	case s.Index != nil:
		return *s.Index, nil
	case !s.At.IsZero():
		return f.Record.IndexAt(ctx, s.At)
	}
	return f.Record.Size(ctx)
}

// lost reports whether another replica has taken over.
func lost(err error) bool { return err != nil && fault.Of(err).Code == "shift_lost" }

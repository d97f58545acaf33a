package release

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// comparison asks two sets of rules the same questions, with several workers.
type comparison struct {
	active, proposed Rules
	workers          int
	served           func() int64 // how many questions of devices were answered so far
	sink             func(Part) *sink
	sinks            []*sink // that were made

	newest         int64 // position in the record where reading begins
	entries, total atomic.Int64

	decisions, devices, people atomic.Int64
}

// progress is how far it has come.
func (c *comparison) progress() Progress {
	return Progress{Entries: c.entries.Load(), Total: c.total.Load(), Decisions: c.decisions.Load(), Devices: c.devices.Load(), People: c.people.Load()}
}

// page is how many questions a worker takes at a time.
const page = 256

// each hands what produce makes to the workers, and returns what they counted.
// No more than a few pages are in memory at any time.
func each[T any](ctx context.Context, c *comparison, part Part, produce func(ctx context.Context, out chan<- []T) error, ask func(context.Context, *counter, *T) error) (Tally, error) {
	pages := make(chan []T, c.workers)
	work, working := errgroup.WithContext(ctx)
	work.Go(func() error {
		defer close(pages)
		return produce(working, pages)
	})
	found := c.sink(part)
	counters := make([]*counter, c.workers)
	idle := make(chan struct{}) // closed when the first worker has nothing left to do
	for i := range counters {
		counters[i] = newCounter()
		counters[i].sink = found
		aside := aside{served: c.served}
		work.Go(func() error {
			if i == 0 {
				defer close(idle)
			}
			for i == 0 || aside.stand(idle) {
				page, more := <-pages
				if !more {
					return nil
				}
				for j := range page {
					if err := errors.Join(working.Err(), ask(working, counters[i], &page[j])); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	if err := work.Wait(); err != nil {
		return Tally{}, err
	}
	if err := found.flush(ctx); err != nil {
		return Tally{}, err
	}
	all := newCounter()
	for _, counted := range counters {
		all.merge(&counted.t)
	}
	return all.tally(), nil
}

// aside keeps a worker out of the way of devices: all but one rest as long as
// some are being served, so that a processor is free for them.
type aside struct {
	served func() int64
	last   int64
	looked bool
}

// resting is how long a worker stands aside before it looks again.
const resting = 100 * time.Millisecond

// stand returns when no device was served since it looked last; false means that the work is done meanwhile.
func (a *aside) stand(idle <-chan struct{}) bool {
	for {
		now := a.served()
		quiet := now == a.last || !a.looked
		a.last, a.looked = now, true
		if quiet {
			return true
		}
		select {
		case <-time.After(resting):
		case <-idle:
			return false
		}
	}
}

func send[T any](ctx context.Context, out chan<- []T, page []T) error {
	select {
	case out <- page:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

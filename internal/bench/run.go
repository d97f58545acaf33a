package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// contender is a server with the figures measured of it so far.
type contender struct {
	*server
	target  *target
	figures map[string]*figures // by scenario
	held    []*identity         // those enrolled in the last fresh round, to be renewed
}

// figures are one scenario's, a value per round.
type figures struct {
	cpu       []float64 // milliseconds an enrolment
	rate      []float64 // enrolments a second
	latencies []time.Duration
	p99       []float64 // milliseconds; of the open loop, a value per run
}

// bench is one run of this program.
type bench struct {
	options
	out        io.Writer
	dir        string
	contenders []*contender // the floor first, then the product
	maker      *ca          // of the devices
	devices    int          // how many device numbers are given out
}

func run(ctx context.Context, o options, out io.Writer) (err error) {
	b := &bench{options: o, out: out}
	if b.dir, err = os.MkdirTemp(o.Dir, "hallmark-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if b.Pin = o.Pin && runtime.NumCPU() > 1; b.Pin {
		if err := pinLoad(); err != nil {
			return err
		}
	}
	if err := b.header(); err != nil {
		return err
	}
	if b.maker, err = newCA("Bench Maker", nil); err != nil {
		return err
	}
	if err := b.maker.writePEM(b.makerFile()); err != nil {
		return err
	}
	if b.Only == "" || b.Only == "decision" {
		if err := b.decisions(ctx); err != nil {
			return err
		}
	}
	if b.Only != "size" && b.Only != "decision" {
		if err := b.compare(ctx); err != nil {
			return err
		}
	}
	if b.Hallmark != "" && (b.Only == "" || b.Only == "size") {
		return b.size(ctx)
	}
	return nil
}

func (b *bench) makerFile() string { return filepath.Join(b.dir, "maker.crt") }

// compare measures floor and product in turn.
func (b *bench) compare(ctx context.Context) (err error) {
	defer func() {
		for _, c := range b.contenders {
			err = errors.Join(err, c.stop())
		}
	}()
	if err := b.line(ctx); err != nil {
		return err
	}
	for round := range b.Rounds {
		for _, s := range scenarios {
			if b.Only == "" || b.Only == s.name || b.Only == "renew" && s.name == "fresh" {
				if err := b.round(ctx, s, round); err != nil {
					return fmt.Errorf("%s: %w", s.title, err)
				}
			}
		}
	}
	b.table()
	if err := b.batchLine(ctx); err != nil {
		return err
	}
	if b.Only == "" || b.Only == "open" {
		if err := b.openLoop(ctx); err != nil {
			return err
		}
	}
	if b.Hallmark != "" && (b.Only == "" || b.Only == "attested") {
		return b.attestation(ctx, b.contenders[1])
	}
	return nil
}

const warmup = 200 // enrolments before anything is measured

// line starts the contenders and registers every device that will come.
func (b *bench) line(ctx context.Context) error {
	n := warmup + b.Rounds*5*b.N + openRuns*b.openCount()
	floor, err := newFloor(b.options, filepath.Join(b.dir, "floor"), b.makerFile(), false)
	if err != nil {
		return err
	}
	servers := []*server{floor}
	if b.Hallmark != "" {
		product, err := newProduct(b.options, filepath.Join(b.dir, "hallmark"))
		if err != nil {
			return err
		}
		servers = append(servers, product)
	}
	if b.NoVerify {
		plain, err := newFloor(b.options, filepath.Join(b.dir, "unverified"), b.makerFile(), true)
		if err != nil {
			return err
		}
		servers = append(servers, plain)
	}
	warm, err := b.newDevices(warmup)
	if err != nil {
		return err
	}
	for _, s := range servers {
		c, err := b.contend(ctx, s, n)
		if err != nil {
			return err
		}
		if _, _, err := c.target.closed(ctx, "fresh", b.C, each(warm)); err != nil {
			return fmt.Errorf("first enrolments at %s: %w", s.name, err)
		}
	}
	return nil
}

func (b *bench) openCount() int { return int(b.Open.Seconds() * float64(b.Rate)) }

// contend starts a server for devices 1 … n.
func (b *bench) contend(ctx context.Context, s *server, n int) (*contender, error) {
	c := &contender{server: s, figures: map[string]*figures{}}
	for _, s := range scenarios {
		c.figures[s.name] = &figures{}
	}
	for _, name := range []string{"open", "plain", "attested"} {
		c.figures[name] = &figures{}
	}
	b.contenders = append(b.contenders, c)
	token := "floor"
	err := s.start()
	if err == nil {
		err = s.ready(ctx)
	}
	if err == nil && s.status != "" {
		token, err = s.prepare(ctx, n, b.makerFile())
	}
	if err != nil {
		return nil, err
	}
	c.target, err = newTarget(s.addr, filepath.Join(s.dir, "root.crt"), token)
	return c, err
}

// newDevices makes the next n devices.
func (b *bench) newDevices(n int) ([]*identity, error) {
	first := b.devices
	b.devices += n
	return newIdentities(first, n, b.maker)
}

// each copies the devices, so that every contender writes to its own.
func each(devices []*identity) []*identity {
	out := make([]*identity, len(devices))
	for i, d := range devices {
		c := *d
		out[i] = &c
	}
	return out
}

// round measures one scenario once at each contender.
func (b *bench) round(ctx context.Context, s scenario, round int) error {
	var devices []*identity
	if s.name != "renew" {
		var err error
		if devices, err = b.newDevices(b.N); err != nil {
			return err
		}
	}
	for _, c := range b.contenders {
		mine := each(devices)
		if s.name == "renew" {
			var err error
			if mine, err = forRenewal(c.held); err != nil {
				return err
			}
		}
		profile := b.CPUProfile != "" && round == 0 && c.debug != "" && (b.Only == "" || b.Only == s.name)
		if err := b.measure(ctx, c, s, mine, profile); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		if s.name == "fresh" {
			c.held = mine
		}
	}
	return nil
}

// measure runs the closed loop at one contender between two looks at its CPU clock.
func (b *bench) measure(ctx context.Context, c *contender, s scenario, devices []*identity, profile bool) error {
	seconds := 0
	if profile {
		seconds = 1 + b.N/1000
	}
	return b.clock(ctx, c, c.figures[s.name], len(devices), seconds, func() ([]time.Duration, time.Duration, error) {
		return c.target.closed(ctx, s.name, b.C, devices)
	})
}

// clock notes what n enrolments cost a contender, and profiles it for so many seconds; 0 is not at all.
func (b *bench) clock(ctx context.Context, c *contender, f *figures, n, seconds int, load func() ([]time.Duration, time.Duration, error)) error {
	runtime.GC() // the load's own rubbish, before the clock runs
	profiled := make(chan error, 1)
	if seconds > 0 {
		go func() { profiled <- c.profile(ctx, seconds, b.CPUProfile) }()
	}
	before, err := cpuTime(c.cmd.Process.Pid)
	if err != nil {
		return err
	}
	latencies, wall, err := load()
	if err != nil {
		return err
	}
	// Work that the server puts off, such as sequencing its log, belongs to the enrolments.
	time.Sleep(b.Settle)
	after, err := cpuTime(c.cmd.Process.Pid)
	if err != nil {
		return err
	}
	f.cpu = append(f.cpu, (after-before).Seconds()*1000/float64(n))
	f.rate = append(f.rate, float64(n)/wall.Seconds())
	f.latencies = append(f.latencies, latencies...)
	if seconds > 0 {
		return <-profiled
	}
	return nil
}

// openRuns is how often the open loop is run at each contender. One hiccup of
// the machine spoils one run, and the median of an odd number drops it.
const openRuns = 5

// openLoop compares the latencies at a steady rate of arrivals.
func (b *bench) openLoop(ctx context.Context) error {
	for range openRuns {
		devices, err := b.newDevices(b.openCount())
		if err != nil {
			return err
		}
		for _, c := range b.contenders {
			runtime.GC()
			latencies, err := c.target.open(ctx, b.Rate, each(devices))
			if err != nil {
				return fmt.Errorf("open loop at %s: %w", c.name, err)
			}
			f := c.figures["open"]
			f.latencies = append(f.latencies, latencies...)
			f.p99 = append(f.p99, ms(percentile(latencies, 99)))
		}
	}
	b.openTable()
	return nil
}

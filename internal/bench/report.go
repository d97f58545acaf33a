package main

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"time"
)

func (b *bench) printf(format string, args ...any) { fmt.Fprintf(b.out, format, args...) }

// header says what is measured on what.
func (b *bench) header() error {
	disk, err := syncTime(b.dir)
	if err != nil {
		return err
	}
	b.printf("Hallmark bench: %s %s/%s, %d CPUs, fdatasync %d µs in %s\n", runtime.Version(), runtime.GOOS, runtime.GOARCH,
		runtime.NumCPU(), disk.Microseconds(), b.dir)
	if b.Pin {
		b.printf("Server on CPU 0, load on CPU %d. ", runtime.NumCPU()-1)
	} else {
		b.printf("Server and load share all CPUs. ")
	}
	b.printf("%d clients, %d enrolments a round, %d rounds of floor and product in turn, medians.\n", b.C, b.N, b.Rounds)
	b.printf("CPU is the server's alone, user and system, all threads, until %s after the last answer.\n", b.Settle)
	return nil
}

// mark says whether a figure keeps its target.
func mark(value, target float64) string {
	if value <= target || math.IsNaN(value) {
		return "ok"
	}
	return "above target"
}

func ms(d time.Duration) float64 { return d.Seconds() * 1000 }

func (b *bench) table() {
	const row = "%-24s %-18s %10s %8s %9s %9s %9s   %s\n"
	if b.Only != "open" && b.Only != "attested" {
		b.printf("\n"+row, "scenario", "server", "CPU ms", "ratio", "per s", "p50 ms", "p99 ms", "target")
	}
	for _, s := range scenarios {
		floor := b.contenders[0].figures[s.name]
		if len(floor.cpu) == 0 {
			continue
		}
		title := s.title
		for _, c := range b.contenders {
			f := c.figures[s.name]
			ratio := median(f.cpu) / median(floor.cpu)
			verdict := ""
			if c.status != "" {
				verdict = fmt.Sprintf("≤ %.2f  %s", s.target, mark(ratio, s.target))
			}
			b.printf(row, title, c.name, fmt.Sprintf("%.3f", median(f.cpu)), fmt.Sprintf("%.2f", ratio),
				fmt.Sprintf("%.0f", median(f.rate)), fmt.Sprintf("%.1f", ms(percentile(f.latencies, 50))),
				fmt.Sprintf("%.1f", ms(percentile(f.latencies, 99))), verdict)
			title = ""
		}
	}
}

func (b *bench) batchLine(ctx context.Context) error {
	for _, c := range b.contenders {
		if c.status == "" {
			continue
		}
		commits, err := c.commits(ctx)
		if err != nil {
			return err
		}
		b.printf("\ncommit batches: %s\n", commits)
	}
	return nil
}

func (b *bench) openTable() {
	b.printf("\nopen loop, %d enrolments/s over fresh connections, %d runs of %s in turn, median of the runs\n", b.Rate, openRuns, b.Open)
	floor := median(b.contenders[0].figures["open"].p99)
	for _, c := range b.contenders {
		f := c.figures["open"]
		ratio, verdict := median(f.p99)/floor, ""
		if c.status != "" {
			verdict = fmt.Sprintf("   ratio %.2f, target ≤ 1.30  %s", ratio, mark(ratio, 1.3))
		}
		b.printf("  %-18s p50 %6.2f ms   p99 %6.2f ms%s\n", c.name, ms(percentile(f.latencies, 50)), median(f.p99), verdict)
	}
}

func (b *bench) sizeTable(f footprint) {
	resident, start := float64(f.resident)/(1<<20), ms(f.start)
	b.printf("\nafter %d certificates on a new directory (issued after a restart; kept-alive connections)\n", b.Certs)
	b.printf("  resident memory        %7.1f MiB      target < 64    %s   (peak %.1f)\n", resident, mark(resident, 64), float64(f.peak)/(1<<20))
	b.printf("  disk per certificate   %7.0f bytes    target ≤ 1300  %s   (with its audit leaf)\n", f.perCert, mark(f.perCert, 1300))
	b.printf("  start to certificate   %7.1f ms       target < 100   %s   (median of %d, from exec)\n", start, mark(start, 100), restarts)
	b.printf("  commit batches: %s\n", f.commits)
}

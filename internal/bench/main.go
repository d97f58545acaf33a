// Package main measures what one enrolment costs, beside the least that it
// could cost: a bare EST server ("the floor") that parses the CSR, signs with
// crypto/x509, appends to a file in groups and does nothing else. Floor and
// product run in turn under the same load, so a busy machine disturbs both.
//
// It reports; it does not judge: figures past their target are printed as
// such, and the exit status is 0 as long as every answer held a certificate
// for the key that was sent.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"
)

// options are the command line.
type options struct {
	Hallmark   string        // path of the server's binary
	Dir        string        // where data directories are made; empty: the system's temporary directory
	N          int           // enrolments per round and scenario
	C          int           // clients at once
	Rounds     int           // rounds of floor and product in turn
	Rate       int           // enrolments per second of the open loop
	Open       time.Duration // length of one open-loop run
	Certs      int           // certificates issued for the figures on memory, disk and start
	Only       string        // one scenario, or "open" or "size"; empty: all
	NoVerify   bool          // measure the floor that does not verify its own signature, too
	Pin        bool          // server on the first CPU, load on the last
	CPUProfile string        // where to write a CPU profile of the product under the closed loop
	Settle     time.Duration // CPU is counted until this long after the last answer
	Smoke      bool          // a few enrolments of everything
}

func main() {
	var o options
	var floorAddr, floorDir, floorMakers string
	flag.StringVar(&o.Hallmark, "hallmark", "bin/hallmark", "the `binary` to measure; empty measures the floor alone")
	flag.StringVar(&o.Dir, "dir", "", "`directory` for the servers' data (its disk is what is measured)")
	flag.IntVar(&o.N, "n", 5000, "enrolments per round and scenario")
	flag.IntVar(&o.C, "c", 32, "clients at once")
	flag.IntVar(&o.Rounds, "rounds", 3, "rounds of floor and product in turn")
	flag.IntVar(&o.Rate, "rate", 100, "enrolments per second of the open loop")
	flag.DurationVar(&o.Open, "open", 4*time.Second, "length of one open-loop run")
	flag.IntVar(&o.Certs, "certs", 20000, "certificates issued for the figures on memory, disk and start")
	flag.StringVar(&o.Only, "only", "", "one of fresh, factory, kept, renew, open, attested, decision, size")
	flag.BoolVar(&o.NoVerify, "floor-noverify", false, "measure the floor that does not verify its own signature, too")
	flag.BoolVar(&o.Pin, "pin", false, "pin the server to the first CPU and the load to the last")
	flag.StringVar(&o.CPUProfile, "cpuprofile", "", "write a CPU profile of the product's first round to this `file`")
	flag.DurationVar(&o.Settle, "settle", 1200*time.Millisecond, "count CPU until this long after the last answer")
	flag.BoolVar(&o.Smoke, "smoke", false, "a few enrolments of everything, to see that it works")
	flag.StringVar(&floorAddr, "floor-listen", "", "be the floor on this address (used by the bench itself)")
	flag.StringVar(&floorDir, "floor-dir", "", "the floor's `directory`")
	flag.StringVar(&floorMakers, "floor-makers", "", "the `file` with the makers that the floor trusts")
	flag.Parse()
	if floorAddr != "" {
		exit(serveFloor(floorAddr, floorDir, floorMakers, o.NoVerify))
	}
	if o.Smoke {
		o.N, o.C, o.Rounds, o.Open, o.Certs, o.Settle = 40, 8, 1, 500*time.Millisecond, 100, 0
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	exit(run(ctx, o, os.Stdout))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

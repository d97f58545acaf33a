package store

import (
	"math"
	"time"
)

// SweepAll goes round once, as the sweeper does with pauses, and returns in how many steps.
func (db *DB) SweepAll(now time.Time) (steps int, err error) {
	hand := sweeper{after: math.MinInt64}
	for round := false; !round && err == nil; steps++ {
		round, err = db.sweep(&hand, now)
	}
	return steps, err
}

// SweepLater is how long after their time nonces are kept.
const SweepLater = sweepLater

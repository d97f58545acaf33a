package store

import (
	"context"
	"database/sql"
	"math"
	"time"
)

// Spent nonces, kept bodies and attempts that are past their time are swept away, a few
// at a time and beside the commits: a reader goes round the table and counts
// what has expired; only where it found something, that stretch is deleted with
// the next group commit. Neighbours in the table stand on few pages, so this
// costs a commit next to nothing, whereas deleting in order of age would touch a
// page for each row. Each process looks, but only the one elected deletes.

const (
	// sweepStep is how many nonces are looked at in one step.
	sweepStep = 512
	// sweepPause is between two steps, and sweepRest after each round.
	sweepPause, sweepRest = 250 * time.Millisecond, 10 * time.Second
	// sweepLater is how long after their time nonces are still kept. A process whose
	// clock is ahead must not forget what one behind it would still accept.
	sweepLater = 5 * time.Minute
)

// sweeper is where the round stands.
type sweeper struct {
	after int64 // the nonces up to this one have been looked at
}

// stretch is a part of the nonce table.
type stretch struct {
	after, last int64 // over after, up to last
	until       int64 // what expired by then is deleted
	kept        bool  // and kept bodies and attempts, too
}

func (db *DB) sweepLoop() {
	hand := sweeper{after: math.MinInt64}
	next := time.NewTimer(sweepRest)
	defer next.Stop()
	for {
		select {
		case <-db.closing:
			return
		case <-next.C:
		}
		round, err := db.sweep(&hand, time.Now())
		if err != nil && err != errClosed {
			db.log.Warn("sweeping spent nonces", "error", err)
		}
		if round || err != nil {
			next.Reset(sweepRest)
		} else {
			next.Reset(sweepPause)
		}
	}
}

// sweep goes one step, and reports whether that was the last of the round.
func (db *DB) sweep(hand *sweeper, now time.Time) (round bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), sweepRest)
	defer cancel()
	s := stretch{after: hand.after, until: now.Add(-sweepLater).UnixMilli()}
	var last sql.NullInt64
	var seen, expired int
	err = db.one(ctx, `SELECT max(id), count(*), count(CASE WHEN until <= ? THEN 1 END)
		FROM (SELECT id, until FROM nonce WHERE id > ? ORDER BY id LIMIT ?) step`, []any{s.until, s.after, sweepStep}, "", &last, &seen, &expired)
	if err != nil {
		return false, err
	}
	s.last, hand.after = last.Int64, last.Int64
	if round = seen < sweepStep; round {
		hand.after = math.MinInt64
		if s.kept, err = db.keptExpired(ctx, s.until); err != nil {
			return round, err
		}
	}
	if expired == 0 && !s.kept {
		return round, nil
	}
	return round, db.submit(ctx, &unit{sweep: &s})
}

func (db *DB) keptExpired(ctx context.Context, until int64) (bool, error) {
	found := false
	err := db.each(ctx, "SELECT 1 FROM kept WHERE until <= ? UNION ALL SELECT 1 FROM attempt WHERE expires <= ? LIMIT 1", []any{until, until}, func(*sql.Rows) error {
		found = true
		return nil
	})
	return found, err
}

// writeSweep deletes what the sweeper of this process has found, if this is
// the process to do it.
func (d *desk) writeSweep(ctx context.Context) error {
	for _, u := range d.batch {
		if u.sweep == nil {
			continue
		}
		elected, err := d.tx.db.engine.elect(ctx, d.tx)
		if err != nil || !elected {
			return err
		}
		s := u.sweep
		err = d.tx.exec(ctx, "DELETE FROM nonce WHERE id > ? AND id <= ? AND until <= ?", s.after, s.last, s.until)
		if err == nil && s.kept {
			err = d.tx.exec(ctx, "DELETE FROM kept WHERE key IN (SELECT key FROM kept WHERE until <= ? ORDER BY until LIMIT ?)", s.until, sweepStep)
		}
		if err == nil && s.kept {
			err = d.tx.exec(ctx, "DELETE FROM attempt WHERE id IN (SELECT id FROM attempt WHERE expires <= ? ORDER BY expires LIMIT ?)", s.until, sweepStep)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

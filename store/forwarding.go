package store

import (
	"context"
	"database/sql"
	"time"

	"github.com/hallmark-pki/hallmark/decisionlog"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

// Size is how many leaves the tree has.
func (db *DB) Size(ctx context.Context) (int64, error) {
	var n int64
	err := db.one(ctx, "SELECT coalesce(max(idx) + 1, 0) FROM record WHERE idx IS NOT NULL", nil, "", &n)
	return n, err
}

// IndexAt is the index of about the first leaf of that time or later, and never
// of a later one; Size where there is none.
func (db *DB) IndexAt(ctx context.Context, at time.Time) (int64, error) {
	var n sql.NullInt64
	err := db.one(ctx, "SELECT min(idx) FROM (SELECT idx FROM record WHERE id >= ? ORDER BY id LIMIT ?) near", []any{idAt(at.Add(-apart)), crossing}, "", &n)
	if err != nil || n.Valid {
		return n.Int64, err
	}
	return db.Size(ctx)
}

const selectShift = "SELECT next, holder, until FROM forwarding WHERE sink = ?"

// Shift returns how far the record was sent to the sink, or an error of kind NotFound.
func (db *DB) Shift(ctx context.Context, sink string) (decisionlog.Shift, error) {
	var t decisionlog.Shift
	var until int64
	err := db.one(ctx, selectShift, []any{sink}, "nothing was sent to this sink", &t.Next, &t.Holder, &until)
	t.Until = fromMillis(until)
	return t, err
}

// TakeShift is decisionlog.ShiftStore's.
func (db *DB) TakeShift(ctx context.Context, sink string, start int64, holder string, now, until time.Time) (decisionlog.Shift, error) {
	var t decisionlog.Shift
	var ends int64
	err := db.changer.do(ctx, func(tx *session) error {
		ctx := db.engine.patience(ctx)
		if err := tx.exec(ctx, "INSERT INTO forwarding (sink, next, holder, until) VALUES (?, ?, '', 0) ON CONFLICT (sink) DO NOTHING", sink, start); err != nil {
			return err
		}
		if err := tx.exec(ctx, "UPDATE forwarding SET holder = ?, until = ? WHERE sink = ? AND (holder = '' OR holder = ? OR until <= ?)",
			holder, until.UnixMilli(), sink, holder, now.UnixMilli()); err != nil {
			return err
		}
		return tx.one(ctx, selectShift, []any{sink}, &t.Next, &t.Holder, &ends)
	})
	t.Until = fromMillis(ends)
	return t, err
}

// MoveShift is decisionlog.ShiftStore's.
func (db *DB) MoveShift(ctx context.Context, sink, holder string, next int64, until time.Time) error {
	return db.changer.do(ctx, func(tx *session) error {
		n, err := tx.count(db.engine.patience(ctx), "UPDATE forwarding SET next = ?, until = ? WHERE sink = ? AND holder = ? AND next <= ?",
			next, until.UnixMilli(), sink, holder, next)
		if err == nil && n == 0 {
			err = fault.New(fault.Conflict, "shift_lost", "another process sends to this sink by now")
		}
		return err
	})
}

var (
	_ decisionlog.Record     = (*DB)(nil)
	_ decisionlog.ShiftStore = (*DB)(nil)
)

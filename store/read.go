package store

import (
	"context"
	"database/sql"
	"slices"
	"strings"
	"time"
)

// each runs a query on the pool that reads and calls scan for each row. Its
// errors are classified.
func (db *DB) each(ctx context.Context, query string, args []any, scan func(*sql.Rows) error) error {
	if err := ctx.Err(); err != nil {
		return db.classify(err)
	}
	stmt, err := db.read(ctx, query)
	if err != nil {
		return db.classify(err)
	}
	rows, err := stmt.QueryContext(db.engine.patience(ctx), args...)
	return db.classify(scanAll(rows, err, scan))
}

// one runs a query on the pool that reads and scans its one row; missing says
// what it means that there is none.
func (db *DB) one(ctx context.Context, query string, args []any, missing string, dest ...any) error {
	if err := ctx.Err(); err != nil {
		return db.classify(err)
	}
	stmt, err := db.read(ctx, query)
	if err != nil {
		return db.classify(err)
	}
	return db.missing(stmt.QueryRowContext(db.engine.patience(ctx), args...).Scan(dest...), missing)
}

// read returns the query as a prepared statement. There are as many as there
// are queries in this package, times the filters that callers combine.
func (db *DB) read(ctx context.Context, query string) (*sql.Stmt, error) {
	if stmt, ok := db.reads.Load(query); ok {
		return stmt.(*sql.Stmt), nil
	}
	stmt, err := db.readers.PrepareContext(ctx, db.engine.rebind(query))
	if err != nil {
		return nil, err
	}
	if other, raced := db.reads.LoadOrStore(query, stmt); raced {
		stmt.Close()
		return other.(*sql.Stmt), nil
	}
	return stmt, nil
}

// where gathers the conditions of a filter.
type where struct {
	conditions []string
	args       []any
}

func (w *where) and(condition string, args ...any) {
	w.conditions = append(w.conditions, condition)
	w.args = append(w.args, args...)
}

// with is the filter with one more condition; w stays as it is.
func (w *where) with(condition string, args ...any) where {
	more := where{slices.Clone(w.conditions), slices.Clone(w.args)}
	more.and(condition, args...)
	return more
}

func (w *where) text() string {
	if len(w.conditions) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(w.conditions, " AND ")
}

// limit applies what all filters say: 0 means 100.
func limit(n int) int {
	if n <= 0 {
		return 100
	}
	return n
}

// millis is how times are stored; the zero time is 0.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

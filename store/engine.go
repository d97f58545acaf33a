package store

import (
	"context"
	"strconv"
	"strings"
)

// engine is what differs between SQLite and PostgreSQL beyond the migrations.
type engine interface {
	// trouble reads an error of the driver.
	trouble(err error) trouble

	// begin is the statement that starts a transaction.
	begin() string

	// rebind turns a query with ? placeholders and the marks of dialect into the engine's own.
	rebind(query string) string

	// patience is the context to run a statement with.
	patience(ctx context.Context) context.Context

	// lockKeys holds everybody else who names one of the keys until the end of the transaction.
	lockKeys(ctx context.Context, tx *session, keys []int64) error

	// lockRevocations makes the caller the only one to revoke until the end of the transaction.
	lockRevocations(ctx context.Context, tx *session) error

	// elect reports whether this process is the one to sweep until the end of the transaction.
	elect(ctx context.Context, tx *session) (bool, error)

	// lockLog makes the caller the only sequencer until the end of the transaction.
	lockLog(ctx context.Context, tx *session) error
}

// Queries are written once, for both engines: placeholders are ?, {…} is
// repeated as often as there are rows (see session.insert and session.among), and forUpdate stands where
// PostgreSQL has to be told to lock the rows that it reads. SQLite has one
// writer, who needs no such word.
const forUpdate = " /*for update*/"

// orFail stands in an INSERT of many rows whose failure ends the transaction in
// any case. SQLite need not keep then what the statement would take back alone.
const orFail = " /*or fail*/"

// expand repeats the part of a query in braces n times, with commas between.
func expand(query string, n int) string {
	before, rest, found := strings.Cut(query, "{")
	if !found {
		return query
	}
	row, after, _ := strings.Cut(rest, "}")
	return before + strings.TrimSuffix(strings.Repeat(row+",", n), ",") + after
}

// numbered turns each ? into $1, $2 and so on.
func numbered(query string) string {
	var b strings.Builder
	b.Grow(len(query) + len(query)/4)
	n := 0
	for _, c := range []byte(query) {
		if c != '?' {
			b.WriteByte(c)
			continue
		}
		n++
		b.WriteByte('$')
		b.WriteString(strconv.Itoa(n))
	}
	return b.String()
}

package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/hallmark-pki/hallmark/internal/once"
)

// writer carries transactions, one at a time, on a connection that it keeps,
// so that statements are prepared once. A broken connection is replaced.
type writer struct {
	db      *DB
	turn    chan struct{} // holds one token; whoever has it may use session
	session *session
	closed  bool
}

func newWriter(db *DB) *writer {
	w := &writer{db: db, turn: make(chan struct{}, 1)}
	w.turn <- struct{}{}
	return w
}

// do runs f in a transaction, unless the context has a condition that does not
// hold any more. The context is heeded while waiting for the turn; what f makes of it is up to f.
func (w *writer) do(ctx context.Context, f func(tx *session) error) error {
	select {
	case <-w.turn:
	case <-ctx.Done():
		return w.db.classify(ctx.Err())
	case <-w.db.closing:
		return errClosed
	}
	defer func() { w.turn <- struct{}{} }()
	if err := once.Check(ctx); err != nil {
		return err
	}
	return w.db.classify(w.transact(f))
}

// transact runs f in a transaction; the caller has the turn. Its errors are
// not classified.
func (w *writer) transact(f func(tx *session) error) error {
	if err := w.begin(); err != nil {
		return err
	}
	err := w.session.finish(f(w.session))
	if w.session.broken {
		w.db.log.Warn("database connection given up", "error", err)
		w.drop()
	}
	if errors.Is(err, errTakeBack) {
		return nil
	}
	return err
}

// begin starts a transaction. A connection that turns out to be dead by then
// has done no harm: another one is taken.
func (w *writer) begin() error {
	fresh := false
	for {
		if w.closed {
			return errClosed
		}
		if w.session == nil {
			conn, err := w.db.writers.Conn(context.Background())
			if err != nil {
				return err
			}
			w.session, fresh = &session{db: w.db, conn: conn, prepared: make(map[statement]*sql.Stmt)}, true
		}
		err := w.session.exec(context.Background(), w.db.engine.begin())
		if err == nil {
			return nil
		}
		lost := w.db.engine.trouble(err).lost
		if lost {
			w.drop()
		}
		if fresh || !lost {
			return err
		}
	}
}

// drop gives the connection up for good.
func (w *writer) drop() {
	w.session.conn.Raw(func(any) error { return driver.ErrBadConn }) // tells the pool not to use it again
	w.session = nil
}

// close waits for the running transaction, and lets no other begin.
func (w *writer) close() {
	<-w.turn
	defer func() { w.turn <- struct{}{} }()
	w.closed = true
	if w.session != nil {
		w.session.close()
		w.session = nil
	}
}

// session is one connection with its prepared statements.
type session struct {
	db       *DB
	conn     *sql.Conn
	prepared map[statement]*sql.Stmt
	broken   bool // the connection must not be used again
}

// statement is a query and how often the part in braces is repeated.
type statement struct {
	query string
	rows  int
}

// finish ends the transaction: durably where err is nil, else as if it had never been.
func (s *session) finish(err error) error {
	ctx := context.Background()
	if err == nil {
		if err = s.exec(ctx, "COMMIT"); err == nil {
			return nil
		}
		err = errCommit{err}
	}
	if back := s.exec(ctx, "ROLLBACK"); back != nil || s.db.engine.trouble(err).lost {
		s.broken = true
	}
	return err
}

func (s *session) stmt(ctx context.Context, query string, rows int) (*sql.Stmt, error) {
	key := statement{query, rows}
	if stmt := s.prepared[key]; stmt != nil {
		return stmt, nil
	}
	stmt, err := s.conn.PrepareContext(ctx, s.db.engine.rebind(expand(query, rows)))
	if err != nil {
		return nil, fmt.Errorf("preparing %.60q: %w", query, err)
	}
	s.prepared[key] = stmt
	return stmt, nil
}

// exec runs a statement.
func (s *session) exec(ctx context.Context, query string, args ...any) error {
	_, err := s.count(ctx, query, args...)
	return err
}

// count runs a statement and returns how many rows it touched.
func (s *session) count(ctx context.Context, query string, args ...any) (int64, error) {
	stmt, err := s.stmt(ctx, query, 1)
	if err != nil {
		return 0, err
	}
	result, err := stmt.ExecContext(ctx, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// one runs a query that yields one row and scans it into dest; sql.ErrNoRows if there is none.
func (s *session) one(ctx context.Context, query string, args []any, dest ...any) error {
	stmt, err := s.stmt(ctx, query, 1)
	if err != nil {
		return err
	}
	return stmt.QueryRowContext(ctx, args...).Scan(dest...)
}

// each runs a query and calls scan for each row.
func (s *session) each(ctx context.Context, query string, args []any, scan func(*sql.Rows) error) error {
	return s.eachOf(ctx, query, 1, args, scan)
}

func (s *session) eachOf(ctx context.Context, query string, rows int, args []any, scan func(*sql.Rows) error) error {
	stmt, err := s.stmt(ctx, query, rows)
	if err != nil {
		return err
	}
	r, err := stmt.QueryContext(ctx, args...)
	return scanAll(r, err, scan)
}

// errEnough is what a scan returns that wants no more rows.
var errEnough = errors.New("no more rows wanted")

// scanAll calls scan for each row and closes rows.
func scanAll(rows *sql.Rows, err error, scan func(*sql.Rows) error) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			if errors.Is(err, errEnough) {
				return nil
			}
			return err
		}
	}
	return rows.Err()
}

// chunks are the numbers of rows that bulk statements are prepared for.
var chunks = [...]int{64, 16, 8, 4, 2, 1}

// insert runs a statement whose braces hold one row of width values, for any
// number of rows.
func (s *session) insert(ctx context.Context, query string, width int, args []any) error {
	for _, n := range chunks {
		for len(args) >= n*width {
			stmt, err := s.stmt(ctx, query, n)
			if err != nil {
				return err
			}
			if _, err = stmt.ExecContext(ctx, args[:n*width]...); err != nil {
				return err
			}
			args = args[n*width:]
		}
	}
	return nil
}

// insertEach is insert with a statement that returns rows; it calls scan for each.
func (s *session) insertEach(ctx context.Context, query string, width int, args []any, scan func(*sql.Rows) error) error {
	for _, n := range chunks {
		for len(args) >= n*width {
			if err := s.eachOf(ctx, query, n, args[:n*width], scan); err != nil {
				return err
			}
			args = args[n*width:]
		}
	}
	return nil
}

// among runs a query whose braces hold one key of a list, for any number of
// keys; the last is repeated to fill a chunk. Arguments before the list go first.
func (s *session) among(ctx context.Context, query string, first, keys []any, scan func(*sql.Rows) error) error {
	for len(keys) > 0 {
		size := chunks[0]
		for _, n := range chunks {
			if n >= len(keys) {
				size = n
			}
		}
		n := min(size, len(keys))
		args := make([]any, 0, len(first)+size)
		args = append(append(args, first...), keys[:n]...)
		for len(args) < len(first)+size {
			args = append(args, keys[n-1])
		}
		if err := s.eachOf(ctx, query, size, args, scan); err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
}

func (s *session) close() {
	for _, stmt := range s.prepared {
		stmt.Close()
	}
	s.conn.Close()
}

package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/lib/pq"
)

const postgresReaders = 8

// openPostgres opens a PostgreSQL database. Each writer keeps a connection of
// its own: a long import must not hold the commits up, nor a sequencer that
// waits for another process.
func (db *DB) openPostgres(ctx context.Context, address string) error {
	db.engine = postgresEngine{}
	// What writes reads by key, and every key has an index. Without a word, the plan that is made
	// while a table is new, to read all of it, would stay until the table is analysed, a minute later.
	var err error
	if db.writers, err = postgresPool(address, "enable_seqscan=off", "jit=off"); err != nil {
		return err
	}
	db.writers.SetMaxOpenConns(3)
	if err = migratePostgres(ctx, db.writers); err != nil {
		return err
	}
	if db.readers, err = postgresPool(address); err != nil {
		return err
	}
	db.readers.SetMaxOpenConns(postgresReaders)
	db.readers.SetMaxIdleConns(postgresReaders)
	db.committer, db.changer, db.sequencer = newWriter(db), newWriter(db), newWriter(db)
	return nil
}

// postgresPool makes a pool of connections with these settings.
func postgresPool(address string, settings ...string) (*sql.DB, error) {
	name, err := postgresName(address, settings)
	if err != nil {
		return nil, err
	}
	connector, err := pq.NewConnector(name)
	if err != nil {
		return nil, fmt.Errorf("store: the database URL is not usable: %w", err)
	}
	return sql.OpenDB(connector), nil
}

// postgresName adds to the URL what we rely on. Its errors never show the
// URL, which may hold a password.
func postgresName(address string, settings []string) (string, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return "", errors.New("store: the database URL must look like postgres://user@host/database")
	}
	q := u.Query()
	q.Set("binary_parameters", "yes") // bytea travels as bytes, not as hex
	if !q.Has("synchronous_commit") {
		q.Set("synchronous_commit", "on") // COMMIT returns when the log is on the disk
	}
	for _, s := range settings {
		key, value, _ := strings.Cut(s, "=")
		q.Set(key, value)
	}
	u.RawQuery = q.Encode()
	return u.String(), nil
}

type postgresEngine struct{}

// begin asks for READ COMMITTED: each statement sees what was committed when
// it began, so that what is read after a lock is as fresh as the lock.
func (postgresEngine) begin() string { return "BEGIN ISOLATION LEVEL READ COMMITTED" }

func (postgresEngine) rebind(query string) string {
	return numbered(strings.ReplaceAll(query, forUpdate, " FOR NO KEY UPDATE"))
}

// lockKeys takes the locks in ascending order, as everybody does, so that no
// two wait for each other.
func (postgresEngine) lockKeys(ctx context.Context, tx *session, keys []int64) error {
	slices.Sort(keys)
	args := make([]any, len(keys))
	for i, k := range keys {
		args[i] = k
	}
	return tx.among(ctx, "SELECT pg_advisory_xact_lock(k) FROM unnest(ARRAY[{?::bigint}]) k", nil, args, ignore)
}

// lockLog uses the two-part key space, which lockKeys does not touch.
func (postgresEngine) lockLog(ctx context.Context, tx *session) error {
	return tx.each(ctx, "SELECT pg_advisory_xact_lock(?, ?)", []any{logLock, 1}, ignore)
}

// lockRevocations is the last lock that revoking takes.
func (postgresEngine) lockRevocations(ctx context.Context, tx *session) error {
	return tx.each(ctx, "SELECT pg_advisory_xact_lock(?, ?)", []any{logLock, 3}, ignore)
}

// elect takes the sweeper's lock if nobody else has it.
func (postgresEngine) elect(ctx context.Context, tx *session) (won bool, err error) {
	err = tx.one(ctx, "SELECT pg_try_advisory_xact_lock(?, ?)", []any{logLock, 2}, &won)
	return won, err
}

// logLock names our work among PostgreSQL's advisory locks: 1 the audit log, 2 the sweeping, 3 revoking.
const logLock = 0x48616c6c // "Hall"

func ignore(*sql.Rows) error { return nil }

// trouble sorts SQLSTATEs (PostgreSQL manual, Appendix A).
func (postgresEngine) trouble(err error) trouble {
	var t trouble
	if e := (*pq.Error)(nil); errors.As(err, &e) {
		switch state := string(e.Code); {
		case state == "23505": // unique_violation
			t.unique = e.Constraint
		case strings.HasPrefix(state, "08"), strings.HasPrefix(state, "57P"): // connection exception, shutdown
			t.lost = true
		case strings.HasPrefix(state, "40"), strings.HasPrefix(state, "53"), state == "55P03", state == "25006":
			t.busy = true // rollback (deadlock, serialization), out of resources, lock timeout, a read-only standby
		}
		return t
	}
	var network net.Error
	t.lost = errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.As(err, &network)
	return t
}

// patience gives up with the caller: the network may be slow, or the other end gone.
func (postgresEngine) patience(ctx context.Context) context.Context { return ctx }

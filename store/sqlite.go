package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"runtime"
	"strings"
	"time"

	"modernc.org/sqlite"
	codes "modernc.org/sqlite/lib"
)

const (
	// sqliteReaders is how many connections read, unless there are fewer
	// processors: a read waits for nothing, and each has a cache of its own.
	sqliteReaders = 4
	// idle is how long the embedded database must be left alone before its
	// write-ahead log is folded into the file.
	idle = 3 * time.Second
)

// openSQLite opens the embedded database with one connection that writes and a
// few that read. In WAL mode readers never wait for the writer, nor it for them.
func (db *DB) openSQLite(ctx context.Context, path string) error {
	db.engine, db.path = sqliteEngine{}, path
	if err := createFile(path); err != nil {
		return fmt.Errorf("store: creating %s: %w", path, err)
	}
	var err error
	// synchronous(FULL): COMMIT returns when the write-ahead log is on the disk.
	if db.writers, err = sql.Open("sqlite", sqliteName(path, "synchronous(FULL)", "cache_size(-3072)", foldAnyway, "journal_size_limit(16777216)")); err != nil {
		return err
	}
	db.writers.SetMaxOpenConns(1)
	if err = awaken(ctx, db.writers); err != nil {
		return fmt.Errorf("store: opening %s: %w", path, err)
	}
	if err = migrateSQLite(ctx, db.writers, path); err != nil {
		return err
	}
	if db.readers, err = sql.Open("sqlite", sqliteName(path, "query_only(1)", "cache_size(-512)")); err != nil {
		return err
	}
	readers := min(sqliteReaders, max(2, runtime.GOMAXPROCS(0)))
	db.readers.SetMaxOpenConns(readers)
	db.readers.SetMaxIdleConns(readers)
	db.committer = newWriter(db)
	db.changer, db.sequencer = db.committer, db.committer
	db.folder, err = newFolder(path)
	return err
}

// awaken opens the first connection. Processes that do so with a new file at the
// same moment are in each other's way while it becomes one with a write-ahead log, and
// SQLite does not wait then: it says that it is busy, to each of them at once.
func awaken(ctx context.Context, pool *sql.DB) error {
	const patience = 10 * time.Second
	for start := time.Now(); ; {
		err := pool.PingContext(ctx)
		if err == nil || !(sqliteEngine{}).trouble(err).busy || time.Since(start) > patience {
			return err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// createFile makes an empty database file that only its owner may read. SQLite
// gives its log the same mode.
func createFile(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}

func sqliteName(path string, pragmas ...string) string {
	v := url.Values{"_pragma": append([]string{"busy_timeout(10000)", "journal_mode(WAL)"}, pragmas...)}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + v.Encode()
}

// fold empties the write-ahead log into the database file, if nobody reads
// from it just now.
func (w *writer) fold() {
	<-w.turn
	defer func() { w.turn <- struct{}{} }()
	if w.session == nil {
		return
	}
	if _, err := w.session.conn.ExecContext(context.Background(), "PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		w.db.log.Warn("folding the write-ahead log", "error", err)
	}
}

type sqliteEngine struct{}

func (sqliteEngine) begin() string { return "BEGIN IMMEDIATE" }

func (sqliteEngine) rebind(query string) string { return strings.ReplaceAll(query, orFail, " OR FAIL") }

// lockKeys has nothing to do: whoever is in a transaction is the only writer.
func (sqliteEngine) lockKeys(context.Context, *session, []int64) error { return nil }

// lockLog has nothing to do, for the same reason.
func (sqliteEngine) lockLog(context.Context, *session) error { return nil }

// lockRevocations has nothing to do, for the same reason.
func (sqliteEngine) lockRevocations(context.Context, *session) error { return nil }

// elect is always won: the embedded database has one process.
func (sqliteEngine) elect(context.Context, *session) (bool, error) { return true, nil }

func (sqliteEngine) trouble(err error) trouble {
	var t trouble
	if e := (*sqlite.Error)(nil); errors.As(err, &e) {
		switch e.Code() & 0xff {
		case codes.SQLITE_BUSY, codes.SQLITE_LOCKED, codes.SQLITE_FULL:
			t.busy = true
		case codes.SQLITE_IOERR, codes.SQLITE_CORRUPT, codes.SQLITE_CANTOPEN:
			t.lost = true
		case codes.SQLITE_CONSTRAINT:
			t.unique = uniqueIndex(e.Error())
		}
	}
	return t
}

// uniqueIndex reads "… UNIQUE constraint failed: certificate.serial (2067)" and returns "certificate_serial".
func uniqueIndex(text string) string {
	_, name, found := strings.Cut(text, "UNIQUE constraint failed: ")
	if !found {
		return ""
	}
	name, _, _ = strings.Cut(name, " ")
	return strings.ReplaceAll(strings.Trim(name, ","), ".", "_")
}

// patience lets a statement finish that has begun: the embedded database
// answers in microseconds, which is less than it takes to watch a context.
func (sqliteEngine) patience(context.Context) context.Context { return context.Background() }

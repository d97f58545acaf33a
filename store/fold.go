package store

import (
	"context"
	"database/sql"
)

// Commits to the embedded database append to its write-ahead log, and from time
// to time the log has to be folded into the database file. SQLite would do that
// inside whichever commit makes the log too long, and its caller would wait for
// all of it. So a folder does it on a connection of its own, beside the commits.

const (
	// foldEvery is after how many calls the log is folded: some megabytes.
	foldEvery = 512
	// foldAnyway is the length, in pages of 4 KiB, at which a commit folds the
	// log after all, should the folder not keep up.
	foldAnyway = "wal_autocheckpoint(16384)"
)

// folder folds the write-ahead log of an embedded database while it is used.
type folder struct {
	conn    *sql.DB
	due     chan struct{}
	commits int // calls since the last time; only the committer counts
}

func newFolder(path string) (*folder, error) {
	conn, err := sql.Open("sqlite", sqliteName(path, "synchronous(FULL)", "cache_size(-64)"))
	if err != nil {
		return nil, err
	}
	conn.SetMaxOpenConns(1)
	return &folder{conn: conn, due: make(chan struct{}, 1)}, nil
}

// committed counts calls, and wakes the folder when there are enough. The nil
// folder has nothing to do.
func (f *folder) committed(calls int) {
	if f == nil {
		return
	}
	if f.commits += calls; f.commits < foldEvery {
		return
	}
	f.commits = 0
	select {
	case f.due <- struct{}{}:
	default: // it is at it
	}
}

// foldLoop folds until the database is closed. A passive checkpoint waits for nobody
// and nobody for it; what it cannot fold, because somebody still reads it, the
// next one does.
func (db *DB) foldLoop() {
	for {
		select {
		case <-db.closing:
			return
		case <-db.folder.due:
			if _, err := db.folder.conn.ExecContext(context.Background(), "PRAGMA wal_checkpoint(PASSIVE)"); err != nil {
				db.log.Warn("folding the write-ahead log", "error", err)
			}
		}
	}
}

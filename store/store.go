// Package store is the one database: it keeps what the other rooms declare in
// their small Store interfaces, in one schema on two engines. SQLite is
// embedded and the default; PostgreSQL serves several replicas at once.
//
// A fact and the audit event that tells of it are always written in one
// transaction, and a method that writes returns only when that transaction is
// durable. Callers that write at the same moment share a transaction (see
// commit.go); each still gets its own result.
//
// Errors are classified with internal/fault: NotFound, Conflict and Denied as
// the rooms' interfaces say, Busy where the database cannot just now, and
// Internal for the rest.
package store

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/ca/status"
	"github.com/hallmark-pki/hallmark/enroll"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/operators"
	"github.com/hallmark-pki/hallmark/policy"
	"github.com/hallmark-pki/hallmark/policy/release"
)

// What DB is for the other rooms.
var (
	_ ca.Store           = (*DB)(nil)
	_ ca.Ledger          = (*DB)(nil)
	_ status.Ledger      = (*DB)(nil)
	_ status.Shelf       = (*DB)(nil)
	_ fleet.Store        = (*DB)(nil)
	_ enroll.TokenStore  = (*DB)(nil)
	_ enroll.AnchorStore = (*DB)(nil)
	_ enroll.HeldStore   = (*DB)(nil)
	_ audit.Store        = (*DB)(nil)
	_ audit.Journal      = (*DB)(nil)

	_ attest.BondStore     = (*DB)(nil)
	_ attest.EvidenceStore = (*DB)(nil)
	_ attest.BaselineStore = (*DB)(nil)
	_ enroll.NonceStore    = (*DB)(nil)
	_ policy.Warden        = (*DB)(nil)
	_ operators.Store      = (*DB)(nil)

	_ release.ProposalStore = (*DB)(nil)
	_ release.RevisionStore = (*DB)(nil)
	_ release.TrialStore    = (*DB)(nil)
	_ release.Record        = (*DB)(nil)
	_ operators.Roster      = (*DB)(nil)
	_ operators.SealStore   = (*DB)(nil)
)

// Config says which database to open. Exactly one of Path and URL is set.
type Config struct {
	Path string // file of the embedded database, created with mode 0600 if absent
	URL  string // of a PostgreSQL database: postgres://…

	Logger  *slog.Logger                              // told of lost connections; nil discards
	Observe func(transaction int, took time.Duration) // told how many calls each commit carried; may be nil
}

// DB is an open database. Its methods may be called concurrently.
type DB struct {
	engine  engine
	observe func(int, time.Duration)
	log     *slog.Logger

	readers *sql.DB
	reads   sync.Map // query text → *sql.Stmt on readers

	writers   *sql.DB
	committer *writer // carries the group commits
	changer   *writer // carries changes that need a transaction of their own
	sequencer *writer // carries Sequence; on SQLite all three are the same one

	queue   chan *unit    // callers that wait to be taken into a batch
	closing chan struct{} // closed by Close
	workers sync.WaitGroup
	once    sync.Once
	packer  *packer
	kept    digests // of evidence that is there
	path    string  // of the embedded database
	folder  *folder // of the embedded database
}

// Open opens the database, creates it if it is not there, and brings its
// schema up to date. A database that a newer version wrote is refused.
func Open(ctx context.Context, c Config) (*DB, error) {
	if (c.Path == "") == (c.URL == "") {
		return nil, errors.New("store: set either Path or URL")
	}
	db := &DB{observe: c.Observe, log: c.Logger, queue: make(chan *unit), closing: make(chan struct{})}
	if db.log == nil {
		db.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if db.packer, err = newPacker(); err != nil {
		return nil, err
	}
	if c.URL != "" {
		err = db.openPostgres(ctx, c.URL)
	} else {
		err = db.openSQLite(ctx, c.Path)
	}
	if err != nil {
		return nil, errors.Join(err, db.closePools())
	}
	db.workers.Go(db.commitLoop)
	db.workers.Go(db.sweepLoop)
	if db.folder != nil {
		db.workers.Go(db.foldLoop)
	}
	return db, nil
}

// Close lets running commits finish, refuses new ones, and closes the
// database. The embedded one is left as a single file.
func (db *DB) Close() error {
	var err error
	db.once.Do(func() {
		close(db.closing)
		db.workers.Wait()
		for _, w := range []*writer{db.committer, db.changer, db.sequencer} {
			w.close()
		}
		err = db.closePools()
	})
	return err
}

func (db *DB) closePools() error {
	var errs []error
	pools := []*sql.DB{db.readers, db.writers} // SQLite folds its log when the last of them closes
	if db.folder != nil {
		pools = append(pools, db.folder.conn)
	}
	for _, pool := range pools {
		if pool != nil {
			errs = append(errs, pool.Close())
		}
	}
	return errors.Join(errs...)
}

// Ping reports whether the database can be written to: it makes a change and
// takes it back.
func (db *DB) Ping(ctx context.Context) error {
	return db.changer.do(ctx, func(tx *session) error {
		if err := tx.exec(ctx, "INSERT INTO tile (level, idx, hashes) VALUES (?, ?, ?)", -1, -1, []byte{}); err != nil {
			return err
		}
		return errTakeBack
	})
}

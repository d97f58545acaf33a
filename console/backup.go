package console

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// Backup says what a backup holds.
type Backup struct {
	Dir      string   // the data directory
	Files    []string // what to take from it: files and folders, relative; those that do not exist are left out
	Database string   // the name that the database's copy gets in the archive, such as hallmark.db

	// Snapshot writes a consistent copy of the database to a new file at path. Nil
	// where the database is another server's, which has its own means.
	Snapshot func(ctx context.Context, path string) error
}

// BackupDatabaseHeader tells whether the archive of an answer holds the
// database: "included", or "not-included" where PostgreSQL has it.
const BackupDatabaseHeader = "Hallmark-Backup-Database"

// createBackup answers with everything that a new machine needs to go on from here.
func (c *Console) createBackup(call *call) (deed, error) {
	return deed{
		resource: policy.Entity{Type: "backup"},
		do: func(ctx context.Context, _ policy.Permit) (answer, error) {
			return c.startBackup(ctx, call.at)
		},
	}, nil
}

// startBackup takes the snapshot, so that what can fail fails before the
// answer begins, and leaves the rest to the stream.
func (c *Console) startBackup(ctx context.Context, at time.Time) (answer, error) {
	if c.Backup.Dir == "" {
		return answer{}, fault.New(fault.Conflict, "no_backup", "this server has no data directory to back up")
	}
	if !c.backup.TryLock() {
		return answer{}, &fault.Error{Kind: fault.Busy, Code: "backup_running", Says: "another backup is being made", After: 10 * time.Second}
	}
	files, cleanup, err := c.gather(ctx)
	if err != nil {
		cleanup()
		c.backup.Unlock()
		return answer{}, fmt.Errorf("preparing a backup: %w", err)
	}
	database := "included"
	if c.Backup.Snapshot == nil {
		database = "not-included"
	}
	return answer{
		status: http.StatusOK,
		header: map[string]string{
			"Content-Type":        "application/gzip",
			"Content-Disposition": `attachment; filename="hallmark-backup-` + at.UTC().Format("20060102T150405Z") + `.tar.gz"`,
			BackupDatabaseHeader:  database,
		},
		stream: func(w io.Writer) error {
			defer c.backup.Unlock()
			defer cleanup()
			return writeArchive(w, files, Manifest{Created: at.UTC(), Database: c.Backup.Snapshot != nil})
		},
	}, nil
}

// gather lists what goes into the archive. cleanup removes the snapshot; it may be called whatever gather returns.
func (c *Console) gather(ctx context.Context) (files []source, cleanup func(), err error) {
	cleanup = func() {}
	for _, name := range c.Backup.Files {
		if files, err = addTree(files, c.Backup.Dir, name); err != nil {
			return nil, cleanup, err
		}
	}
	if c.Backup.Snapshot == nil {
		return files, cleanup, nil
	}
	// Beside the original: the copy is as secret and as large as that.
	dir, err := os.MkdirTemp(c.Backup.Dir, ".backup-")
	if err != nil {
		return nil, cleanup, err
	}
	cleanup = func() { os.RemoveAll(dir) }
	snapshot := filepath.Join(dir, c.Backup.Database)
	if err := c.Backup.Snapshot(ctx, snapshot); err != nil {
		return nil, cleanup, err
	}
	return append(files, source{name: c.Backup.Database, path: snapshot, mode: 0o600}), cleanup, nil
}

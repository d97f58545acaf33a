package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hallmark-pki/hallmark/internal/fault"
)

// Backup writes a consistent copy of the embedded database to a new file of
// mode 0600, while everybody goes on working. A file that exists is an error
// of kind Conflict, and so is a PostgreSQL database: pg_dump copies those.
func (db *DB) Backup(ctx context.Context, path string) error {
	if db.path == "" {
		return fault.New(fault.Conflict, "backup_elsewhere", "this server keeps its data in PostgreSQL: back that up with pg_dump")
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fault.Wrap(fault.Conflict, "file_exists", "the file for the backup exists already", err)
	}
	if err != nil {
		return fmt.Errorf("creating the backup: %w", err)
	}
	err = errors.Join(db.copyTo(ctx, path), f.Sync(), f.Close(), syncFolder(path))
	if err != nil {
		os.Remove(path)
	}
	return db.classify(err)
}

// copyTo fills an empty file. VACUUM INTO reads in one transaction.
func (db *DB) copyTo(ctx context.Context, path string) error {
	source, err := sql.Open("sqlite", sqliteName(db.path))
	if err != nil {
		return err
	}
	_, err = source.ExecContext(ctx, "VACUUM INTO ?", path)
	return errors.Join(err, source.Close())
}

func syncFolder(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

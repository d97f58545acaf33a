package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// Migrations go forward only: 00001_name.sql and so on, one folder per engine.
//
//go:embed migrations
var migrations embed.FS

// migrateSQLite brings the embedded database up to date. A second process
// that opens it at the same moment waits, by a lock on the folder.
func migrateSQLite(ctx context.Context, db *sql.DB, path string) error {
	folder, _ := fs.Sub(migrations, "migrations/sqlite")
	if done, err := upToDate(ctx, db, folder); done || err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close() // and with it the lock
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("store: locking %s for the migration: %w", dir.Name(), err)
	}
	return migrate(ctx, goose.DialectSQLite3, db, folder)
}

// migratePostgres brings a PostgreSQL database up to date under an advisory lock.
func migratePostgres(ctx context.Context, db *sql.DB) error {
	folder, _ := fs.Sub(migrations, "migrations/postgres")
	if done, err := upToDate(ctx, db, folder); done || err != nil {
		return err
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300), lock.WithUnlockTimeout(1, 30))
	if err != nil {
		return err
	}
	return migrate(ctx, goose.DialectPostgres, db, folder, goose.WithSessionLocker(locker))
}

func migrate(ctx context.Context, dialect goose.Dialect, db *sql.DB, folder fs.FS, options ...goose.ProviderOption) error {
	options = append(options, goose.WithDisableGlobalRegistry(true))
	provider, err := goose.NewProvider(dialect, db, folder, options...)
	if err != nil {
		return fmt.Errorf("store: reading the migrations: %w", err)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("store: migrating the schema: %w", err)
	}
	if done, err := upToDate(ctx, db, folder); !done {
		return errors.Join(errors.New("store: the schema is not up to date after the migration"), err)
	}
	return nil
}

// upToDate reports whether the newest migration has been applied. It is all
// that opening a database costs on most days. A newer schema is an error.
func upToDate(ctx context.Context, db *sql.DB, folder fs.FS) (bool, error) {
	newest, err := newestMigration(folder)
	if err != nil {
		return false, err
	}
	if err := db.PingContext(ctx); err != nil {
		return false, fmt.Errorf("store: opening the database: %w", err)
	}
	var version int64
	if err := db.QueryRowContext(ctx, "SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied").Scan(&version); err != nil {
		return false, nil // no such table: a new database. Anything else will show in the migration.
	}
	if version > newest {
		return false, fmt.Errorf("store: the database has schema version %d, but this program knows versions up to %d: start the newer program that wrote it, or restore a backup from before", version, newest)
	}
	return version == newest, nil
}

func newestMigration(folder fs.FS) (int64, error) {
	files, err := fs.ReadDir(folder, ".")
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("store: no migrations: %w", err)
	}
	number, _, _ := strings.Cut(files[len(files)-1].Name(), "_")
	return strconv.ParseInt(number, 10, 64)
}

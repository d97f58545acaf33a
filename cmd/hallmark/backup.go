package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/hallmark-pki/hallmark/console"
)

func backupCommand() *cobra.Command {
	c := new(connection)
	var file string
	backup := &cobra.Command{
		Use:   "backup --out FILE",
		Short: "Back up the database and the keys of a running server",
		Long: `Write one tar.gz with everything a new machine needs to go on: a snapshot of the
embedded database, the keys, the configuration, the policy, the operators'
credentials. The file is as secret as the keys in it. A PostgreSQL database is
not in it: back that up by its own means.`,
		Example: `  hallmark backup --out hallmark-$(date +%F).tar.gz
  hallmark restore hallmark-2026-11-23.tar.gz --data /var/lib/hallmark-new`,
		Args: takes(),
		RunE: func(command *cobra.Command, args []string) error {
			if err := required(command, "out", file); err != nil {
				return err
			}
			return c.verb(func(ctx context.Context, s *session, _ []string) error { return takeBackup(ctx, s, file) })(command, args)
		},
	}
	c.flags(backup)
	backup.Flags().StringVar(&file, "out", "", "the file to write")
	return backup
}

func takeBackup(ctx context.Context, s *session, file string) error {
	header, size, err := s.download(ctx, "POST", "/api/v1/backup", file, 0o600)
	if err != nil {
		return err
	}
	if header.Get(console.BackupDatabaseHeader) != "included" {
		fmt.Fprintln(s.err, "The database is not in this backup: it is PostgreSQL's. Back it up there, at the same time.")
	}
	return s.wrote(file, size)
}

// download writes an answer to a file that appears when it is whole.
func (s *session) download(ctx context.Context, method, path, file string, mode os.FileMode) (header http.Header, size int64, err error) {
	response, err := s.call(ctx, method, path, nil, nil)
	if err != nil {
		return nil, 0, err
	}
	defer response.Body.Close()
	partial, err := os.CreateTemp(filepath.Dir(file), ".hallmark-*") // mode 0600
	if err != nil {
		return nil, 0, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, partial.Close(), os.Remove(partial.Name()))
		}
	}()
	if size, err = io.Copy(partial, response.Body); err != nil {
		return nil, 0, fmt.Errorf("the transfer broke off: %w", err)
	}
	if err = errors.Join(partial.Chmod(mode), partial.Sync()); err != nil {
		return nil, 0, err
	}
	if err = os.Rename(partial.Name(), file); err != nil {
		return nil, 0, err
	}
	return response.Header, size, partial.Close()
}

func restoreCommand() *cobra.Command {
	c := new(connection)
	restore := &cobra.Command{
		Use:   "restore FILE --data DIR",
		Short: "Put a backup into a new data directory, offline",
		Long: `Check a backup and put it into a data directory that does not exist or is
empty. Nothing is put in place unless all of the archive is in order.`,
		Example: `  hallmark restore hallmark-2026-11-23.tar.gz --data /var/lib/hallmark-new
  hallmark serve --data /var/lib/hallmark-new`,
		Args: takes("FILE"),
		RunE: func(command *cobra.Command, args []string) error {
			asJSON, err := c.asJSON()
			if err != nil {
				return err
			}
			return restoreFile(command.OutOrStdout(), args[0], c.dir, asJSON)
		},
	}
	restore.Flags().StringVar(&c.dir, "data", defaultDir, "the data directory to make")
	c.outputFlag(restore)
	return restore
}

func restoreFile(out io.Writer, file, dir string, asJSON bool) error {
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	m, err := console.Restore(in, dir)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(out, map[string]any{"data": dir, "created": m.Created, "database": m.Database, "files": len(m.Files)})
	}
	fmt.Fprintf(out, "restored %d files of %s into %s\n", len(m.Files), when(m.Created), dir)
	if !m.Database {
		fmt.Fprintln(out, "The database is not in this backup: restore PostgreSQL by its own means before you start the server.")
	}
	return nil
}

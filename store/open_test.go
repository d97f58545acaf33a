package store_test

import (
	"bytes"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/store"
	"github.com/hallmark-pki/hallmark/store/storetest"
)

// TestNewerDatabase: a database that a newer version wrote is refused, and says so.
func TestNewerDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hallmark.db")
	url := cluster(t).Database(t)
	for driver, c := range map[string]store.Config{"sqlite": {Path: path}, "postgres": {URL: url}} {
		db, err := store.Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		raw, err := sql.Open(driver, c.Path+c.URL)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := raw.Exec("INSERT INTO goose_db_version (version_id, is_applied) VALUES (4711, true)"); err != nil {
			t.Fatal(err)
		}
		raw.Close()
		if _, err = store.Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), "4711") {
			t.Errorf("%s: opening a newer database: %v", driver, err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, c := range []store.Config{{}, {Path: "a", URL: "b"}, {Path: "/nonexistent/folder/file"},
		{URL: "mysql://secret@host/x"}, {URL: "postgres://u:secret@127.0.0.1:1/x?connect_timeout=1&sslmode=disable"}} {
		_, err := store.Open(t.Context(), c)
		if err == nil {
			t.Errorf("%+v was opened", c)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("the error shows a password: %v", err)
		}
	}
	path := filepath.Join(t.TempDir(), "not-a-database")
	if err := os.WriteFile(path, []byte(strings.Repeat("what is this? ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), store.Config{Path: path}); err == nil {
		t.Error("a text file was opened as a database")
	}
}

// TestFiles: only the owner may read the data, and the write-ahead log does not stay large.
func TestFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a #%?.db")
	db := open(t, store.Config{Path: path})
	fill(t, db, 500)
	for _, suffix := range []string{"", "-wal", "-shm"} {
		file, err := os.Stat(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if file.Mode() != 0o600 {
			t.Errorf("%s has mode %v", file.Name(), file.Mode())
		}
	}
	for start := time.Now(); ; time.Sleep(100 * time.Millisecond) { // the database is idle now
		file, err := os.Stat(path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		if file.Size() == 0 {
			break
		}
		if time.Since(start) > time.Minute {
			t.Fatalf("the write-ahead log still has %d bytes", file.Size())
		}
	}
}

func TestBackup(t *testing.T) {
	folder := t.TempDir()
	db := open(t, store.Config{Path: filepath.Join(folder, "hallmark.db")})
	all, _ := enrolments(t, db, 300)
	copied := filepath.Join(folder, "copy.db")
	secret, err := db.Secret(t.Context(), "nonce")
	if err != nil {
		t.Fatal(err)
	}
	o := storetest.Outcome(all[0].Certificate.Device, storetest.NewTPM(), 1, 9000)
	if err := db.Attest(t.Context(), o, storetest.Event("device.attest", o.Bond.Device)); err != nil {
		t.Fatal(err)
	}
	if err := db.Spend(t.Context(), [32]byte{7}, storetest.Now); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { // under load
		for _, i := range all {
			if err := db.Issue(t.Context(), i); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	if err := db.Backup(t.Context(), copied); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := db.Backup(t.Context(), copied); !fault.Is(err, fault.Conflict) {
		t.Errorf("a backup over a file: %v", err)
	}
	if file, err := os.Stat(copied); err != nil || file.Mode() != 0o600 {
		t.Errorf("the backup: %v, %v", file.Mode(), err)
	}
	other := open(t, store.Config{Path: copied})
	d, err := other.Device(t.Context(), all[299].Certificate.Device)
	if err != nil {
		t.Error(d, err)
	}
	if bond, err := other.Bond(t.Context(), o.Bond.Device); err != nil || bond.AK != o.Bond.AK {
		t.Errorf("the bond in the backup is %+v, %v", bond, err)
	}
	for _, b := range o.Blobs {
		if _, err := other.Evidence(t.Context(), b.SHA256); err != nil {
			t.Error(err)
		}
	}
	if s, err := other.Secret(t.Context(), "nonce"); err != nil || !bytes.Equal(s, secret) {
		t.Errorf("the secret in the backup is another, %v", err)
	}
	if err := other.Spend(t.Context(), [32]byte{7}, storetest.Now); !fault.Is(err, fault.Conflict) {
		t.Errorf("a nonce that the backup knows: %v", err)
	}
	if err := other.Append(t.Context(), storetest.Event("a.b", "")); err != nil {
		t.Error(err)
	}

	err = replicated(t)(t).Backup(t.Context(), filepath.Join(folder, "other.db"))
	if !fault.Is(err, fault.Conflict) || !strings.Contains(fault.Of(err).Says, "pg_dump") {
		t.Errorf("a backup of PostgreSQL: %v", err)
	}
}

package audit_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/hallmark-pki/hallmark/store"
)

// database is the embedded database, and a way behind its back.
type database struct {
	testing.TB
	*store.DB
	intruder *sql.DB
}

func openDatabase(t testing.TB) *database {
	path := filepath.Join(t.TempDir(), "hallmark.db")
	db, err := store.Open(context.Background(), store.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	intruder, err := sql.Open("sqlite", // the driver that package store brings along
		"file:"+path+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := intruder.Close(); err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return &database{TB: t, DB: db, intruder: intruder}
}

// tamper changes exactly one row.
func (d *database) tamper(query string, args ...any) {
	d.Helper()
	result, err := d.intruder.Exec(query, args...)
	if err != nil {
		d.Fatal(err)
	}
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		d.Fatalf("%s changed %d rows, %v", query, n, err)
	}
}

func (d *database) setCheckpoint(signed []byte) {
	d.Helper()
	d.tamper("INSERT INTO checkpoint (id, note) VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET note = excluded.note", signed)
}

func (d *database) dropCheckpoint() {
	d.Helper()
	d.tamper("DELETE FROM checkpoint")
}

func (d *database) dropTile(level int, index int64) {
	d.Helper()
	d.tamper("DELETE FROM tile WHERE level = ? AND idx = ?", level, index)
}

// flipTile changes one bit of a tile.
func (d *database) flipTile(level int, index int64) {
	d.Helper()
	hashes, err := d.Tile(context.Background(), level, index)
	if err != nil || len(hashes) == 0 {
		d.Fatalf("tile %d/%d: %v", level, index, err)
	}
	hashes[7] ^= 1
	d.tamper("UPDATE tile SET hashes = ? WHERE level = ? AND idx = ?", hashes, level, index)
}

// setLeaf puts another leaf in the place of one, unpacked (packing 0).
func (d *database) setLeaf(index int64, leaf []byte) {
	d.Helper()
	d.tamper("UPDATE record SET leaf = ? WHERE idx = ?", append([]byte{0}, leaf...), index)
}

// setWaiting puts another leaf in the place of one that has no index yet.
func (d *database) setWaiting(position int64, leaf []byte) {
	d.Helper()
	d.tamper("UPDATE record SET leaf = ? WHERE seq = ? AND idx IS NULL", append([]byte{0}, leaf...), position)
}

func (d *database) dropLeaf(index int64) {
	d.Helper()
	d.tamper("DELETE FROM record WHERE idx = ?", index)
}

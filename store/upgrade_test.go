package store_test

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/store"
	"github.com/hallmark-pki/hallmark/store/storetest"
)

// TestUpgrade: a database that the first version left, with certificates in
// it, opens, keeps what it holds, and takes what only the second version knows.
func TestUpgrade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hallmark.db")
	for driver, c := range map[string]store.Config{"sqlite": {Path: path}, "postgres": {URL: cluster(t).Database(t)}} {
		t.Run(driver, func(t *testing.T) {
			issued := firstVersion(t, driver, c)
			handles := make([]*store.DB, 4)
			errs := make(chan error)
			for i := range handles { // several processes are started at the same moment
				go func() {
					var err error
					handles[i], err = store.Open(t.Context(), c)
					errs <- err
				}()
			}
			for range handles {
				if err := <-errs; err != nil {
					t.Fatal(err)
				}
			}
			for _, db := range handles[1:] {
				defer db.Close()
			}
			db := handles[0]
			defer db.Close()
			for _, i := range issued {
				if _, err := db.Certificate(t.Context(), i.Certificate.Serial); err != nil {
					t.Error(err)
				}
				if _, err := db.Entry(t.Context(), i.Event.ID); err != nil {
					t.Error(err)
				}
			}
			device := issued[0].Certificate.Device
			o := storetest.Outcome(device, storetest.NewTPM(), 1, 10_000)
			renewal := storetest.Issuance(t, device, storetest.Key(t))
			renewal.Attested = &o
			if err := db.Issue(t.Context(), renewal); err != nil {
				t.Fatal(err)
			}
			if bond, err := handles[1].Bond(t.Context(), device); err != nil || bond.EK != o.Bond.EK {
				t.Errorf("the bond is %+v, %v", bond, err)
			}
			if err := db.Spend(t.Context(), [32]byte{1}, storetest.Now); err != nil {
				t.Error(err)
			}
		})
	}
}

// firstVersion makes a database as the first version left it: what later
// migrations added is taken back. What they find was issued is returned.
func firstVersion(t *testing.T, driver string, c store.Config) []ca.Issuance {
	t.Helper()
	db, err := store.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	all, _ := enrolments(t, db, 100)
	for _, i := range all {
		err = errors.Join(err, db.Issue(t.Context(), i))
	}
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	raw, err := sql.Open(driver, c.Path+c.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	for _, what := range append(addedSince(t, driver), "DELETE FROM goose_db_version WHERE version_id > 1") {
		if _, err := raw.Exec(what); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	return all
}

var (
	createTable = regexp.MustCompile(`(?m)^CREATE TABLE (\w+)`)
	addColumn   = regexp.MustCompile(`(?m)^ALTER TABLE (\w+) ADD (?:COLUMN )?(\w+)`)
	createIndex = regexp.MustCompile(`(?m)^CREATE (?:UNIQUE )?INDEX (\w+)`)
)

// addedSince drops the tables, columns and indexes of all migrations but the first, the last first.
func addedSince(t *testing.T, driver string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("migrations", driver, "*.sql"))
	if err != nil || len(files) < 2 {
		t.Fatalf("%d migrations, %v", len(files), err)
	}
	var drops []string
	for _, file := range files[1:] {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, column := range addColumn.FindAllSubmatch(text, -1) {
			drops = append(drops, "ALTER TABLE "+string(column[1])+" DROP COLUMN "+string(column[2]))
		}
		for _, table := range createTable.FindAllSubmatch(text, -1) {
			drops = append(drops, "DROP TABLE "+string(table[1]))
		}
		for _, index := range createIndex.FindAllSubmatch(text, -1) {
			drops = append(drops, "DROP INDEX IF EXISTS "+string(index[1]))
		}
	}
	slices.Reverse(drops)
	return drops
}

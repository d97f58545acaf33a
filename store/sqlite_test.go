package store_test

import (
	"path/filepath"
	"testing"

	"github.com/hallmark-pki/hallmark/store"
	"github.com/hallmark-pki/hallmark/store/storetest"
)

// open opens a database that the test closes at its end.
func open(t testing.TB, c store.Config) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), c)
	if err != nil {
		t.Error(err)
		return nil
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func embedded(t testing.TB) storetest.Place {
	path := filepath.Join(t.TempDir(), "hallmark.db")
	return func(t testing.TB) *store.DB { return open(t, store.Config{Path: path}) }
}

func TestSQLite(t *testing.T) { storetest.Run(t, embedded) }

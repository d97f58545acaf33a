package store_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/hallmark-pki/hallmark/internal/pgtest"
	"github.com/hallmark-pki/hallmark/store"
	"github.com/hallmark-pki/hallmark/store/storetest"
)

// cluster is the PostgreSQL that all tests of this package share.
var cluster *pgtest.Cluster

func TestMain(m *testing.M) {
	var err error
	if cluster, err = pgtest.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := cluster.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func replicated(t testing.TB) storetest.Place {
	url := cluster.Database(t)
	return func(t testing.TB) *store.DB { return open(t, store.Config{URL: url}) }
}

func TestPostgreSQL(t *testing.T) { storetest.Run(t, replicated) }

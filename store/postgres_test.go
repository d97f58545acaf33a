package store_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/internal/pgtest"
	"github.com/hallmark-pki/hallmark/store"
	"github.com/hallmark-pki/hallmark/store/storetest"
)

// cluster is the PostgreSQL that all tests of this package share.
var cluster *pgtest.Cluster

func TestMain(m *testing.M) {
	if os.Getenv(crashing+"PATH")+os.Getenv(crashing+"URL") != "" {
		os.Exit(m.Run()) // the child of TestCrash uses the cluster of its parent
	}
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

// TestLostConnections: a server that restarts, or drops us, costs at most calls
// that say so, and what was acknowledged stays.
func TestLostConnections(t *testing.T) {
	url := cluster.Database(t)
	db := open(t, store.Config{URL: url})
	all, _ := enrolments(t, db, 600)
	done := make(chan error, len(all))
	for n := range 8 {
		go func() {
			for i := n; i < len(all); i += 8 {
				done <- db.Issue(context.Background(), all[i])
			}
		}()
	}
	failed := 0
	for i := range all {
		if err := <-done; err != nil {
			if !fault.Is(err, fault.Busy) {
				t.Errorf("issuing over a lost connection: %v", err)
			}
			failed++
		}
		if i%100 == 50 {
			cluster.Disconnect(t, url)
		}
	}
	if err := db.Ping(t.Context()); err != nil && !fault.Is(err, fault.Busy) {
		t.Error(err)
	}
	if err := db.Ping(t.Context()); err != nil {
		t.Errorf("no writer after the connections were lost: %v", err)
	}
	found, err := db.Certificates(t.Context(), ca.Filter{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) < len(all)-failed {
		t.Errorf("%d of %d calls failed, but there are %d certificates", failed, len(all), len(found))
	}
}

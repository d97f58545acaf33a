package store_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/internal/pgtest"
	"github.com/hallmark-pki/hallmark/store"
	"github.com/hallmark-pki/hallmark/store/storetest"
)

// shared is the PostgreSQL that all tests of this package share, started by the first that asks.
var shared struct {
	sync.Once
	*pgtest.Cluster
	err error
}

func cluster(t testing.TB) *pgtest.Cluster {
	t.Helper()
	shared.Do(func() { shared.Cluster, shared.err = pgtest.Start() })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.Cluster
}

func TestMain(m *testing.M) {
	code := m.Run()
	if err := shared.Cluster.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func replicated(t testing.TB) storetest.Place {
	url := cluster(t).Database(t)
	return func(t testing.TB) *store.DB { return open(t, store.Config{URL: url}) }
}

func TestPostgreSQL(t *testing.T) { storetest.Run(t, replicated) }

// TestLostConnections: a server that restarts, or drops us, costs at most calls
// that say so, and what was acknowledged stays.
func TestLostConnections(t *testing.T) {
	url := cluster(t).Database(t)
	db := open(t, store.Config{URL: url})
	all, _ := enrolments(t, db, 600)
	done := make(chan error, len(all))
	for n := range 8 {
		go func() {
			for i := n; i < len(all); i += 8 {
				err := db.Spend(context.Background(), scattered(i), storetest.Now)
				if err == nil {
					err = db.Issue(context.Background(), all[i])
				}
				done <- err
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
			cluster(t).Disconnect(t, url)
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

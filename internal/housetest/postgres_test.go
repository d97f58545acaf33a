package housetest_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/hallmark-pki/hallmark/internal/housetest"
	"github.com/hallmark-pki/hallmark/internal/pgtest"
)

// The same server with its state in PostgreSQL: enrol, die, come back, prove.
func TestServeOnPostgreSQL(t *testing.T) {
	cluster, err := pgtest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cluster.Stop() })
	t.Setenv("HALLMARK_TEST_DATABASE", cluster.Database(t))
	h := housetest.StartIn(t, configured(t, "database:\n  url: ${HALLMARK_TEST_DATABASE}\n"))
	h.Import("gw-1")
	first, err := housetest.Enrol(h.EST("gw-1", h.Token("--device", "gw-1")))
	if err != nil {
		t.Fatal(err)
	}
	h.Kill()
	h.Run()
	second, err := housetest.Renew(h.EST("", ""), first)
	if err != nil {
		t.Fatal(err)
	}
	export := filepath.Join(t.TempDir(), "export.ndjson")
	h.Hallmark("audit", "export", "--out", export)
	h.Hallmark("audit", "verify", export)
	issued := issuedIn(t, export)
	if issued[first.Serial()] != "gw-1" || issued[second.Serial()] != "gw-1" {
		t.Errorf("the log tells of %v", issued)
	}
	if _, err := os.Stat(filepath.Join(h.Dir, "hallmark.db")); err == nil {
		t.Error("there is an embedded database all the same")
	}
}

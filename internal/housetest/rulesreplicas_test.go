package housetest_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/internal/housetest"
	"github.com/hallmark-pki/hallmark/internal/pgtest"
)

// TestReplicasFollow: two servers on one database. What is put in force at one,
// or taken back, is soon what the other answers with; one of them replays at a time.
func TestReplicasFollow(t *testing.T) {
	cluster, err := pgtest.Start()
	must(t, err)
	t.Cleanup(func() { cluster.Stop() })
	t.Setenv("HALLMARK_TEST_DATABASE", cluster.Database(t))
	one := housetest.StartIn(t, configured(t, "database:\n  url: ${HALLMARK_TEST_DATABASE}\n"))
	dir := filepath.Join(t.TempDir(), "data") // with the same keys
	must(t, os.CopyFS(dir, os.DirFS(one.Dir)))
	must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		if err == nil {
			return os.Chmod(path, 0o600)
		}
		return err
	}))
	two := housetest.StartIn(t, dir)

	here := firstOperator(t, one)
	eve := here.adds("eve", role{Role: "approver"})
	there := somebody(t, two, "admin", here.credential)
	eveThere := somebody(t, two, "eve", eve.credential)
	follows := func(p *person, digest string) {
		t.Helper()
		began := time.Now()
		for {
			var force struct{ Digest, Behind string }
			p.calls("GET", "/api/v1/policy", "").wants(200).into(&force)
			if force.Digest == digest {
				t.Logf("it follows after %s", time.Since(began).Round(time.Millisecond))
				return
			}
			if time.Since(began) > 20*time.Second {
				t.Fatalf("it answers with %s still, not with %s; behind: %s", force.Digest, digest, force.Behind)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	made := here.proposes(newDrafts(t, one).packed(refusing("never", `input.resource.id == "nobody"`)))
	eveThere.replays(made.ID)
	if seen := here.sees(made.ID); seen.Replay == nil {
		t.Error("what one server has replayed the other does not see")
	}
	eve.calls("POST", changes+"/"+made.ID+"/approve", "").wants(200)
	here.puts(made.ID, "")
	follows(there, made.Digest)
	there.calls("POST", "/api/v1/policy/rollback", "").wants(200)
	follows(here, made.Base)
}

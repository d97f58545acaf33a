package store_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/store"
)

// crashing names the database of the process that is to be killed.
const crashing = "HALLMARK_TEST_CRASH_"

// TestCrash kills a process that issues, at any moment. Every certificate that
// it was told is durable is there afterwards, with its entry in the record.
func TestCrash(t *testing.T) {
	path := t.TempDir() + "/hallmark.db"
	for name, c := range map[string]store.Config{"SQLite": {Path: path}, "PostgreSQL": {URL: cluster(t).Database(t)}} {
		t.Run(name, func(t *testing.T) {
			for round := range 5 {
				serials := crash(t, c, time.Duration(100+70*round)*time.Millisecond)
				db, err := store.Open(t.Context(), c)
				if err != nil {
					t.Fatal(err)
				}
				for _, serial := range serials {
					if _, err := db.Certificate(t.Context(), serial); err != nil {
						t.Errorf("round %d: certificate %s: %v", round, serial, err)
					}
					if _, err := db.EntryBySerial(t.Context(), serial); err != nil {
						t.Errorf("round %d: entry of %s: %v", round, serial, err)
					}
				}
				if err := db.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// crash starts a process that issues, kills it some time after its first
// certificate, and returns the serial numbers that it has told.
func crash(t *testing.T, c store.Config, after time.Duration) []string {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^TestCrashing$")
	child.Env = append(os.Environ(), crashing+"PATH="+c.Path, crashing+"URL="+c.URL)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var serials []string
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if len(lines.Text()) != 32 {
			continue // a line that the kill has cut off
		}
		if len(serials) == 0 {
			time.AfterFunc(after, func() { child.Process.Kill() })
		}
		serials = append(serials, lines.Text())
	}
	child.Wait()
	if len(serials) == 0 {
		t.Fatal("the process issued nothing")
	}
	return serials
}

// TestCrashing is the process that crash kills.
func TestCrashing(t *testing.T) {
	c := store.Config{Path: os.Getenv(crashing + "PATH"), URL: os.Getenv(crashing + "URL")}
	if c.Path+c.URL == "" {
		return // not the child: this test belongs to TestCrash
	}
	db, err := store.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	all, _ := enrolments(t, db, 20000)
	for n := range 16 {
		go func() {
			for i := n; i < len(all); i += 16 {
				if err := db.Issue(context.Background(), all[i]); err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				fmt.Println(all[i].Certificate.Serial)
			}
		}()
	}
	time.Sleep(time.Minute)
}

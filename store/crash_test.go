package store_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/store"
	"github.com/hallmark-pki/hallmark/store/storetest"
)

// crashing names the database of the process that is to be killed.
const crashing = "HALLMARK_TEST_CRASH_"

// TestCrash kills a process that issues, at any moment. Every certificate that
// it was told is durable is there afterwards, with its entry in the record and
// what came with it, and a nonce that was spent is.
func TestCrash(t *testing.T) {
	path := t.TempDir() + "/hallmark.db"
	for name, c := range map[string]store.Config{"SQLite": {Path: path}, "PostgreSQL": {URL: cluster(t).Database(t)}} {
		t.Run(name, func(t *testing.T) {
			for round := range 5 {
				serials, nonces := crash(t, c, time.Duration(100+70*round)*time.Millisecond)
				db, err := store.Open(t.Context(), c)
				if err != nil {
					t.Fatal(err)
				}
				for _, serial := range serials {
					found, err := db.Certificate(t.Context(), serial)
					if err != nil {
						t.Errorf("round %d: certificate %s: %v", round, serial, err)
						continue
					}
					bond, err := db.Bond(t.Context(), found.Device)
					if err == nil {
						_, err = db.Evidence(t.Context(), bond.Evidence)
					}
					if err != nil {
						t.Errorf("round %d: proof of %s: %v", round, serial, err)
					}
					if _, err := db.EntryBySerial(t.Context(), serial); err != nil {
						t.Errorf("round %d: entry of %s: %v", round, serial, err)
					}
				}
				for _, nonce := range nonces {
					if err := db.Spend(t.Context(), nonceOf(nonce), storetest.Now); !fault.Is(err, fault.Conflict) {
						t.Errorf("round %d: nonce %s, spent before the crash: %v", round, nonce, err)
					}
				}
				if err := db.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// nonceOf is the nonce that the process spends for a certificate.
func nonceOf(serial string) [32]byte { return sha256.Sum256([]byte(serial)) }

// crash starts a process that issues, kills it some time after its first
// certificate, and returns the serial numbers that it has told, and of which it has spent the nonces.
func crash(t *testing.T, c store.Config, after time.Duration) (serials, nonces []string) {
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
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		what, serial, _ := strings.Cut(lines.Text(), " ")
		if len(serial) != 32 {
			continue // a line that the kill has cut off
		}
		if what == "spent" {
			nonces = append(nonces, serial)
			continue
		}
		if len(serials) == 0 {
			time.AfterFunc(after, func() { child.Process.Kill() })
		}
		serials = append(serials, serial)
	}
	child.Wait()
	if len(serials) == 0 {
		t.Fatal("the process issued nothing")
	}
	return serials, nonces
}

func hash(text string) []byte {
	h := sha256.Sum256([]byte(text))
	return h[:]
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
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
				serial := all[i].Certificate.Serial
				device := all[i].Certificate.Device // the process before had devices of the same names
				tpm := storetest.TPM{EK: hex.EncodeToString(hash("ek " + device)), AK: hex.EncodeToString(hash("ak " + device))}
				o := storetest.Outcome(device, tpm, uint64(i), 5000)
				all[i].Attested = &o
				must(db.Spend(context.Background(), nonceOf(serial), storetest.Now))
				fmt.Println("spent", serial)
				must(db.Issue(context.Background(), all[i]))
				fmt.Println("issued", serial)
			}
		}()
	}
	time.Sleep(time.Minute)
}

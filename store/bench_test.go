package store_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/enroll"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/store"
	"github.com/hallmark-pki/hallmark/store/storetest"
)

// engines are what the benchmarks compare.
var engines = map[string]func(testing.TB) storetest.Place{"SQLite": embedded, "PostgreSQL": replicated}

// cpu is the processor time that this process has used: the server of
// PostgreSQL is another process.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// enrolments makes n whole issuances with fresh devices and keys, and the token
// they use. Signing is left out: the keys and signatures are random bytes.
func enrolments(b testing.TB, db *store.DB, n int) ([]ca.Issuance, enroll.Token) {
	b.Helper()
	lines, ids := storetest.Lines(n)
	_, err := db.ChangeDevices(context.Background(), fleet.Change{Import: lines, At: storetest.Now,
		EventWith: func(fleet.Imported) (audit.Event, error) { return storetest.Event("device.import", ""), nil }})
	if err != nil {
		b.Fatal(err)
	}
	token := enroll.Token{ID: audit.NewID(storetest.Now).String(), Hash: sha256.Sum256([]byte(rand.Text())), Uses: n,
		Created: storetest.Now, Expires: storetest.Now.Add(time.Hour), By: "admin"}
	if err := db.CreateToken(context.Background(), token, storetest.Event("token.create", token.ID)); err != nil {
		b.Fatal(err)
	}
	model := storetest.Issuance(b, ids[0], storetest.Key(b))
	all := make([]ca.Issuance, n)
	for i := range all {
		all[i] = like(model, ids[0], ids[i])
		all[i].Token = token.ID
	}
	return all, token
}

// like makes another issuance after a model: what is random in the one is
// random in the other, at the same places.
func like(model ca.Issuance, was, is string) ca.Issuance {
	c, e := *model.Certificate, model.Event
	old := spki(c.DER)
	key := make([]byte, len(old))
	copy(key, old)
	rand.Read(key[len(key)-64:])
	serial := make([]byte, 16)
	rand.Read(serial)
	serial[0] = serial[0]&0x7f | 0x40
	oldSerial, _ := hex.DecodeString(c.Serial)
	oldHash := hex.EncodeToString(c.KeySHA256[:])

	der := strings.NewReplacer(string(old), string(key), string(oldSerial), string(serial), was, is).Replace(string(c.DER))
	c.DER = []byte(der)
	rand.Read(c.DER[len(c.DER)-60:])
	c.KeySHA256 = sha256.Sum256(key)
	c.Device = is
	e.ID = audit.NewID(storetest.Now)
	e.Object.ID, e.Actor.ID = is, is
	oldPrint, print := sha256.Sum256(model.Certificate.DER), sha256.Sum256(c.DER)
	words := strings.NewReplacer(was, is, hex.EncodeToString(oldPrint[:]), hex.EncodeToString(print[:]), c.Serial, hex.EncodeToString(serial), oldHash, hex.EncodeToString(c.KeySHA256[:]))
	c.Serial = hex.EncodeToString(serial)
	e.Decision, e.Fact = []byte(words.Replace(string(e.Decision))), []byte(words.Replace(string(e.Fact)))
	e.Request = audit.NewID(storetest.Now).String()
	return ca.Issuance{Certificate: &c, Event: e, Activate: true}
}

func spki(der []byte) []byte {
	s := cryptobyte.String(der)
	var tbs, key cryptobyte.String
	s.ReadASN1(&s, 0x30)
	s.ReadASN1(&tbs, 0x30)
	for range 6 {
		tbs.ReadAnyASN1Element(&key, nil)
	}
	tbs.ReadAnyASN1Element(&key, nil)
	return key
}

// BenchmarkIssue is all that the store does for one enrolment: three look-ups
// and the commit, by 64 callers at a time.
func BenchmarkIssue(b *testing.B) {
	for name, fresh := range engines {
		b.Run(name, func(b *testing.B) {
			db := fresh(b)(b)
			all, token := enrolments(b, db, b.N)
			keys := make([][]byte, len(all))
			for i := range all {
				keys[i] = spki(all[i].Certificate.DER)
			}
			measure(b, func(ctx context.Context, i int) error {
				if _, _, err := db.TokenByHash(ctx, token.Hash, all[i].Certificate.Device); err != nil {
					return err
				}
				if _, err := db.Device(ctx, all[i].Certificate.Device); err != nil {
					return err
				}
				if holder, err := db.KeyHolder(ctx, keys[i]); err != nil || holder != "" {
					return fmt.Errorf("the key belongs to %q, %w", holder, err)
				}
				return db.Issue(ctx, all[i])
			})
		})
	}
}

// BenchmarkIssueAttested is all that the store does for one attested enrolment,
// by 64 callers at a time: a look-up of the bond and a spent nonce beyond what
// a plain one takes, and its bond and evidence in the commit. Most devices bring an event log that is there already.
func BenchmarkIssueAttested(b *testing.B) {
	for name, fresh := range engines {
		b.Run(name, func(b *testing.B) {
			db := fresh(b)(b)
			all, token := enrolments(b, db, b.N)
			outcomes := make([]attest.Outcome, len(all))
			for i := range all {
				outcomes[i] = storetest.Outcome(all[i].Certificate.Device, storetest.NewTPM(), uint64(i), 30_000+i%16)
				all[i].Attested = &outcomes[i]
			}
			measure(b, func(ctx context.Context, i int) error {
				device, nonce := all[i].Certificate.Device, sha256.Sum256([]byte(all[i].Certificate.Serial))
				_, _, err := db.TokenByHash(ctx, token.Hash, "")
				if err == nil {
					_, err = db.Device(ctx, device)
				}
				if err == nil {
					err = db.Spend(ctx, nonce, storetest.Now)
				}
				if err == nil {
					if _, err = db.Bond(ctx, device); fault.Is(err, fault.NotFound) {
						err = db.Issue(ctx, all[i])
					}
				}
				return err
			})
		})
	}
}

// BenchmarkSpend is one nonce.
func BenchmarkSpend(b *testing.B) {
	for name, fresh := range engines {
		b.Run(name, func(b *testing.B) {
			db := fresh(b)(b)
			measure(b, func(ctx context.Context, i int) error { return db.Spend(ctx, scattered(i), storetest.Now) })
		})
	}
}

// measure calls f for all numbers below b.N, by 64 callers at a time.
func measure(b *testing.B, f func(ctx context.Context, i int) error) {
	b.Helper()
	var n atomic.Int64
	b.SetParallelism(32)
	b.ResetTimer()
	start := cpu()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if err := f(context.Background(), int(n.Add(1)-1)); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64((cpu()-start).Microseconds())/float64(b.N), "cpu-µs/op")
}

// BenchmarkSequence is what the store does for each leaf of the log.
func BenchmarkSequence(b *testing.B) {
	for name, fresh := range engines {
		b.Run(name, func(b *testing.B) {
			db := fresh(b)(b)
			fill(b, db, b.N)
			b.ResetTimer()
			start := cpu()
			size := int64(0)
			for size < int64(b.N) {
				n, err := db.Sequence(context.Background(), 1000, func(leaves [][]byte) (audit.Growth, error) {
					return audit.Growth{First: size, Tiles: []audit.Tile{{Index: size / 256, Hashes: make([]byte, 8192)}}, Checkpoint: make([]byte, 200)}, nil
				})
				if err != nil {
					b.Fatal(err)
				}
				size += int64(n)
			}
			b.ReportMetric(float64((cpu()-start).Microseconds())/float64(b.N), "cpu-µs/op")
		})
	}
}

// fill issues n certificates.
func fill(b testing.TB, db *store.DB, n int) {
	b.Helper()
	all, _ := enrolments(b, db, n)
	var next atomic.Int64
	done := make(chan error)
	for range 64 {
		go func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					done <- nil
					return
				}
				if err := db.Issue(context.Background(), all[i]); err != nil {
					done <- err
					return
				}
			}
		}()
	}
	for range 64 {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
}

// TestBytesPerCertificate holds the embedded database against its budget: a
// certificate with its device, its leaf and its share of the tree.
func TestBytesPerCertificate(t *testing.T) {
	const n, budget = 5000, 1300
	path := filepath.Join(t.TempDir(), "hallmark.db")
	db := open(t, store.Config{Path: path})
	fill(t, db, n)
	var size int64
	for {
		step, err := db.Sequence(t.Context(), 1024, func(leaves [][]byte) (audit.Growth, error) {
			g := audit.Growth{First: size, Checkpoint: make([]byte, 200)}
			for i := size / 256; i <= (size+int64(len(leaves))-1)/256; i++ {
				g.Tiles = append(g.Tiles, audit.Tile{Index: i, Hashes: make([]byte, min(8192, 32*(size+int64(len(leaves))-256*i)))})
			}
			return g, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if size += int64(step); step == 0 {
			break
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + "-wal"); err == nil {
		t.Error("the write-ahead log was left behind")
	}
	each := file.Size() / n
	t.Logf("%d bytes for each certificate", each)
	if each > budget {
		t.Errorf("each certificate takes %d bytes on disk, at most %d are allowed", each, budget)
	}
}

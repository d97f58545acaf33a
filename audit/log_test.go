package audit_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

const origin = "ca.example.com/log"

// world is a database, its log and its key.
type world struct {
	testing.TB
	db   *database
	log  *audit.Log
	keys note.Verifiers
	made int // events so far
}

func newWorld(t testing.TB) *world {
	skey, vkey, err := audit.NewKey(origin)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := audit.ReadSecret([]byte(skey + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := audit.ReadKey([]byte(vkey + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{TB: t, db: openDatabase(t), keys: audit.Keys(verifier)}
	w.log = &audit.Log{Store: w.db, Signer: signer, Verifier: verifier, Now: func() time.Time { return start.Add(time.Hour) }}
	return w
}

var start = time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)

// event returns the n-th event: most are granted, each tenth is refused.
func event(n int) audit.Event {
	at := start.Add(time.Duration(n) * time.Second / 100)
	e := audit.Event{ID: audit.NewID(at), At: at, Action: "certificate.issue", Outcome: audit.Granted,
		Actor: audit.Party{Type: "device", ID: fmt.Sprintf("device-%d", n)}, Object: audit.Party{Type: "device", ID: fmt.Sprintf("device-%d", n)},
		Source: "192.0.2.7", Request: "r-<&\u2028>", Fact: json.RawMessage(fmt.Sprintf(`{"serial":"%032x"}`, n))}
	if n%10 == 9 {
		e.Outcome, e.Fact = audit.Refused, nil
		e.Decision = json.RawMessage(`{"policy":"sha256:00","verdict":"deny"}`)
	}
	return e
}

// happen appends events.
func (w *world) happen(n int) {
	w.Helper()
	var wait sync.WaitGroup
	for range n {
		e := event(w.made)
		w.made++
		wait.Add(1)
		go func() {
			defer wait.Done()
			if err := w.db.Append(context.Background(), e); err != nil {
				w.Error(err)
			}
		}()
	}
	wait.Wait()
}

// sequence takes one step and returns how many leaves it took.
func (w *world) sequence() int {
	w.Helper()
	n, err := w.log.Sequence(context.Background())
	if err != nil {
		w.Fatal(err)
	}
	return n
}

// head returns the newest checkpoint.
func (w *world) head() audit.Checkpoint {
	w.Helper()
	signed, err := w.log.Checkpoint(context.Background())
	if err != nil {
		w.Fatal(err)
	}
	c, err := audit.OpenCheckpoint(signed, w.keys)
	if err != nil {
		w.Fatal(err)
	}
	return c
}

// reference is the tree as package tlog makes it of the stored leaves.
type reference struct{ hashes []tlog.Hash }

func (r *reference) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	found := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		found[i] = r.hashes[x]
	}
	return found, nil
}

func (w *world) reference(size int64) *reference {
	w.Helper()
	leaves, err := w.db.Leaves(context.Background(), 0, int(size))
	if err != nil || int64(len(leaves)) != size {
		w.Fatalf("%d leaves, %v; want %d", len(leaves), err, size)
	}
	r := new(reference)
	for i, leaf := range leaves {
		hashes, err := tlog.StoredHashes(int64(i), leaf, r)
		if err != nil {
			w.Fatal(err)
		}
		r.hashes = append(r.hashes, hashes...)
	}
	return r
}

// The checkpoint, every tile, every proof agree with the reference while the
// log grows in steps of odd sizes past two tile boundaries.
func TestLogAgreesWithTheReference(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	random := rand.New(rand.NewPCG(3, 4))
	if _, err := w.log.Checkpoint(ctx); !fault.Is(err, fault.NotFound) {
		t.Errorf("checkpoint of an empty log: %v", err)
	}
	if n := w.sequence(); n != 0 {
		t.Errorf("sequenced %d of nothing", n)
	}
	for _, step := range []int{1, 1, 2, 3, 5, 17, 100, 127, 1, 254, 2, 1, 90} {
		w.happen(step)
		if n := w.sequence(); n != step {
			t.Fatalf("sequenced %d, want %d", n, step)
		}
		c := w.head()
		ref := w.reference(int64(w.made))
		if root, _ := tlog.TreeHash(c.Size, ref); c.Size != int64(w.made) || root != c.Root || c.Origin != origin {
			t.Fatalf("checkpoint %+v, want %d entries, root %s", c, w.made, root)
		}
		for range 5 {
			w.checkProof(ref, c, random.Int64N(c.Size))
			w.checkConsistency(ref, c, 1+random.Int64N(c.Size))
		}
		w.checkTiles(ref, c.Size)
	}
	if _, err := w.log.Proof(ctx, int64(w.made)); !fault.Is(err, fault.NotFound) {
		t.Errorf("proof past the end: %v", err)
	}
	if _, _, err := w.log.Consistency(ctx, int64(w.made)+1); !fault.Is(err, fault.NotFound) {
		t.Errorf("consistency past the end: %v", err)
	}
}

func (w *world) checkProof(ref *reference, c audit.Checkpoint, index int64) {
	w.Helper()
	p, err := w.log.Proof(context.Background(), index)
	if err != nil {
		w.Fatal(err)
	}
	want, _ := tlog.ProveRecord(c.Size, index, ref)
	if fmt.Sprint(p.Hashes) != fmt.Sprint([]tlog.Hash(want)) {
		w.Fatalf("proof of %d in %d: %v, want %v", index, c.Size, p.Hashes, want)
	}
	asJSON, err := json.MarshalIndent(p, "", "\t")
	if err != nil {
		w.Fatal(err)
	}
	for _, text := range [][]byte{p.Text(), asJSON} {
		again, err := audit.ParseProof(text)
		if err != nil {
			w.Fatalf("%s\n%v", text, err)
		}
		if got, err := again.Check(w.keys); err != nil || got != c || !bytes.Equal(again.Leaf, p.Leaf) {
			w.Fatalf("%s\n%v", text, err)
		}
	}
}

func (w *world) checkConsistency(ref *reference, c audit.Checkpoint, old int64) {
	w.Helper()
	proof, _, err := w.log.Consistency(context.Background(), old)
	if err != nil {
		w.Fatal(err)
	}
	before, _ := tlog.TreeHash(old, ref)
	if err := tlog.CheckTree(proof, c.Size, c.Root, old, before); err != nil {
		w.Fatalf("%d to %d: %v", old, c.Size, err)
	}
}

func (w *world) checkTiles(ref *reference, size int64) {
	w.Helper()
	ctx := context.Background()
	for _, tile := range tlog.NewTiles(8, 0, size) {
		want, _ := tlog.ReadTileData(tile, ref)
		path := audit.TilePath{Level: tile.L, Index: tile.N, Width: tile.W}
		got, err := w.log.TileData(ctx, path.String())
		if err != nil || !bytes.Equal(got, want) {
			w.Fatalf("%s: %v", path, err)
		}
		if path.Width > 1 { // a partial tile of before stays
			path.Width--
			if got, err := w.log.Tile(ctx, path); err != nil || !bytes.Equal(got, want[:len(want)-32]) {
				w.Fatalf("%s: %v", path, err)
			}
			path.Width++
		}
		if path.Width < 256 {
			path.Width++
			if _, err := w.log.Tile(ctx, path); !fault.Is(err, fault.NotFound) {
				w.Fatalf("%s: %v", path, err)
			}
		}
		if tile.L == 0 {
			w.checkBundle(tile, want)
		}
	}
}

func (w *world) checkBundle(tile tlog.Tile, hashes []byte) {
	w.Helper()
	path := audit.TilePath{Level: audit.Entries, Index: tile.N, Width: tile.W}
	b, err := w.log.Tile(context.Background(), path)
	if err != nil {
		w.Fatal(err)
	}
	for i := 0; len(b) > 0; i++ {
		n := int(binary.BigEndian.Uint16(b))
		h := tlog.RecordHash(b[2 : 2+n])
		if !bytes.Equal(h[:], hashes[i*32:i*32+32]) {
			w.Fatalf("%s: entry %d does not hash to its place in the tile", path, i)
		}
		b = b[2+n:]
	}
}

// A step takes 1024 leaves at most, and Run takes as many steps as it needs.
func TestRun(t *testing.T) {
	w := newWorld(t)
	w.happen(1500)
	if n := w.sequence(); n != 1024 {
		t.Fatalf("sequenced %d, want 1024", n)
	}
	steps := make(chan audit.Step, 100)
	w.log.Observe = func(s audit.Step) { steps <- s }
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- w.log.Run(ctx) }()
	s := <-steps
	if s.Leaves != 476 || s.Err != nil || s.Lag <= 0 {
		t.Errorf("step %+v", s)
	}
	w.happen(3)
	w.log.Wake()
	for total := 0; total < 3; {
		s := <-steps
		total += s.Leaves
	}
	w.happen(5)
	stop()
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}
	if c := w.head(); c.Size != 1508 {
		t.Errorf("%d entries in the tree after the final flush", c.Size)
	}
}

// Two logs over one store share the work; the tree is one.
func TestTwoLogsOverOneStore(t *testing.T) {
	w := newWorld(t)
	other := &audit.Log{Store: w.db, Signer: w.log.Signer, Verifier: w.log.Verifier}
	ctx, stop := context.WithCancel(context.Background())
	var runs sync.WaitGroup
	for _, l := range []*audit.Log{w.log, other} {
		runs.Add(1)
		go func() {
			defer runs.Done()
			if err := l.Run(ctx); err != nil {
				t.Error(err)
			}
		}()
	}
	for range 12 {
		w.happen(37)
		w.log.Wake()
		other.Wake()
	}
	stop()
	runs.Wait()
	c := w.head()
	if root, _ := tlog.TreeHash(c.Size, w.reference(c.Size)); c.Size != 12*37 || c.Root != root {
		t.Errorf("checkpoint %+v, want %d entries with root %s", c, 12*37, root)
	}
	var export bytes.Buffer
	if err := w.log.Export(context.Background(), &export); err != nil {
		t.Fatal(err)
	}
	if r := w.verify(w.file("export.ndjson", export.Bytes())); !r.Verified || r.Files[0].Entries != 12*37 {
		t.Errorf("%s", r)
	}
}

// A database that was tampered with stops the log instead of being signed over.
func TestTamperedStoreStopsTheLog(t *testing.T) {
	foreign := newWorld(t)
	foreign.happen(1)
	foreign.sequence()
	strange, err := foreign.log.Checkpoint(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		tamper func(w *world, earlier []byte)
		says   string
	}{
		"checkpoint rewound": {func(w *world, earlier []byte) { w.db.setCheckpoint(earlier) }, "tile 0/1 holds 1408 bytes of hashes, the checkpoint of 290 entries asks for 1088"},
		"checkpoint removed": {func(w *world, _ []byte) { w.db.dropCheckpoint() }, "there are hashes of 256 entries but no checkpoint"},
		"checkpoint foreign": {func(w *world, _ []byte) { w.db.setCheckpoint(strange) }, "which is not the key given"},
		"checkpoint forged": {func(w *world, _ []byte) {
			signed, _ := w.log.Checkpoint(context.Background())
			w.db.setCheckpoint(bytes.Replace(signed, []byte("\n300\n"), []byte("\n299\n"), 1))
		}, "does not fit the text"},
		"leaf hash":  {func(w *world, _ []byte) { w.db.flipTile(0, 1) }, "the stored tree of 300 entries has root"},
		"inner node": {func(w *world, _ []byte) { w.db.flipTile(1, 0) }, "the stored tree of 300 entries has root"},
		"tile gone":  {func(w *world, _ []byte) { w.db.dropTile(1, 0) }, "tile 1/0 holds 0 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.happen(290)
			w.sequence()
			earlier, _ := w.log.Checkpoint(context.Background())
			w.happen(10)
			w.sequence()
			c.tamper(w, earlier)
			before, _ := w.db.Checkpoint(context.Background())
			w.happen(1)
			n, err := w.log.Sequence(context.Background())
			if n != 0 || err == nil || fault.Of(err).Code != "record_damaged" || !strings.Contains(err.Error(), c.says) {
				t.Errorf("sequenced %d: %v", n, err)
			}
			if after, _ := w.db.Checkpoint(context.Background()); !bytes.Equal(before, after) {
				t.Error("a new checkpoint was signed")
			}
		})
	}
}

// A log whose two keys do not belong together signs nothing.
func TestMismatchedKeys(t *testing.T) {
	w, other := newWorld(t), newWorld(t)
	w.happen(1)
	for _, signer := range []note.Signer{nil, other.log.Signer} {
		w.log.Signer = signer
		if n, err := w.log.Sequence(context.Background()); n != 0 || err == nil || !strings.Contains(err.Error(), "private half") {
			t.Errorf("sequenced %d: %v", n, err)
		}
	}
}

// Run says once that the log cannot grow, and once that it can again.
func TestRunReportsOnce(t *testing.T) {
	w := newWorld(t)
	w.happen(3)
	w.sequence()
	good, _ := w.log.Checkpoint(context.Background())
	w.db.dropCheckpoint()
	w.happen(1)
	var out syncBuffer
	w.log.Logger = slog.New(slog.NewTextHandler(&out, nil))
	steps := make(chan audit.Step, 100)
	w.log.Observe = func(s audit.Step) { steps <- s }
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- w.log.Run(ctx) }()
	for range 3 {
		if s := <-steps; s.Err == nil {
			t.Error("a step over a damaged store")
		}
		w.log.Wake()
	}
	w.db.setCheckpoint(good)
	for s := (audit.Step{}); s.Leaves == 0; s = <-steps {
		w.log.Wake()
	}
	for range 500 { // Run logs after it has told of the step
		if strings.Contains(out.String(), "grows again") {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if text := out.String(); strings.Count(text, "cannot grow") != 1 || strings.Count(text, "grows again") != 1 {
		t.Errorf("logged\n%s", text)
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

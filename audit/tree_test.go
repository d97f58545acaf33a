package audit

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

// reference is a tree as package tlog keeps it.
type reference []tlog.Hash

func (r reference) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		hashes[i] = r[x]
	}
	return hashes, nil
}

// grow adds leaf n.
func (r *reference) grow(t testing.TB, n int64, leaf []byte) {
	t.Helper()
	hashes, err := tlog.StoredHashes(n, leaf, *r)
	if err != nil {
		t.Fatal(err)
	}
	*r = append(*r, hashes...)
}

func leafNumber(n int64) []byte { return fmt.Appendf(nil, "leaf %d", n) }

func TestEdgeHasTheReferenceRoot(t *testing.T) {
	var ref reference
	var e edge
	for n := int64(0); n <= 1100; n++ {
		want, err := tlog.TreeHash(n, ref)
		if err != nil {
			t.Fatal(err)
		}
		if got := e.root(); got != want || e.size != n {
			t.Fatalf("%d leaves: size %d root %s, want %s", n, e.size, got, want)
		}
		ref.grow(t, n, leafNumber(n))
		e.append(tlog.RecordHash(leafNumber(n)))
	}
}

// Past 65536 leaves a third level of tiles begins.
func TestEdgeOfThreeLevels(t *testing.T) {
	var ref reference
	var e edge
	for n := int64(0); n < 66_000; n++ {
		ref.grow(t, n, leafNumber(n))
		e.append(tlog.RecordHash(leafNumber(n)))
		if n%256 < 2 || n > 65_530 && n < 65_550 {
			want, _ := tlog.TreeHash(n+1, ref)
			if got := e.root(); got != want {
				t.Fatalf("%d leaves: root %s, want %s", n+1, got, want)
			}
		}
	}
	checkTiles(t, e.changed(), ref, 0, 66_000)
}

// checkTiles compares tiles with those that take a tree from one size to another.
func checkTiles(t *testing.T, got []Tile, ref reference, from, to int64) {
	t.Helper()
	want := tlog.NewTiles(tileHeight, from, to)
	if len(got) != len(want) {
		t.Fatalf("from %d to %d: %d tiles, want %d", from, to, len(got), len(want))
	}
	have := make(map[[2]int64][]byte)
	for _, tile := range got {
		have[[2]int64{int64(tile.Level), tile.Index}] = tile.Hashes
	}
	for _, w := range want {
		data, err := tlog.ReadTileData(w, ref)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(have[[2]int64{int64(w.L), w.N}], data) {
			t.Fatalf("from %d to %d: tile %d/%d differs", from, to, w.L, w.N)
		}
	}
}

// An edge that is stored and loaded between steps of odd sizes grows the same
// tiles as the reference.
func TestEdgeGrowsInOddSteps(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 40 {
		var ref reference
		stored := make(map[[2]int64][]byte)
		for size := int64(0); size < 1100; {
			e := edge{size: size}
			for level := 0; size>>(tileHeight*level) > 0; level++ {
				tile := stored[[2]int64{int64(level), size >> (tileHeight * (level + 1))}]
				e.levels = append(e.levels, tile[:width(size, level)*tlog.HashSize:width(size, level)*tlog.HashSize])
				e.grown = append(e.grown, false)
			}
			before := size
			for range 1 + random.IntN(1+random.IntN(600)) {
				ref.grow(t, size, leafNumber(size))
				e.append(tlog.RecordHash(leafNumber(size)))
				size++
			}
			checkTiles(t, e.changed(), ref, before, size)
			for _, tile := range e.changed() {
				stored[[2]int64{int64(tile.Level), tile.Index}] = tile.Hashes
			}
		}
	}
}

func BenchmarkGrow(b *testing.B) {
	leaf := bytes.Repeat([]byte("x"), 1000)
	for b.Loop() {
		var e edge
		for range 1024 {
			e.append(tlog.RecordHash(leaf))
		}
		e.root()
		e.changed()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1024, "ns/leaf")
}

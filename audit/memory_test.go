package audit_test

import (
	"context"
	"sync"
	"testing"

	"github.com/hallmark-pki/hallmark/audit"
)

// database is what the tests need of a store.
type database interface {
	audit.Store
	audit.Journal
	setCheckpoint(signed []byte)
	setTile(level int, index int64, hashes []byte)
	flipTile(level int, index int64)
	setLeaf(index int64, leaf []byte)
}

func openDatabase(testing.TB) database {
	return &memory{tiles: make(map[[2]int64][]byte)}
}

type memory struct {
	seq, mu    sync.Mutex
	leaves     [][]byte
	size       int64
	tiles      map[[2]int64][]byte
	checkpoint []byte
}

func (m *memory) Append(_ context.Context, e audit.Event) error {
	leaf, err := e.Leaf()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.leaves = append(m.leaves, leaf)
	return err
}

func (m *memory) Checkpoint(context.Context) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.checkpoint, nil
}

func (m *memory) Tile(_ context.Context, level int, index int64) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.tiles[[2]int64{int64(level), index}], nil
}

func (m *memory) Leaves(_ context.Context, first int64, n int) ([][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if first >= m.size {
		return nil, nil
	}
	var got [][]byte
	for _, l := range m.leaves[first:min(first+int64(n), m.size)] {
		if l != nil {
			got = append(got, l)
		}
	}
	return got, nil
}

func (m *memory) Sequence(_ context.Context, max int, grow func([][]byte) (audit.Growth, error)) (int, error) {
	m.seq.Lock()
	defer m.seq.Unlock()
	m.mu.Lock()
	leaves := m.leaves[m.size:]
	leaves = leaves[:min(len(leaves), max)]
	m.mu.Unlock()
	if len(leaves) == 0 {
		return 0, nil
	}
	g, err := grow(leaves)
	if err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range g.Tiles {
		m.tiles[[2]int64{int64(t.Level), t.Index}] = t.Hashes
	}
	m.size += int64(len(leaves))
	m.checkpoint = g.Checkpoint
	return len(leaves), nil
}

func (m *memory) setCheckpoint(c []byte) { m.mu.Lock(); m.checkpoint = c; m.mu.Unlock() }
func (m *memory) setTile(l int, i int64, h []byte) {
	m.mu.Lock()
	m.tiles[[2]int64{int64(l), i}] = h
	m.mu.Unlock()
}
func (m *memory) flipTile(l int, i int64) {
	m.mu.Lock()
	h := append([]byte(nil), m.tiles[[2]int64{int64(l), i}]...)
	h[7] ^= 1
	m.tiles[[2]int64{int64(l), i}] = h
	m.mu.Unlock()
}
func (m *memory) setLeaf(i int64, leaf []byte) { m.mu.Lock(); m.leaves[i] = leaf; m.mu.Unlock() }

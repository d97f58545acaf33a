package audit

import (
	"context"
	"fmt"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/hallmark-pki/hallmark/internal/fault"
)

// Proof proves the entry at index within the newest checkpoint. An index past
// it is an error of kind NotFound: Sequence first.
func (l *Log) Proof(ctx context.Context, index int64) (*Proof, error) {
	signed, c, err := l.signedHead(ctx)
	if err != nil {
		return nil, err
	}
	if index < 0 || index >= c.Size {
		return nil, fault.New(fault.NotFound, "no_such_entry",
			fmt.Sprintf("the tree has %d entries, and none at %d", c.Size, index))
	}
	leaves, err := l.Store.Leaves(ctx, index, 1)
	if err != nil {
		return nil, fmt.Errorf("reading entry %d: %w", index, err)
	}
	if len(leaves) != 1 {
		return nil, damaged("entry %d is missing", index)
	}
	hashes, err := tlog.ProveRecord(c.Size, index, l.hashes(ctx, c))
	if err != nil {
		return nil, fmt.Errorf("proving entry %d: %w", index, err)
	}
	p := &Proof{Index: index, Leaf: leaves[0], Hashes: hashes, Checkpoint: signed}
	if _, err := p.Check(note.VerifierList(l.Verifier)); err != nil {
		return nil, damaged("proving entry %d: %w", index, err)
	}
	return p, nil
}

// Consistency proves that the tree of the newest checkpoint, which it returns
// signed, begins with the tree of its first oldSize entries (RFC 6962, Section
// 2.1.2). A size of 0, or past the checkpoint, is an error of kind NotFound.
func (l *Log) Consistency(ctx context.Context, oldSize int64) ([]tlog.Hash, []byte, error) {
	signed, c, err := l.signedHead(ctx)
	if err != nil {
		return nil, nil, err
	}
	if oldSize < 1 || oldSize > c.Size {
		return nil, nil, fault.New(fault.NotFound, "no_such_size",
			fmt.Sprintf("the tree has %d entries; it was never %d long", c.Size, oldSize))
	}
	hashes, err := tlog.ProveTree(c.Size, oldSize, l.hashes(ctx, c))
	if err != nil {
		return nil, nil, fmt.Errorf("proving consistency with %d entries: %w", oldSize, err)
	}
	return hashes, signed, nil
}

// signedHead returns the newest checkpoint, both signed and read.
func (l *Log) signedHead(ctx context.Context) ([]byte, Checkpoint, error) {
	signed, err := l.Checkpoint(ctx)
	if err != nil {
		return nil, Checkpoint{}, err
	}
	c, err := OpenCheckpoint(signed, note.VerifierList(l.Verifier))
	if err != nil {
		return nil, Checkpoint{}, damaged("the stored checkpoint cannot be trusted: %w", err)
	}
	return signed, c, nil
}

// hashes reads the tree under c, each tile authenticated against its root.
func (l *Log) hashes(ctx context.Context, c Checkpoint) tlog.HashReader {
	return tlog.TileHashReader(tlog.Tree{N: c.Size, Hash: c.Root}, &tileReader{ctx, l.Store})
}

// tileReader gives package tlog the tiles of a Store.
type tileReader struct {
	ctx   context.Context // of the one call that this reader serves
	store Store
}

// Height implements tlog.TileReader.
func (r *tileReader) Height() int { return tileHeight }

// ReadTiles implements tlog.TileReader. A tile may have grown since the
// checkpoint was read; its start is what it was.
func (r *tileReader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	for i, t := range tiles {
		hashes, err := r.store.Tile(r.ctx, t.L, t.N)
		if err != nil {
			return nil, err
		}
		if len(hashes) < t.W*tlog.HashSize {
			return nil, damaged("tile %d/%d holds %d bytes of hashes, the tree asks for %d", t.L, t.N, len(hashes), t.W*tlog.HashSize)
		}
		data[i] = hashes[:t.W*tlog.HashSize]
	}
	return data, nil
}

// SaveTiles implements tlog.TileReader. There is nothing to keep.
func (r *tileReader) SaveTiles([]tlog.Tile, [][]byte) {}

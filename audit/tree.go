package audit

import (
	"golang.org/x/mod/sumdb/tlog"
)

// Tiles are 8 levels of the tree high and 256 hashes wide (C2SP tlog-tiles, Merkle Tree).
const (
	tileHeight = 8
	tileWidth  = 1 << tileHeight
	tileBytes  = tileWidth * tlog.HashSize
)

// edge is the right-hand edge of an RFC 6962 tree: all that is needed to
// extend it and to know its root. The zero edge is the empty tree.
type edge struct {
	size   int64
	levels [][]byte // hashes of the unfinished tile of each level, always fewer than 256
	grown  []bool   // whether that tile has grown since the edge was loaded
	full   []Tile   // tiles finished since
}

// append adds one leaf hash.
func (e *edge) append(leaf tlog.Hash) { e.push(0, leaf) }

// push adds a hash at the level given: the root of the next 256^level leaves.
// The levels below must be empty. A tile that fills up becomes one hash of the
// level above.
func (e *edge) push(level int, h tlog.Hash) {
	e.size += 1 << (tileHeight * level)
	for ; ; level++ {
		for level >= len(e.levels) {
			e.levels, e.grown = append(e.levels, nil), append(e.grown, false)
		}
		e.levels[level] = append(e.levels[level], h[:]...)
		e.grown[level] = true
		if len(e.levels[level]) < tileBytes {
			return
		}
		index := e.size>>(tileHeight*(level+1)) - 1
		e.full = append(e.full, Tile{Level: level, Index: index, Hashes: e.levels[level]})
		h = subtree(e.levels[level])
		e.levels[level] = nil
	}
}

// changed returns every tile that differs from when the edge was loaded.
func (e *edge) changed() []Tile {
	tiles := e.full
	for level, hashes := range e.levels {
		if e.grown[level] && len(hashes) > 0 {
			tiles = append(tiles, Tile{Level: level, Index: e.size >> (tileHeight * (level + 1)), Hashes: hashes})
		}
	}
	return tiles
}

// root returns the Merkle tree hash (RFC 6962, Section 2.1): the perfect
// subtrees along the edge, folded from the right.
func (e *edge) root() tlog.Hash {
	if e.size == 0 {
		empty, _ := tlog.TreeHash(0, nil) // never fails: there is nothing to read
		return empty
	}
	var root tlog.Hash
	first := true
	for _, hashes := range e.levels {
		for n := len(hashes) / tlog.HashSize; n > 0; n &= n - 1 {
			last := n & -n // width of the rightmost perfect subtree
			h := subtree(hashes[(n-last)*tlog.HashSize : n*tlog.HashSize])
			if first {
				root, first = h, false
			} else {
				root = tlog.NodeHash(h, root)
			}
		}
	}
	return root
}

// subtree returns the root over hashes, whose number is a power of two.
func subtree(hashes []byte) tlog.Hash {
	if len(hashes) == tlog.HashSize {
		return tlog.Hash(hashes)
	}
	half := len(hashes) / 2
	return tlog.NodeHash(subtree(hashes[:half]), subtree(hashes[half:]))
}

// width returns how many hashes the tile at the right edge of a level has in a
// tree of size leaves; 0 when the level ends in a full tile or is empty.
func width(size int64, level int) int {
	return int(size>>(tileHeight*level)) & (tileWidth - 1)
}

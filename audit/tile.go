package audit

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/hallmark-pki/hallmark/internal/fault"
)

// TilePath names one static resource of the tree (C2SP tlog-tiles, Merkle Tree
// and Log entries).
type TilePath struct {
	Level int   // 0 to 63, or Entries
	Index int64 // from 0 on, within the level
	Width int   // hashes or entries asked for: 1 to 255 for a partial tile, 256 for a full one
}

// Entries is the Level of a bundle of entries.
const Entries = -1

// How tiles travel. A tile of a given path never changes (C2SP tlog-tiles,
// Merkle Tree); a checkpoint does.
const (
	TileType            = "application/octet-stream"
	TileCaching         = "public, max-age=31536000, immutable"
	BundleCaching       = "private, max-age=31536000, immutable"
	CheckpointCaching   = "public, max-age=1"
	maxTileGroups       = 6 // of three digits: more would not fit an int64
	maxTileLevel        = 63
	entriesPathSegment  = "entries"
	tilePathPrefix      = "tile/"
	partialTileSuffix   = ".p"
	maxTilePathElements = 2 + maxTileGroups + 1
)

// ParseTilePath reads a path relative to the log's prefix, such as
// "tile/0/x001/234", "tile/1/000.p/17" or "tile/entries/000". The error is of
// kind Malformed.
func ParseTilePath(path string) (TilePath, error) {
	bad := fault.New(fault.Malformed, "bad_tile_path", "not the path of a tile")
	f := strings.Split(path, "/")
	if !strings.HasPrefix(path, tilePathPrefix) || len(f) < 3 || len(f) > maxTilePathElements {
		return TilePath{}, bad
	}
	t := TilePath{Level: Entries, Width: tileWidth}
	if f[1] != entriesPathSegment {
		level, err := strconv.Atoi(f[1])
		if err != nil || level < 0 || level > maxTileLevel {
			return TilePath{}, bad
		}
		t.Level = level
	}
	f = f[2:]
	if last := len(f) - 1; last > 0 && strings.HasSuffix(f[last-1], partialTileSuffix) {
		w, err := strconv.Atoi(f[last])
		if err != nil || w < 1 || w >= tileWidth {
			return TilePath{}, bad
		}
		t.Width = w
		f = f[:last]
		f[last-1] = strings.TrimSuffix(f[last-1], partialTileSuffix)
	}
	if len(f) > maxTileGroups {
		return TilePath{}, bad
	}
	for _, group := range f {
		n, err := strconv.Atoi(strings.TrimPrefix(group, "x"))
		if err != nil || n < 0 || n > 999 {
			return TilePath{}, bad
		}
		t.Index = t.Index*1000 + int64(n)
	}
	if t.String() != path { // leading zeroes, signs, a missing or needless x
		return TilePath{}, bad
	}
	return t, nil
}

// String returns the path that ParseTilePath reads.
func (t TilePath) String() string {
	level := entriesPathSegment
	if !t.Bundle() {
		level = strconv.Itoa(t.Level)
	}
	number := fmt.Sprintf("%03d", t.Index%1000)
	for n := t.Index / 1000; n > 0; n /= 1000 {
		number = fmt.Sprintf("x%03d/%s", n%1000, number)
	}
	if t.Width != tileWidth {
		number += fmt.Sprintf("%s/%d", partialTileSuffix, t.Width)
	}
	return tilePathPrefix + level + "/" + number
}

// Bundle reports whether the path is of entries themselves, which only an
// auditor may read. Tiles of hashes and the checkpoint are public.
func (t TilePath) Bundle() bool { return t.Level == Entries }

// Caching returns the Cache-Control value that the resource is served with.
func (t TilePath) Caching() string {
	if t.Bundle() {
		return BundleCaching
	}
	return TileCaching
}

// Tile returns the bytes of a tile or of a bundle, or an error of kind NotFound
// if the tree does not hold all of it. A partial tile is also served, as the
// start of what there is, after the tree has grown past it.
func (l *Log) Tile(ctx context.Context, t TilePath) ([]byte, error) {
	if t.Bundle() {
		return l.bundle(ctx, t)
	}
	hashes, err := l.Store.Tile(ctx, t.Level, t.Index)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", t, err)
	}
	if len(hashes) < t.Width*tlog.HashSize {
		return nil, beyond(t)
	}
	return hashes[:t.Width*tlog.HashSize], nil
}

// bundle returns entries, each behind its length as a big-endian uint16 (C2SP
// tlog-tiles, Log entries).
func (l *Log) bundle(ctx context.Context, t TilePath) ([]byte, error) {
	if t.Index > (1<<62)/tileWidth {
		return nil, beyond(t)
	}
	leaves, err := l.Store.Leaves(ctx, t.Index*tileWidth, t.Width)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", t, err)
	}
	if len(leaves) < t.Width {
		return nil, beyond(t)
	}
	b := make([]byte, 0, t.Width*1024)
	for i, leaf := range leaves {
		if len(leaf) > MaxLeaf {
			return nil, fmt.Errorf("entry %d has %d bytes: too long for a bundle", t.Index*tileWidth+int64(i), len(leaf))
		}
		b = binary.BigEndian.AppendUint16(b, uint16(len(leaf)))
		b = append(b, leaf...)
	}
	return b, nil
}

func beyond(t TilePath) error {
	return fault.New(fault.NotFound, "no_such_tile", fmt.Sprintf("the tree does not hold %s", t))
}

// TileData is Tile by path, relative to the log's prefix.
func (l *Log) TileData(ctx context.Context, path string) ([]byte, error) {
	t, err := ParseTilePath(path)
	if err != nil {
		return nil, err
	}
	return l.Tile(ctx, t)
}

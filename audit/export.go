package audit

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"golang.org/x/mod/sumdb/tlog"
)

// ExportType is the media type of an export.
const ExportType = "application/x-ndjson"

// Export first sequences what waits and then writes the whole record to w as
// one file of newline-delimited JSON, which Verify reads: a header with the
// signed checkpoint, each entry with its hash, and after each 256 of them the
// root of their subtree. The hashes come from the tree and the leaves from the
// record, so that a leaf changed in the database shows.
func (l *Log) Export(ctx context.Context, w io.Writer) error {
	if err := l.drain(ctx); err != nil {
		return err
	}
	signed, c, err := l.signedHead(ctx)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(w, 64<<10)
	if err := writeHeader(out, header{1, c.Origin, c.Size, l.now().UTC().Format(TimeFormat), string(signed)}); err != nil {
		return err
	}
	for tile := int64(0); tile<<tileHeight < c.Size; tile++ {
		if err := l.exportTile(ctx, out, c, tile); err != nil {
			return fmt.Errorf("exporting entries from %d on: %w", tile<<tileHeight, err)
		}
	}
	return out.Flush()
}

// header is the first line of an export.
type header struct {
	Version    int    `json:"hallmark_export"` // 1
	Origin     string `json:"origin"`
	Size       int64  `json:"size"`
	Exported   string `json:"exported"` // when, by the server's clock; not signed
	Checkpoint string `json:"checkpoint"`
}

func writeHeader(w io.Writer, h header) error {
	line, err := json.Marshal(h)
	if err != nil {
		return err
	}
	_, err = w.Write(append(line, '\n'))
	return err
}

// exportTile writes up to 256 entries, and their root if the tile is full.
func (l *Log) exportTile(ctx context.Context, out *bufio.Writer, c Checkpoint, tile int64) error {
	first := tile << tileHeight
	n := int(min(tileWidth, c.Size-first))
	hashes, err := l.Store.Tile(ctx, 0, tile)
	if err != nil {
		return err
	}
	if len(hashes) < n*tlog.HashSize {
		return damaged("tile 0/%d holds %d bytes of hashes, the tree asks for %d", tile, len(hashes), n*tlog.HashSize)
	}
	leaves, err := l.Store.Leaves(ctx, first, n)
	if err != nil {
		return err
	}
	var line []byte
	for i := range n {
		recorded := tlog.Hash(hashes[i*tlog.HashSize:][:tlog.HashSize])
		// A leaf that is gone from the database leaves a gap here too, rather than
		// pushing all those after it out of place.
		if len(leaves) < n-i && (len(leaves) == 0 || tlog.RecordHash(leaves[0]) != recorded) {
			continue
		}
		line = appendEntry(line[:0], first+int64(i), recorded, leaves[0])
		leaves = leaves[1:]
		if _, err := out.Write(line); err != nil {
			return err
		}
	}
	if n < tileWidth {
		return nil
	}
	above, err := l.Store.Tile(ctx, 1, tile>>tileHeight)
	if err != nil {
		return err
	}
	at := int(tile&(tileWidth-1)) * tlog.HashSize
	if len(above) < at+tlog.HashSize {
		return damaged("tile 1/%d holds %d bytes of hashes, the tree asks for %d", tile>>tileHeight, len(above), at+tlog.HashSize)
	}
	_, err = out.Write(appendTileRoot(line[:0], tile, tlog.Hash(above[at:][:tlog.HashSize])))
	return err
}

package console

import (
	"context"
	"net/http"
	"strings"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// checkpoint answers with the log's newest signed word on its size and root.
func (c *Console) checkpoint(r *call) (answer, error) {
	signed, err := c.Log.Checkpoint(r.Context())
	return answer{status: http.StatusOK, raw: signed, header: map[string]string{
		"Content-Type": audit.CheckpointType, "Cache-Control": audit.CheckpointCaching,
	}}, err
}

// hashTile answers with hashes, which tell nothing about what was hashed:
// every leaf carries a random id.
func (c *Console) hashTile(r *call) (answer, error) {
	tile, err := tilePath(r.Request)
	if err == nil && tile.Bundle() { // these have a route of their own, with a caller
		err = fault.New(fault.NotFound, "no_such_tile", "the tree does not hold this tile")
	}
	if err != nil {
		return answer{}, err
	}
	return c.tile(r.Context(), tile)
}

// entryBundle answers with entries themselves, to those who may read the record.
func (c *Console) entryBundle(call *call) (deed, error) {
	tile, err := tilePath(call.Request)
	return deed{
		resource:   policy.Entity{Type: "record"},
		parameters: policy.Properties{"tile": tile.String()},
		do:         func(ctx context.Context, _ policy.Permit) (answer, error) { return c.tile(ctx, tile) },
	}, err
}

func (c *Console) tile(ctx context.Context, tile audit.TilePath) (answer, error) {
	data, err := c.Log.Tile(ctx, tile)
	return answer{status: http.StatusOK, raw: data, header: map[string]string{
		"Content-Type": audit.TileType, "Cache-Control": tile.Caching(),
	}}, err
}

// tilePath reads the path below /log/. What is not a tile's path is simply not there.
func tilePath(r *http.Request) (audit.TilePath, error) {
	tile, err := audit.ParseTilePath(strings.TrimPrefix(r.URL.Path, "/log/"))
	if err != nil {
		err = fault.Wrap(fault.NotFound, "no_such_tile", "this is not the path of a tile", err)
	}
	return tile, err
}

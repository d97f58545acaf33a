package audit

import (
	"context"
	"time"
)

// Store is what the Log needs of the database. Every method may be called by
// several processes at once.
type Store interface {
	// Checkpoint returns the newest signed checkpoint, nil while the log is empty.
	Checkpoint(ctx context.Context) ([]byte, error)

	// Tile returns the hashes held of one tile, 32 bytes each, leftmost first: at
	// most 256 of them, fewer for the tile at the right edge, none if it does not
	// exist. Level 0 holds leaf hashes (C2SP tlog-tiles).
	Tile(ctx context.Context, level int, index int64) ([]byte, error)

	// Leaves returns up to n leaves from index first on, in order.
	Leaves(ctx context.Context, first int64, n int) ([][]byte, error)

	// Sequence takes the log's lock, hands grow up to max committed leaves that
	// have no index yet, oldest first, and commits what grow answers: the leaves
	// get the indexes from Growth.First on, the tiles and the checkpoint replace
	// the ones before. Nothing is kept if grow or the commit fails. It returns how
	// many leaves were integrated; with none pending it returns 0 without
	// calling grow. Only one caller in the world is inside grow at a time, and
	// grow sees, through the other methods, everything sequenced before.
	Sequence(ctx context.Context, max int, grow func(leaves [][]byte) (Growth, error)) (int, error)
}

// Growth is one step of the tree.
type Growth struct {
	First      int64  // index of the first new leaf: the size of the tree before
	Tiles      []Tile // every tile that changed, whole
	Checkpoint []byte // the new signed checkpoint (C2SP signed note)
}

// Tile is a run of up to 256 hashes of one level of the tree.
type Tile struct {
	Level  int
	Index  int64
	Hashes []byte // 32 bytes each
}

// Journal is how other rooms write events that change nothing else: refusals,
// holds, and reads. Facts are written by the store together with their event.
type Journal interface {
	// Append makes the event durable before it returns.
	Append(ctx context.Context, e Event) error
}

// Query selects entries of the record, newest first. Zero fields select everything.
type Query struct {
	Action  string    // exact action name
	Actor   string    // exact actor id
	Object  string    // exact object id
	Outcome Outcome   // exact outcome
	Decided bool      // only entries that carry a decision
	Since   time.Time // at or after
	Until   time.Time // before
	Before  int64     // only entries whose Position is below this; 0 means from the newest
	Limit   int       // at most this many; 0 means 100
}

// Entry is one event as it stands in the record.
type Entry struct {
	Position int64  // order of arrival in this database, for paging
	Index    int64  // index in the tree, -1 while it waits for the sequencer
	Leaf     []byte // the canonical bytes
}

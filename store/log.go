package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

// Checkpoint returns the newest signed checkpoint, nil while the log is empty.
func (db *DB) Checkpoint(ctx context.Context) ([]byte, error) {
	var note []byte
	err := db.one(ctx, "SELECT note FROM checkpoint WHERE id = 1", nil, "no checkpoint", &note)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	return note, err
}

// Tile returns the hashes held of one tile, 32 bytes each, leftmost first; none if it does not exist.
func (db *DB) Tile(ctx context.Context, level int, index int64) ([]byte, error) {
	var hashes []byte
	err := db.one(ctx, "SELECT hashes FROM tile WHERE level = ? AND idx = ?", []any{level, index}, "no such tile", &hashes)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	return hashes, err
}

// Leaves returns up to n leaves from index first on, in order.
func (db *DB) Leaves(ctx context.Context, first int64, n int) ([][]byte, error) {
	var leaves [][]byte
	err := db.each(ctx, "SELECT leaf FROM record WHERE idx >= ? AND idx < ? ORDER BY idx", []any{first, first + int64(n)},
		db.collect(&leaves))
	return leaves, err
}

// collect returns a scan that unpacks leaves into the slice.
func (db *DB) collect(leaves *[][]byte) func(*sql.Rows) error {
	return func(r *sql.Rows) error {
		var packed sql.RawBytes
		if err := r.Scan(&packed); err != nil {
			return err
		}
		leaf, err := db.packer.unpack(packed)
		*leaves = append(*leaves, leaf)
		return err
	}
}

// Sequence is audit.Store's. A leaf waits as long as it has no index, whatever
// its position: with several processes a lower position may be committed later
// than a higher one, and must not be passed over for that.
func (db *DB) Sequence(ctx context.Context, max int, grow func(leaves [][]byte) (audit.Growth, error)) (int, error) {
	n := 0
	err := db.sequencer.do(ctx, func(tx *session) error {
		ctx := db.engine.patience(ctx)
		if err := db.engine.lockLog(ctx, tx); err != nil {
			return err
		}
		positions, leaves, err := tx.pending(ctx, max)
		if err != nil || len(leaves) == 0 {
			return err
		}
		growth, err := grow(leaves)
		if err != nil {
			return err
		}
		n = len(leaves)
		return tx.grow(ctx, positions, growth)
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

// pending returns the positions and leaves that have no index yet.
func (s *session) pending(ctx context.Context, max int) (positions []int64, leaves [][]byte, err error) {
	err = s.each(ctx, "SELECT seq, leaf FROM record WHERE idx IS NULL ORDER BY seq LIMIT ?", []any{max}, func(r *sql.Rows) error {
		var position int64
		var packed sql.RawBytes
		if err := r.Scan(&position, &packed); err != nil {
			return err
		}
		leaf, err := s.db.packer.unpack(packed)
		positions, leaves = append(positions, position), append(leaves, leaf)
		return err
	})
	return positions, leaves, err
}

// grow writes one step of the tree.
func (s *session) grow(ctx context.Context, positions []int64, g audit.Growth) error {
	var size int64
	if err := s.one(ctx, "SELECT coalesce(max(idx) + 1, 0) FROM record WHERE idx IS NOT NULL", nil, &size); err != nil {
		return err
	}
	if g.First != size {
		return fmt.Errorf("the log has %d leaves, but was to grow from %d on", size, g.First)
	}
	if len(g.Checkpoint) == 0 {
		return errors.New("the log was to grow without a checkpoint")
	}
	if err := s.number(ctx, positions, g.First); err != nil {
		return err
	}
	for _, t := range g.Tiles {
		err := s.exec(ctx, "INSERT INTO tile (level, idx, hashes) VALUES (?, ?, ?) ON CONFLICT (level, idx) DO UPDATE SET hashes = excluded.hashes",
			t.Level, t.Index, t.Hashes)
		if err != nil {
			return err
		}
	}
	return s.exec(ctx, "INSERT INTO checkpoint (id, note) VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET note = excluded.note", g.Checkpoint)
}

// number gives the entries at these positions, in ascending order, the indexes
// from first on: one statement for each run of neighbours, which is mostly all of them.
func (s *session) number(ctx context.Context, positions []int64, first int64) error {
	for start, i := 0, 1; i <= len(positions); i++ {
		if i < len(positions) && positions[i] == positions[i-1]+1 {
			continue
		}
		n, err := s.count(ctx, "UPDATE record SET idx = seq + ? WHERE seq BETWEEN ? AND ? AND idx IS NULL",
			first+int64(start)-positions[start], positions[start], positions[i-1])
		if err == nil && n != int64(i-start) {
			err = fmt.Errorf("%d entries were to be numbered, but %d were", i-start, n)
		}
		if err != nil {
			return err
		}
		start = i
	}
	return nil
}

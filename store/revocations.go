package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"time"

	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/ca/status"
)

// revokedColumns are those of a revocation r, which a LEFT JOIN may leave out.
const revokedColumns = "coalesce(r.seq, 0), coalesce(r.at, 0), coalesce(r.reason, 0), coalesce(r.by, ''), r.record, coalesce(r.issuer, '')"

// revokedScan takes the columns of a revocation.
type revokedScan struct {
	seq, at    int64
	reason     int
	by, issuer string
	record     []byte
}

func (s *revokedScan) columns() []any {
	return []any{&s.seq, &s.at, &s.reason, &s.by, &s.record, &s.issuer}
}

// fill completes what is known of the certificate.
func (s *revokedScan) fill(r *ca.Revocation) {
	r.Position, r.At, r.Reason, r.By, r.Issuer = s.seq, time.Unix(s.at, 0).UTC(), ca.ReasonOf(s.reason), s.by, s.issuer
	copy(r.Record[:], s.record)
}

// of returns the revocation of a certificate, nil where there is none.
func (s *revokedScan) of(c *ca.Certificate) *ca.Revocation {
	if s.seq == 0 {
		return nil
	}
	r := &ca.Revocation{Serial: c.Serial, Device: c.Device, Profile: c.Profile, NotAfter: c.NotAfter}
	s.fill(r)
	return r
}

// Revocations implements status.Ledger.
func (db *DB) Revocations(ctx context.Context, after int64, alive time.Time, limit int) ([]ca.Revocation, error) {
	var found []ca.Revocation
	err := db.each(ctx, `SELECT c.serial, d.id, c.profile, r.not_after, `+revokedColumns+`
		FROM revocation r JOIN certificate c ON c.seq = r.certificate JOIN device d ON d.seq = c.device
		WHERE r.seq > ? AND r.not_after >= ? ORDER BY r.seq LIMIT ?`, []any{after, alive.Unix(), limit}, func(rows *sql.Rows) error {
		var r ca.Revocation
		var s revokedScan
		var serial sql.RawBytes
		var until int64
		if err := rows.Scan(append([]any{&serial, &r.Device, &r.Profile, &until}, s.columns()...)...); err != nil {
			return err
		}
		r.Serial, r.NotAfter = hex.EncodeToString(serial), time.Unix(until, 0).UTC()
		s.fill(&r)
		found = append(found, r)
		return nil
	})
	return found, err
}

// Standing implements status.Ledger.
func (db *DB) Standing(ctx context.Context, serial []byte) (issued bool, r *ca.Revocation, err error) {
	err = db.each(ctx, "SELECT "+revokedColumns+" FROM certificate c LEFT JOIN revocation r ON r.certificate = c.seq WHERE c.serial = ?",
		[]any{serial}, func(rows *sql.Rows) error {
			var s revokedScan
			if err := rows.Scan(s.columns()...); err != nil {
				return err
			}
			issued, r = true, s.of(&ca.Certificate{Serial: hex.EncodeToString(serial)})
			return nil
		})
	return issued, r, err
}

const selectList = "SELECT issuer, shard, number, through, this_update, next_update, der FROM crl WHERE number > 0 AND issuer = ?"

// Lists implements status.Shelf.
func (db *DB) Lists(ctx context.Context, issuer string, shards []int) ([]status.List, error) {
	var found []status.List
	take := func(rows *sql.Rows) error {
		var l status.List
		var this, next int64
		err := rows.Scan(&l.Issuer, &l.Shard, &l.Number, &l.Through, &this, &next, &l.DER)
		l.ThisUpdate, l.NextUpdate = time.Unix(this, 0).UTC(), time.Unix(next, 0).UTC()
		found = append(found, l)
		return err
	}
	if shards == nil {
		err := db.each(ctx, selectList+" ORDER BY shard", []any{issuer}, take)
		return found, err
	}
	for _, shard := range shards {
		if err := db.each(ctx, selectList+" AND shard = ?", []any{issuer, shard}, take); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// Numbers implements status.Shelf.
func (db *DB) Numbers(ctx context.Context, issuer string, shards []int) ([]int64, error) {
	numbers := make([]int64, len(shards))
	err := db.changer.do(ctx, func(tx *session) error {
		for i, shard := range shards { // in ascending order, as everybody, so that no two wait for each other
			if err := tx.one(db.engine.patience(ctx), `INSERT INTO crl (issuer, shard, allocated, number, through, this_update, next_update, der)
				VALUES (?, ?, 1, 0, 0, 0, 0, ?) ON CONFLICT (issuer, shard) DO UPDATE SET allocated = crl.allocated + 1 RETURNING allocated`,
				[]any{issuer, shard, []byte{}}, &numbers[i]); err != nil {
				return err
			}
		}
		return nil
	})
	return numbers, err
}

// KeepLists implements status.Shelf.
func (db *DB) KeepLists(ctx context.Context, lists []status.List) error {
	return db.changer.do(ctx, func(tx *session) error {
		for _, l := range lists {
			err := tx.exec(db.engine.patience(ctx), `UPDATE crl SET number = ?, through = ?, this_update = ?, next_update = ?, der = ?
				WHERE issuer = ? AND shard = ? AND number < ? AND through <= ?`,
				l.Number, l.Through, l.ThisUpdate.Unix(), l.NextUpdate.Unix(), l.DER, l.Issuer, l.Shard, l.Number, l.Through)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Addresses notes under which address lists are found from now on, and returns all
// that ever were, oldest first: certificates that name one of them are still there.
func (db *DB) Addresses(ctx context.Context, url string, now time.Time) ([]string, error) {
	err := db.changer.do(ctx, func(tx *session) error {
		return tx.exec(db.engine.patience(ctx), "INSERT INTO status_url (url, added) VALUES (?, ?) ON CONFLICT (url) DO NOTHING", url, now.UnixMilli())
	})
	var all []string
	if err == nil {
		err = db.each(ctx, "SELECT url FROM status_url ORDER BY added, url", nil, func(rows *sql.Rows) error {
			var one string
			err := rows.Scan(&one)
			all = append(all, one)
			return err
		})
	}
	return all, err
}

package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"slices"
	"time"

	"github.com/hallmark-pki/hallmark/internal/fault"
)

// Nonces are server-made and random, so that the first 64 bits of the SHA-256
// of one tell it from the few hundred thousand others that live at a time; that two
// agree happens once in many billions, and then the second is refused and its
// device asks again. The rows are narrow for it: spending a nonce stands on
// the way of every attested enrolment.

// spend is a nonce to be marked as used.
type spend struct {
	id, until int64
}

const insertNonce = "INSERT INTO nonce (id, until) VALUES {(?, ?)} ON CONFLICT (id) DO NOTHING RETURNING id"

// Spend marks a nonce (by its SHA-256) as used until the time given, durably;
// one that is marked already is a Conflict with code nonce_used. Of many calls
// at once, in any process, exactly one succeeds.
func (db *DB) Spend(ctx context.Context, nonce [32]byte, until time.Time) error {
	return db.submit(ctx, &unit{spend: &spend{id: keyPrefix(nonce), until: until.UnixMilli()}})
}

var errSpent = fault.New(fault.Conflict, "nonce_used", "this nonce was used already; ask for a new one")

// writeNonces spends the nonces of the batch, in order, as everybody does, so
// that no two wait for each other. Those that are not written were there before.
func (d *desk) writeNonces(ctx context.Context) error {
	spending := map[int64]*unit{}
	for _, u := range d.batch {
		if u.spend == nil {
			continue
		}
		u.refusal = errSpent
		if spending[u.spend.id] == nil {
			spending[u.spend.id] = u
		}
	}
	if len(spending) == 0 {
		return nil
	}
	rows := make([]any, 0, 2*len(spending))
	for _, id := range sortedKeys(spending) {
		rows = append(rows, id, spending[id].spend.until)
	}
	return d.tx.insertEach(ctx, insertNonce, 2, rows, func(r *sql.Rows) error {
		var id int64
		err := r.Scan(&id)
		if u := spending[id]; err == nil && u != nil {
			u.refusal = nil
		}
		return err
	})
}

func sortedKeys(m map[int64]*unit) []int64 {
	keys := make([]int64, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// Keep keeps a small body under a key until the time given, or until it is
// taken. A key that is in use gets the new body.
func (db *DB) Keep(ctx context.Context, key [32]byte, body []byte, until time.Time) error {
	return db.changer.do(ctx, func(tx *session) error {
		return tx.exec(db.engine.patience(ctx), "INSERT INTO kept (key, body, until) VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET body = excluded.body, until = excluded.until",
			key[:], present(body), until.UnixMilli())
	})
}

// Take returns the body and forgets it, once; an unknown key, and one past its
// time, is NotFound. It has forgotten it durably before it returns.
func (db *DB) Take(ctx context.Context, key [32]byte, now time.Time) ([]byte, error) {
	var body []byte
	found := false
	err := db.changer.do(ctx, func(tx *session) error {
		return tx.each(db.engine.patience(ctx), "DELETE FROM kept WHERE key = ? RETURNING body, until", []any{key[:]}, func(r *sql.Rows) error {
			var kept sql.RawBytes
			var until int64
			err := r.Scan(&kept, &until)
			body, found = bytes.Clone(kept), until > now.UnixMilli()
			return err
		})
	})
	if err == nil && !found {
		err = fault.New(fault.NotFound, "not_found", "nothing is kept under this key")
	}
	if err != nil {
		return nil, err
	}
	return body, nil
}

// Secret returns the 32 random bytes of that name that all replicas share,
// made at the first call.
func (db *DB) Secret(ctx context.Context, name string) ([]byte, error) {
	const query = "SELECT value FROM secret WHERE name = ?"
	var value []byte
	err := db.one(ctx, query, []any{name}, "no such secret", &value)
	if !fault.Is(err, fault.NotFound) {
		return value, err
	}
	fresh := make([]byte, 32)
	rand.Read(fresh)
	err = db.changer.do(ctx, func(tx *session) error {
		ctx := db.engine.patience(ctx)
		if err := tx.exec(ctx, "INSERT INTO secret (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING", name, fresh); err != nil {
			return err
		}
		return tx.one(ctx, query, []any{name}, &value) // another process may have been first
	})
	return value, err
}

package store

import (
	"context"
	"encoding/hex"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/operators"
)

// AddSeal takes a new seal in, in place of any other that is still sealed,
// and commits that with its event. A key that was sealed before is a Conflict.
func (db *DB) AddSeal(ctx context.Context, s operators.Seal, e audit.Event) error {
	key, err := hex.DecodeString(s.Key)
	if err != nil {
		return err
	}
	return db.change(ctx, &e, func(ctx context.Context, tx *session) error {
		if err := tx.exec(ctx, "UPDATE seal SET state = ? WHERE state = ?", string(operators.Replaced), string(operators.Sealed)); err != nil {
			return err
		}
		return tx.exec(ctx, "INSERT INTO seal (id, key, state, created, by) VALUES (?, ?, ?, ?, ?)", s.ID, key, string(s.State), millis(s.Created), s.By)
	})
}

// SealByKey returns the seal of the key whose SubjectPublicKeyInfo has that
// SHA-256 (lower-case hex), or an error of kind NotFound.
func (db *DB) SealByKey(ctx context.Context, key string) (operators.Seal, error) {
	s := operators.Seal{Key: key}
	sum, err := hex.DecodeString(key)
	if err != nil {
		return s, err
	}
	var created int64
	err = db.one(ctx, "SELECT id, state, created, by FROM seal WHERE key = ?", []any{sum}, "no such seal", &s.ID, &s.State, &created, &s.By)
	s.Created = fromMillis(created)
	return s, err
}

// OpenSeal marks the seal as used and takes the caller in that comes of it, and
// commits both with the event. A seal that is not Sealed is a Conflict.
func (db *DB) OpenSeal(ctx context.Context, id string, o operators.Operator, c operators.Certificate, e audit.Event) error {
	return db.change(ctx, &e, func(ctx context.Context, tx *session) error {
		n, err := tx.count(ctx, "UPDATE seal SET state = ? WHERE id = ? AND state = ?", string(operators.Used), id, string(operators.Sealed))
		if err != nil {
			return err
		}
		if n == 0 {
			return fault.New(fault.Conflict, "seal_used", "this break-glass credential was opened before, or another was sealed in its place")
		}
		return tx.addOperator(ctx, &o, &c)
	})
}

package store

import (
	"context"

	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/internal/once"
)

// Attempt returns what is kept under that id, or an error of kind NotFound.
func (db *DB) Attempt(ctx context.Context, id [32]byte) (once.Attempt, error) {
	a := once.Attempt{ID: id}
	var began, until, expires int64
	err := db.one(ctx, "SELECT decision, began, until, expires, answer FROM attempt WHERE id = ?", []any{id[:]}, "no such attempt",
		&a.Decision, &began, &until, &expires, &a.Answer)
	a.Began, a.Until, a.Expires = fromMillis(began), fromMillis(until), fromMillis(expires)
	return a, err
}

// BeginAttempt keeps a new attempt, durably. One that stands under the same id is a Conflict
// with code attempt_exists, unless it has expired at a.Began, or is that of the decision instead.
func (db *DB) BeginAttempt(ctx context.Context, a once.Attempt, instead string) error {
	return db.changer.do(ctx, func(tx *session) error {
		ctx := db.engine.patience(ctx)
		err := tx.exec(ctx, "DELETE FROM attempt WHERE id = ? AND (expires <= ? OR decision = ?)", a.ID[:], a.Began.UnixMilli(), instead)
		if err != nil {
			return err
		}
		n, err := tx.count(ctx, "INSERT INTO attempt (id, decision, began, until, expires, answer) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
			a.ID[:], a.Decision, a.Began.UnixMilli(), a.Until.UnixMilli(), a.Expires.UnixMilli(), present(a.Answer))
		if err == nil && n == 0 {
			return fault.New(fault.Conflict, "attempt_exists", "another call has this key")
		}
		return err
	})
}

// EndAttempt keeps the answer of the attempt of that decision, or forgets the attempt if the answer is nil.
func (db *DB) EndAttempt(ctx context.Context, id [32]byte, decision string, answer []byte) error {
	return db.changer.do(ctx, func(tx *session) error {
		ctx := db.engine.patience(ctx)
		if answer == nil {
			return tx.exec(ctx, "DELETE FROM attempt WHERE id = ? AND decision = ?", id[:], decision)
		}
		return tx.exec(ctx, "UPDATE attempt SET answer = ? WHERE id = ? AND decision = ?", answer, id[:], decision)
	})
}

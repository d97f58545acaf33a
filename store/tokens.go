package store

import (
	"context"
	"database/sql"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/enroll"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

const (
	tokenColumns = "id, hash, device, profile, uses, used, created, expires, by, revoked"
	selectToken  = "SELECT " + tokenColumns + " FROM token"
	noToken      = "no such token"
)

// TokenByHash returns the token, or an error of kind NotFound.
func (db *DB) TokenByHash(ctx context.Context, hash [32]byte) (enroll.Token, error) {
	found, err := db.tokens(ctx, selectToken+" WHERE hash = ?", hash[:])
	if err == nil && len(found) == 0 {
		err = fault.New(fault.NotFound, "token_unknown", noToken)
	}
	if err != nil {
		return enroll.Token{}, err
	}
	return found[0], nil
}

// Tokens returns those that the filter selects, newest first.
func (db *DB) Tokens(ctx context.Context, f enroll.TokenFilter) ([]enroll.Token, error) {
	var w where
	if f.ID != "" {
		w.and("id = ?", f.ID)
	}
	if f.Device != "" {
		w.and("device = ?", f.Device)
	}
	if f.Before != "" {
		w.and("id < ?", f.Before)
	}
	return db.tokens(ctx, selectToken+w.text()+" ORDER BY id DESC LIMIT ?", append(w.args, limit(f.Limit))...)
}

func (db *DB) tokens(ctx context.Context, query string, args ...any) ([]enroll.Token, error) {
	var found []enroll.Token
	err := db.each(ctx, query, args, func(r *sql.Rows) error {
		var t enroll.Token
		var hash sql.RawBytes
		var created, expires int64
		err := r.Scan(&t.ID, &hash, &t.Device, &t.Profile, &t.Uses, &t.Used, &created, &expires, &t.By, &t.Revoked)
		copy(t.Hash[:], hash)
		t.Created, t.Expires = fromMillis(created), fromMillis(expires)
		found = append(found, t)
		return err
	})
	return found, err
}

// CreateToken commits a new token with its event. An id or a secret that
// exists already is a Conflict.
func (db *DB) CreateToken(ctx context.Context, t enroll.Token, e audit.Event) error {
	return db.change(ctx, &e, func(ctx context.Context, tx *session) error {
		return tx.exec(ctx, "INSERT INTO token ("+tokenColumns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
			t.ID, t.Hash[:], t.Device, t.Profile, t.Uses, t.Used, millis(t.Created), millis(t.Expires), t.By, flag(t.Revoked))
	})
}

// RevokeToken ends a token and commits that with its event. Revoking an
// unknown one is NotFound; a revoked one stays revoked.
func (db *DB) RevokeToken(ctx context.Context, id string, e audit.Event) error {
	return db.change(ctx, &e, func(ctx context.Context, tx *session) error {
		n, err := tx.count(ctx, "UPDATE token SET revoked = 1 WHERE id = ?", id)
		if err == nil && n == 0 {
			err = fault.New(fault.NotFound, "token_unknown", noToken)
		}
		return err
	})
}

// flag is how both engines keep a bool.
func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

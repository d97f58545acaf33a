package store

import (
	"context"
	"database/sql"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/enroll"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

const (
	tokenColumns = "id, hash, device, profile, uses, used, created, expires, by, revoked"
	selectToken  = "SELECT " + tokenColumns + " FROM token"
	noToken      = "no such token"
)

// selectBearer reads a token and the device that it is for at once: an
// enrolment by token needs both, and a look-up costs it more than a row. A
// device that is not there has an empty id.
const selectBearer = `SELECT coalesce(device.id, ''), coalesce(model, ''), coalesce(serial, ''), coalesce(batch, ''), coalesce(ek, ''), coalesce(ak, ''),
	coalesce(labels, ''), coalesce(state, ''), coalesce(reason, ''), coalesce(device.created, 0), coalesce(changed, 0), ` + bonded + `,
	t.id, hash, t.device, profile, uses, used, t.created, expires, by, revoked
	FROM token t LEFT JOIN device ON device.id = CASE t.device WHEN '' THEN ? ELSE t.device END WHERE hash = ?`

// TokenByHash returns the token, or an error of kind NotFound, and with it the
// device that it is for: its own, or else the one named; nil if there is none in the register.
func (db *DB) TokenByHash(ctx context.Context, hash [32]byte, named string) (enroll.Token, *fleet.Device, error) {
	var token enroll.Token
	var device *fleet.Device
	err := db.each(ctx, selectBearer, []any{named, hash[:]}, func(r *sql.Rows) error {
		var row tokenScan
		var bonded bool
		d, err := scanDevice(r, append([]any{&bonded}, row.columns()...)...)
		if token = row.token(); d.ID != "" {
			d.Bonded = bonded
			device = &d
		}
		return err
	})
	if err == nil && token.ID == "" {
		err = fault.New(fault.NotFound, "token_unknown", noToken)
	}
	return token, device, err
}

// tokenScan takes the columns of a token.
type tokenScan struct {
	enroll.Token
	hash             sql.RawBytes
	created, expires int64
}

func (s *tokenScan) columns() []any {
	return []any{&s.ID, &s.hash, &s.Device, &s.Profile, &s.Uses, &s.Used, &s.created, &s.expires, &s.By, &s.Revoked}
}

func (s *tokenScan) token() enroll.Token {
	copy(s.Hash[:], s.hash)
	s.Created, s.Expires = fromMillis(s.created), fromMillis(s.expires)
	return s.Token
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
		var row tokenScan
		err := r.Scan(row.columns()...)
		found = append(found, row.token())
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

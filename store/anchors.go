package store

import (
	"context"
	"database/sql"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/enroll"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

const anchorColumns = "id, profile, kind, subject, der, added, by"

// Anchors returns those of one profile and kind, in order of profile, kind and
// id; empty strings select all.
func (db *DB) Anchors(ctx context.Context, profile string, kind enroll.AnchorKind) ([]enroll.Anchor, error) {
	var w where
	if profile != "" {
		w.and("profile = ?", profile)
	}
	if kind != "" {
		w.and("kind = ?", string(kind))
	}
	var found []enroll.Anchor
	err := db.each(ctx, "SELECT "+anchorColumns+" FROM anchor"+w.text()+" ORDER BY profile, kind, id", w.args, func(r *sql.Rows) error {
		var a enroll.Anchor
		var added int64
		err := r.Scan(&a.ID, &a.Profile, &a.Kind, &a.Subject, &a.DER, &added, &a.By)
		a.Added = fromMillis(added)
		found = append(found, a)
		return err
	})
	return found, err
}

// AddAnchor commits the anchor with its event. One that stands already stays as it is.
func (db *DB) AddAnchor(ctx context.Context, a enroll.Anchor, e audit.Event) error {
	return db.change(ctx, &e, func(ctx context.Context, tx *session) error {
		return tx.exec(ctx, "INSERT INTO anchor ("+anchorColumns+") VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (profile, kind, id) DO NOTHING",
			a.ID, a.Profile, string(a.Kind), a.Subject, a.DER, millis(a.Added), a.By)
	})
}

// RemoveAnchor removes the anchor from one profile, or from all if profile is
// empty, and commits that with its event; none there is NotFound.
func (db *DB) RemoveAnchor(ctx context.Context, id, profile string, e audit.Event) error {
	w := where{}
	w.and("id = ?", id)
	if profile != "" {
		w.and("profile = ?", profile)
	}
	return db.change(ctx, &e, func(ctx context.Context, tx *session) error {
		n, err := tx.count(ctx, "DELETE FROM anchor"+w.text(), w.args...)
		if err == nil && n == 0 {
			err = fault.New(fault.NotFound, "anchor_unknown", "no such trust anchor")
		}
		return err
	})
}

package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

const (
	selectBaseline = "SELECT state, canary, changed, changed_by, why, body FROM baseline"
	noBaseline     = "no such baseline"
)

// Baselines returns those that the filter selects, newest first.
func (db *DB) Baselines(ctx context.Context, f attest.BaselineFilter) ([]attest.Baseline, error) {
	var w where
	if f.ID != "" {
		w.and("id = ?", f.ID)
	}
	if f.Model != "" {
		w.and("model = ?", f.Model)
	}
	if f.State != "" {
		w.and("state = ?", string(f.State))
	}
	if f.Before != "" {
		w.and("id < ?", f.Before)
	}
	var found []attest.Baseline
	err := db.each(ctx, selectBaseline+w.text()+" ORDER BY id DESC LIMIT ?", append(w.args, limit(f.Limit)), func(r *sql.Rows) error {
		b, err := db.scanBaseline(r)
		found = append(found, b)
		return err
	})
	return found, err
}

// scanBaseline reads a baseline as it was added, and what has changed since.
func (db *DB) scanBaseline(r *sql.Rows) (attest.Baseline, error) {
	var b, now attest.Baseline
	var changed int64
	var packed sql.RawBytes
	err := r.Scan(&now.State, &now.Canary, &changed, &now.ChangedBy, &now.Why, &packed)
	if err != nil {
		return b, err
	}
	body, err := db.packer.unpack(packed)
	if err != nil {
		return b, err
	}
	if err := json.Unmarshal(body, &b); err != nil {
		return b, fmt.Errorf("store: a stored baseline: %w", err)
	}
	b.State, b.Canary, b.Changed, b.ChangedBy, b.Why = now.State, now.Canary, fromMillis(changed), now.ChangedBy, now.Why
	return b, nil
}

// AddBaseline commits with its event; an id that exists is a Conflict.
func (db *DB) AddBaseline(ctx context.Context, b attest.Baseline, e audit.Event) error {
	body, err := json.Marshal(b)
	if err != nil {
		return err
	}
	return db.change(ctx, &e, func(ctx context.Context, tx *session) error {
		return tx.exec(ctx, "INSERT INTO baseline (id, model, state, canary, changed, changed_by, why, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
			b.ID, b.Model, string(b.State), b.Canary, millis(b.Changed), b.ChangedBy, b.Why, packPlain(body))
	})
}

// MoveBaseline commits with its event; another state is a Conflict, an unknown id NotFound.
func (db *DB) MoveBaseline(ctx context.Context, m attest.BaselineMove, e audit.Event) error {
	return db.change(ctx, &e, func(ctx context.Context, tx *session) error {
		var state attest.BaselineState
		var canary string
		err := tx.one(ctx, "SELECT state, canary FROM baseline WHERE id = ?"+forUpdate, []any{m.ID}, &state, &canary)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return fault.New(fault.NotFound, "baseline_unknown", noBaseline)
		case err != nil:
			return err
		case !slices.Contains(m.From, state):
			return fault.New(fault.Conflict, "baseline_state", fmt.Sprintf("the baseline is %s", state))
		}
		if m.To == attest.Canary {
			canary = m.Canary
		}
		return tx.exec(ctx, "UPDATE baseline SET state = ?, canary = ?, changed = ?, changed_by = ?, why = ? WHERE id = ?",
			string(m.To), canary, millis(m.At), m.By, m.Reason, m.ID)
	})
}

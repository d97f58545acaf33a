package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy/release"
)

// BeginReplay commits a new replay with its event, in place of the last of its
// proposal. As long as another goes on it is a Conflict with the code replay_running.
func (db *DB) BeginReplay(ctx context.Context, run release.Rehearsal, e audit.Event) error {
	body, err := writeBody(run)
	if err != nil {
		return err
	}
	err = db.change(ctx, &e, func(ctx context.Context, tx *session) error {
		n, err := tx.count(ctx, "INSERT INTO replay (proposal, id, shown, ongoing, body) VALUES (?, ?, '', 1, ?) ON CONFLICT (proposal) "+
			"DO UPDATE SET id = excluded.id, ongoing = 1, body = excluded.body WHERE replay.ongoing = 0", run.Proposal, run.ID, body)
		if err == nil && n == 0 {
			err = errOngoing
		}
		return err
	})
	if err == nil {
		return nil
	}
	running, readErr := db.Replays(ctx, "")
	if readErr != nil || len(running) == 0 {
		return err
	}
	r := &running[0]
	return fault.Wrap(fault.Conflict, "replay_running",
		fmt.Sprintf("one proposal is replayed at a time, and %s is at it since %s for %s; wait for it, or cancel it", r.Proposal, r.Began.Format(audit.TimeFormat), r.By), err)
}

// errOngoing says that the replay before goes on.
var errOngoing = fault.New(fault.Conflict, "replay_running", "one proposal is replayed at a time")

// errReplayOver says that somebody has ended the replay.
func errReplayOver() error {
	return fault.New(fault.Conflict, "replay_over", "the replay has ended")
}

// KeepReplay notes how far a replay has come. It is no part of the record.
func (db *DB) KeepReplay(ctx context.Context, run release.Rehearsal) error {
	body, err := writeBody(run)
	if err != nil {
		return err
	}
	return db.changer.do(ctx, func(tx *session) error {
		n, err := tx.count(db.engine.patience(ctx), "UPDATE replay SET body = ? WHERE proposal = ? AND id = ? AND ongoing = 1", body, run.Proposal, run.ID)
		if err == nil && n == 0 {
			err = errReplayOver()
		}
		return err
	})
}

// EndReplay commits the end of a replay that goes on with its event, and the
// proposal as it is now, where there is one.
func (db *DB) EndReplay(ctx context.Context, run release.Rehearsal, p *release.Proposal, e audit.Event) error {
	body, err := writeBody(run)
	if err != nil {
		return err
	}
	shown := ""
	if p != nil {
		shown = run.ID
	}
	return db.change(ctx, &e, func(ctx context.Context, tx *session) error {
		n, err := tx.count(ctx, "UPDATE replay SET ongoing = 0, shown = CASE ? WHEN '' THEN shown ELSE ? END, body = ? WHERE proposal = ? AND id = ? AND ongoing = 1",
			shown, shown, body, run.Proposal, run.ID)
		switch {
		case err != nil:
			return err
		case n == 0:
			return errReplayOver()
		case p != nil:
			return tx.changeProposal(ctx, p)
		}
		return nil
	})
}

// Replays returns the last replay of a proposal, or, of none, that which goes on.
func (db *DB) Replays(ctx context.Context, proposal string) ([]release.Rehearsal, error) {
	query, args := "SELECT body FROM replay WHERE ongoing = 1", []any(nil)
	if proposal != "" {
		query, args = "SELECT body FROM replay WHERE proposal = ?", []any{proposal}
	}
	var found []release.Rehearsal
	err := db.each(ctx, query, args, func(r *sql.Rows) error {
		var run release.Rehearsal
		var body []byte
		if err := r.Scan(&body); err != nil {
			return err
		}
		err := db.readBody(body, &run)
		found = append(found, run)
		return err
	})
	return found, err
}

const insertDifference = "INSERT INTO difference (replay, place, part, class, action, code, resource, count, body) VALUES {(?, ?, ?, ?, ?, ?, ?, ?, ?)} " +
	"ON CONFLICT (replay, place) DO UPDATE SET count = difference.count + excluded.count"

// AddDifferences adds differences that a replay found; those at one place count together.
func (db *DB) AddDifferences(ctx context.Context, replay string, found []release.Listed) error {
	var values []any
	for i := range found {
		d := &found[i]
		body, err := writeBody(d)
		if err != nil {
			return err
		}
		values = append(values, replay, d.Place, string(d.Part), string(d.Class), d.Action, d.Is.Code, d.Resource, d.Count, body)
	}
	return db.changer.do(ctx, func(tx *session) error {
		return tx.insert(db.engine.patience(ctx), insertDifference, 9, values)
	})
}

// Differences returns those that the filter selects, by place.
func (db *DB) Differences(ctx context.Context, f release.DifferenceFilter) ([]release.Listed, error) {
	var w where
	w.and("replay = ?", f.Replay)
	for _, c := range [...]struct{ condition, value string }{
		{"part = ?", string(f.Part)}, {"class = ?", string(f.Class)}, {"action = ?", f.Action}, {"code = ?", f.Code}, {"resource = ?", f.Resource}} {
		if c.value != "" {
			w.and(c.condition, c.value)
		}
	}
	if len(f.After) > 0 {
		w.and("place > ?", f.After)
	}
	var found []release.Listed
	err := db.each(ctx, "SELECT place, count, body FROM difference"+w.text()+" ORDER BY place LIMIT ?", append(w.args, limit(f.Limit)), func(r *sql.Rows) error {
		var d release.Listed
		var place, body []byte
		var count int
		if err := r.Scan(&place, &count, &body); err != nil {
			return err
		}
		err := db.readBody(body, &d)
		d.Place, d.Count = place, count
		found = append(found, d)
		return err
	})
	return found, err
}

// shownReplays is of how many replays, the newest, the differences are kept one by
// one. Each may have some ten thousands, and who looks at those of last year replays again.
const shownReplays = 10

// SweepDifferences removes those of replays that neither go on nor are among the
// newest that proposals show: some at a time, so that nobody waits for it.
func (db *DB) SweepDifferences(ctx context.Context) error {
	live := map[string]bool{}
	mark := func(r *sql.Rows) error {
		var id string
		err := r.Scan(&id)
		live[id] = true
		return err
	}
	err := errors.Join(db.each(ctx, "SELECT id FROM replay WHERE ongoing = 1", nil, mark),
		db.each(ctx, "SELECT shown FROM replay ORDER BY shown DESC LIMIT ?", []any{shownReplays}, mark))
	for replay := ""; err == nil; {
		found := false
		err = db.each(ctx, "SELECT replay FROM difference WHERE replay > ? ORDER BY replay LIMIT 1", []any{replay}, func(r *sql.Rows) error {
			found = true
			return r.Scan(&replay)
		})
		switch {
		case err != nil || !found:
			return err
		case !live[replay]:
			err = db.dropDifferences(ctx, replay)
		}
	}
	return err
}

func (db *DB) dropDifferences(ctx context.Context, replay string) error {
	for n := int64(1); n > 0; {
		err := db.changer.do(ctx, func(tx *session) (err error) {
			n, err = tx.count(db.engine.patience(ctx), "DELETE FROM difference WHERE replay = ? AND place IN (SELECT place FROM difference WHERE replay = ? LIMIT 500)", replay, replay)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

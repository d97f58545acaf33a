package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy/release"
)

// Proposals returns those that the filter selects, newest first. Bundle is set
// only where the filter names one proposal.
func (db *DB) Proposals(ctx context.Context, f release.ProposalFilter) ([]release.Proposal, error) {
	var w where
	columns := "state, edition, body, NULL"
	if f.ID != "" {
		w.and("id = ?", f.ID)
		columns = "state, edition, body, bundle"
	}
	if f.State != "" {
		w.and("state = ?", string(f.State))
	}
	if f.Author != "" {
		w.and("author = ?", f.Author)
	}
	if f.Before != "" {
		w.and("id < ?", f.Before)
	}
	var found []release.Proposal
	err := db.each(ctx, "SELECT "+columns+" FROM proposal"+w.text()+" ORDER BY id DESC LIMIT ?", append(w.args, limit(f.Limit)), func(r *sql.Rows) error {
		var p release.Proposal
		var state release.State
		var edition int64
		var body, bundle []byte
		if err := r.Scan(&state, &edition, &body, &bundle); err != nil {
			return err
		}
		err := db.readBody(body, &p)
		p.State, p.Edition, p.Bundle = state, edition, bundle
		found = append(found, p)
		return err
	})
	return found, err
}

// readBody reads what writeBody wrote.
func (db *DB) readBody(packed []byte, into any) error {
	text, err := db.packer.unpack(packed)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("store: a stored %T: %w", into, err)
	}
	return nil
}

func writeBody(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return packPlain(text), nil
}

// AddProposal commits a new proposal with its event; an id that exists is a Conflict.
func (db *DB) AddProposal(ctx context.Context, p release.Proposal, e audit.Event) error {
	body, err := writeBody(p)
	if err != nil {
		return err
	}
	return db.change(ctx, &e, func(ctx context.Context, tx *session) error {
		return tx.exec(ctx, "INSERT INTO proposal (id, state, author, base, edition, body, bundle) VALUES (?, ?, ?, ?, ?, ?, ?)",
			p.ID, string(p.State), p.Author, p.Base, p.Edition, body, p.Bundle)
	})
}

// ChangeProposal commits the proposal as it is now, its bundle apart, with the
// event; one that was changed since it was read is a Conflict with the code proposal_changed.
func (db *DB) ChangeProposal(ctx context.Context, p release.Proposal, e audit.Event) error {
	return db.change(ctx, &e, func(ctx context.Context, tx *session) error { return tx.changeProposal(ctx, &p) })
}

func (s *session) changeProposal(ctx context.Context, p *release.Proposal) error {
	body, err := writeBody(p)
	if err != nil {
		return err
	}
	n, err := s.count(ctx, "UPDATE proposal SET state = ?, edition = edition + 1, body = ? WHERE id = ? AND edition = ?",
		string(p.State), body, p.ID, p.Edition)
	if err == nil && n == 0 {
		err = fault.New(fault.Conflict, "proposal_changed", "the proposal has changed meanwhile; look at it again")
	}
	return err
}

// Revisions returns those that the filter selects, newest first. Bundle is set
// only where the filter names one revision; that of a return is the one that it returned to.
func (db *DB) Revisions(ctx context.Context, f release.RevisionFilter) ([]release.Revision, error) {
	var w where
	columns := "body, NULL"
	if f.Number != 0 {
		w.and("number = ?", f.Number)
		columns = "body, bundle"
	}
	if f.Before != 0 {
		w.and("number < ?", f.Before)
	}
	var found []release.Revision
	err := db.each(ctx, "SELECT "+columns+" FROM revision"+w.text()+" ORDER BY number DESC LIMIT ?", append(w.args, limit(f.Limit)), func(r *sql.Rows) error {
		var v release.Revision
		var body, bundle []byte
		if err := r.Scan(&body, &bundle); err != nil {
			return err
		}
		err := db.readBody(body, &v)
		v.Bundle = bundle
		found = append(found, v)
		return err
	})
	if err == nil && f.Number != 0 && len(found) == 1 && found[0].Of != 0 {
		err = db.one(ctx, "SELECT bundle FROM revision WHERE number = ?", []any{found[0].Of}, "no such revision", &found[0].Bundle)
	}
	return found, err
}

// Course returns what is in force.
func (db *DB) Course(ctx context.Context) (release.Course, error) {
	var c release.Course
	err := db.one(ctx, "SELECT version, revision, trial FROM course WHERE id = 1", nil, "no course", &c.Version, &c.Revision, &c.Trial)
	return c, err
}

// Turn commits a change of course with its event, all or nothing. A course or
// a proposal that was changed since it was read is a Conflict.
func (db *DB) Turn(ctx context.Context, t release.Turn, e audit.Event) error {
	return db.change(ctx, &e, func(ctx context.Context, tx *session) error {
		n, err := tx.count(ctx, "UPDATE course SET version = ?, revision = ?, trial = ? WHERE id = 1 AND version = ?",
			t.To.Version, t.To.Revision, t.To.Trial, t.From.Version)
		switch {
		case err != nil:
			return err
		case n == 0:
			return fault.New(fault.Conflict, "course_changed", "the policy in force has changed meanwhile; look at it again")
		case t.To.Version <= t.From.Version:
			return errors.New("store: a course that does not go forward")
		}
		if t.InForce != "" {
			if err := tx.supersede(ctx, &t); err != nil {
				return err
			}
		}
		for i := range t.Proposals {
			if err := tx.changeProposal(ctx, &t.Proposals[i]); err != nil {
				return err
			}
		}
		for i := range t.Revisions {
			if err := tx.addRevision(ctx, &t.Revisions[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// supersede ends what builds on rules that are no longer in force, and what was
// in force. The turn's own proposals are changed after it, by the edition that they had before.
func (s *session) supersede(ctx context.Context, t *release.Turn) error {
	own := make([]any, 2) // a turn has one proposal, or that on trial and that in force
	for i := range own {
		own[i] = ""
		if i < len(t.Proposals) {
			own[i] = t.Proposals[i].ID
		}
	}
	if len(t.Proposals) > len(own) {
		return errors.New("store: a turn of more than two proposals")
	}
	return s.exec(ctx, "UPDATE proposal SET state = ?, edition = edition + 1 WHERE (state = ? OR state IN (?, ?) AND base <> ?) AND id NOT IN (?, ?)",
		append([]any{string(release.Superseded), string(release.Active), string(release.Open), string(release.Approved), t.InForce}, own...)...)
}

func (s *session) addRevision(ctx context.Context, r *release.Revision) error {
	body, err := writeBody(r)
	if err != nil {
		return err
	}
	bundle := r.Bundle
	if bundle == nil {
		bundle = []byte{}
	}
	return s.exec(ctx, "INSERT INTO revision (number, body, bundle) VALUES (?, ?, ?)", r.Number, body, bundle)
}

// KeepTally replaces what this process has counted of a proposal's trial.
func (db *DB) KeepTally(ctx context.Context, proposal, process string, t release.Tally) error {
	body, err := writeBody(t)
	if err != nil {
		return err
	}
	return db.changer.do(ctx, func(tx *session) error {
		return tx.exec(db.engine.patience(ctx), "INSERT INTO tally (proposal, process, body) VALUES (?, ?, ?) ON CONFLICT (proposal, process) DO UPDATE SET body = excluded.body",
			proposal, process, body)
	})
}

// Tallies returns what all processes have counted.
func (db *DB) Tallies(ctx context.Context, proposal string) ([]release.Tally, error) {
	var found []release.Tally
	err := db.each(ctx, "SELECT body FROM tally WHERE proposal = ? ORDER BY process", []any{proposal}, func(r *sql.Rows) error {
		var t release.Tally
		var body []byte
		if err := r.Scan(&body); err != nil {
			return err
		}
		err := db.readBody(body, &t)
		found = append(found, t)
		return err
	})
	return found, err
}

package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/operators"
)

const (
	sessionColumns = "operator_session.id, operator_session.operator, kind, login, source, operator_session.created, used, expires"
	// selectSession costs every request of a session one look-up.
	selectSession = "SELECT " + operatorColumns + ", " + sessionColumns +
		" FROM operator_session JOIN operator ON operator.name = operator_session.operator WHERE hash = ?"
)

// OperatorBySession returns the operator whose session's token has that
// SHA-256 and the session, or an error of kind NotFound.
func (db *DB) OperatorBySession(ctx context.Context, hash [32]byte) (operators.Operator, operators.Session, error) {
	var row operatorScan
	var own sessionScan
	if err := db.one(ctx, selectSession, []any{hash[:]}, "there is no such session", append(row.columns(), own.columns()...)...); err != nil {
		return operators.Operator{}, operators.Session{}, err
	}
	o, err := row.operator()
	s, wrong := own.session()
	return o, s, errors.Join(err, wrong)
}

// sessionScan takes the columns of a session.
type sessionScan struct {
	operators.Session
	login                  []byte
	created, used, expires int64
}

func (s *sessionScan) columns() []any {
	return []any{&s.ID, &s.Operator, &s.Kind, &s.login, &s.Source, &s.created, &s.used, &s.expires}
}

func (s *sessionScan) session() (operators.Session, error) {
	s.Created, s.Used, s.Expires = fromMillis(s.created), fromMillis(s.used), fromMillis(s.expires)
	if err := json.Unmarshal(s.login, &s.Login); err != nil {
		return operators.Session{}, fmt.Errorf("store: session %s: %w", s.ID, err)
	}
	return s.Session, nil
}

// TouchSession notes that the session was used.
func (db *DB) TouchSession(ctx context.Context, id string, at time.Time) error {
	return db.changer.do(ctx, func(tx *session) error {
		return tx.exec(db.engine.patience(ctx), "UPDATE operator_session SET used = ? WHERE id = ? AND used < ?", millis(at), id, millis(at))
	})
}

// OperatorByLogin returns the operator who is bound to that subject of the
// issuer, else who is bound to the email address, unless it is empty, and to no
// subject yet; or an error of kind NotFound.
func (db *DB) OperatorByLogin(ctx context.Context, issuer, subject, email string) (operators.Operator, error) {
	const missing = "no operator is bound to this subject"
	var row operatorScan
	err := db.one(ctx, selectOperator+" WHERE oidc_issuer = ? AND oidc = ?", []any{issuer, subject}, missing, row.columns()...)
	if fault.Is(err, fault.NotFound) && email != "" {
		err = db.one(ctx, selectOperator+" WHERE oidc_issuer = ? AND oidc_email = ? AND oidc IS NULL", []any{issuer, email}, missing, row.columns()...)
	}
	if err != nil {
		return operators.Operator{}, err
	}
	return row.operator()
}

// AddSession commits a new session with its event, and sweeps away what has
// ended. It is Denied, code operator_unbound, if the operator is not active or
// not bound to the session's subject any more. With Pin it binds them to the subject.
func (db *DB) AddSession(ctx context.Context, s operators.NewSession, e audit.Event) error {
	login, err := json.Marshal(s.Login)
	if err != nil {
		return err
	}
	return db.change(ctx, &e, func(ctx context.Context, tx *session) error {
		if err := tx.pin(ctx, &s); err != nil {
			return err
		}
		if err := tx.exec(ctx, "DELETE FROM operator_session WHERE expires <= ? OR used <= ?", millis(s.Created), millis(s.Stale)); err != nil {
			return err
		}
		err := tx.exec(ctx, `DELETE FROM operator_session WHERE operator = ? AND id NOT IN
			(SELECT id FROM operator_session WHERE operator = ? ORDER BY created DESC, id DESC LIMIT ?)`, s.Operator, s.Operator, s.Most-1)
		if err != nil {
			return err
		}
		return tx.exec(ctx, `INSERT INTO operator_session (id, hash, operator, kind, login, source, created, used, expires)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			s.ID, s.Hash[:], s.Operator, string(s.Kind), string(login), s.Source, millis(s.Created), millis(s.Used), millis(s.Expires))
	})
}

// pin sees to it that the operator is bound to the session's subject. It locks
// the operator: who is being suspended has no session left afterwards.
func (s *session) pin(ctx context.Context, n *operators.NewSession) error {
	var state operators.State
	var issuer string
	var subject, email sql.NullString
	err := s.one(ctx, "SELECT state, oidc_issuer, oidc, oidc_email FROM operator WHERE name = ?"+forUpdate, []any{n.Operator}, &state, &issuer, &subject, &email)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	pinned := subject.Valid && subject.String == n.Login.Subject
	pinning := n.Pin && !subject.Valid && email.Valid && email.String == n.Login.Email
	switch {
	case state != operators.Active || issuer != n.Login.Issuer || !pinned && !pinning:
		return fault.New(fault.Denied, "operator_unbound", "this operator was barred or bound to another subject in the meantime")
	case pinning:
		return s.exec(ctx, "UPDATE operator SET oidc = ? WHERE name = ?", n.Login.Subject, n.Operator)
	}
	return nil
}

// Sessions returns those that the filter selects, newest first.
func (db *DB) Sessions(ctx context.Context, f operators.SessionFilter) ([]operators.Session, error) {
	var w where
	if f.ID != "" {
		w.and("id = ?", f.ID)
	}
	if f.Operator != "" {
		w.and("operator = ?", f.Operator)
	}
	if f.Before != "" {
		w.and("id < ?", f.Before)
	}
	if !f.Expiring.IsZero() {
		w.and("expires > ?", millis(f.Expiring))
	}
	if !f.Stale.IsZero() {
		w.and("used > ?", millis(f.Stale))
	}
	var found []operators.Session
	err := db.each(ctx, "SELECT "+sessionColumns+" FROM operator_session"+w.text()+" ORDER BY id DESC LIMIT ?", append(w.args, limit(f.Limit)), func(r *sql.Rows) error {
		var row sessionScan
		if err := r.Scan(row.columns()...); err != nil {
			return err
		}
		s, err := row.session()
		found = append(found, s)
		return err
	})
	return found, err
}

// EndSession ends a session with its event; one that is not there is NotFound.
func (db *DB) EndSession(ctx context.Context, id string, e audit.Event) error {
	return db.change(ctx, &e, func(ctx context.Context, tx *session) error {
		n, err := tx.count(ctx, "DELETE FROM operator_session WHERE id = ?", id)
		if err == nil && n == 0 {
			err = fault.New(fault.NotFound, "session_unknown", "there is no such session; it may have ended")
		}
		return err
	})
}

// endSessions ends the sessions of an operator whom a change bars, robs of
// every certificate or binds anew.
func (s *session) endSessions(ctx context.Context, c *operators.Change) error {
	if c.To != operators.Suspended && c.To != operators.Removed && !c.RevokeAll && c.Bind == nil {
		return nil
	}
	return s.exec(ctx, "DELETE FROM operator_session WHERE operator = ?", c.Name)
}

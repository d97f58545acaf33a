package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/operators"
)

const (
	operatorColumns = "name, roles, state, operator.reason, oidc_issuer, coalesce(oidc, ''), coalesce(oidc_email, ''), operator.created, by, changed, changed_by, breakglass"
	selectOperator  = "SELECT " + operatorColumns + " FROM operator"

	ownColumns = "sha256, serial, issued, not_after, revoked, operator_certificate.reason"
	// selectCaller costs every request of an operator one look-up.
	selectCaller = "SELECT " + operatorColumns + ", " + ownColumns +
		" FROM operator_certificate JOIN operator ON operator.name = operator_certificate.operator WHERE sha256 = ?"
)

// Operators returns those that the filter selects, without their
// certificates, in order of name.
func (db *DB) Operators(ctx context.Context, f operators.Filter) ([]operators.Operator, error) {
	var w where
	if f.Name != "" {
		w.and("name = ?", f.Name)
	}
	if f.State != "" {
		w.and("state = ?", string(f.State))
	}
	if f.After != "" {
		w.and("name > ?", f.After)
	}
	var found []operators.Operator
	err := db.each(ctx, selectOperator+w.text()+" ORDER BY name LIMIT ?", append(w.args, limit(f.Limit)), func(r *sql.Rows) error {
		var row operatorScan
		if err := r.Scan(row.columns()...); err != nil {
			return err
		}
		o, err := row.operator()
		found = append(found, o)
		return err
	})
	return found, err
}

// OperatorCertificates returns an operator's certificates, newest first, at most limit.
func (db *DB) OperatorCertificates(ctx context.Context, name string, limit int) ([]operators.Certificate, error) {
	var found []operators.Certificate
	err := db.each(ctx, "SELECT "+ownColumns+" FROM operator_certificate WHERE operator = ? ORDER BY seq DESC LIMIT ?", []any{name, limit},
		func(r *sql.Rows) error {
			var row ownScan
			err := r.Scan(row.columns()...)
			found = append(found, row.own())
			return err
		})
	return found, err
}

// OperatorByCertificate returns the operator whose certificate has that SHA-256 (lower-case hex)
// and the certificate, or an error of kind NotFound.
func (db *DB) OperatorByCertificate(ctx context.Context, sha256 string) (operators.Operator, operators.Certificate, error) {
	key, err := hex.DecodeString(sha256)
	if err != nil {
		return operators.Operator{}, operators.Certificate{}, fmt.Errorf("store: not a SHA-256 in hex: %w", err)
	}
	var row operatorScan
	var own ownScan
	if err := db.one(ctx, selectCaller, []any{key}, "no operator has this certificate", append(row.columns(), own.columns()...)...); err != nil {
		return operators.Operator{}, operators.Certificate{}, err
	}
	o, err := row.operator()
	return o, own.own(), err
}

// operatorScan takes the columns of an operator.
type operatorScan struct {
	operators.Operator
	roles, breakglass string
	created, changed  int64
}

func (s *operatorScan) columns() []any {
	return []any{&s.Name, &s.roles, &s.State, &s.Reason, &s.Issuer, &s.Binding.Subject, &s.Email, &s.created, &s.By, &s.changed, &s.ChangedBy, &s.breakglass}
}

func (s *operatorScan) operator() (operators.Operator, error) {
	s.Created, s.Changed = fromMillis(s.created), fromMillis(s.changed)
	err := json.Unmarshal([]byte(s.roles), &s.Roles)
	if s.breakglass != "" {
		err = errors.Join(err, json.Unmarshal([]byte(s.breakglass), &s.Breakglass))
	}
	if err != nil {
		return operators.Operator{}, fmt.Errorf("store: the entry of operator %s: %w", s.Name, err)
	}
	return s.Operator, nil
}

// ownScan takes the columns of an operator's certificate.
type ownScan struct {
	operators.Certificate
	sha256                    []byte
	issued, notAfter, revoked int64
}

func (s *ownScan) columns() []any {
	return []any{&s.sha256, &s.Serial, &s.issued, &s.notAfter, &s.revoked, &s.Reason}
}

func (s *ownScan) own() operators.Certificate {
	s.SHA256 = hex.EncodeToString(s.sha256)
	s.Issued, s.NotAfter, s.Revoked = fromMillis(s.issued), fromMillis(s.notAfter), fromMillis(s.revoked)
	return s.Certificate
}

// AddOperator takes somebody in, with a first certificate unless it is the zero one, and
// commits that with its event. A name, an OIDC subject or an email address there that the register
// holds already is a Conflict. With first it is a Conflict if the register holds anybody.
func (db *DB) AddOperator(ctx context.Context, o operators.Operator, c operators.Certificate, first bool, e audit.Event) error {
	return db.change(ctx, &e, func(ctx context.Context, tx *session) error {
		if first {
			var n int
			if err := tx.one(ctx, "SELECT count(*) FROM operator", nil, &n); err != nil {
				return err
			}
			if n > 0 {
				return fault.New(fault.Conflict, "operators_exist", "the register holds operators already")
			}
		}
		return tx.addOperator(ctx, &o, &c)
	})
}

func (s *session) addOperator(ctx context.Context, o *operators.Operator, c *operators.Certificate) error {
	var alike int // who goes by Ann is not to approve what ann has proposed
	if err := s.one(ctx, "SELECT count(*) FROM operator WHERE lower(name) = lower(?) AND name <> ?", []any{o.Name, o.Name}, &alike); err != nil {
		return err
	}
	if alike > 0 {
		return fault.New(fault.Conflict, "operator_alike", "an operator has this name already, but for the case of its letters")
	}
	roles, err := json.Marshal(o.Roles)
	if err != nil {
		return err
	}
	var breakglass []byte
	if o.Breakglass != nil {
		if breakglass, err = json.Marshal(o.Breakglass); err != nil {
			return err
		}
	}
	err = s.exec(ctx, `INSERT INTO operator (name, roles, state, reason, oidc_issuer, oidc, oidc_email, created, by, changed, changed_by, breakglass)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		o.Name, string(roles), string(o.State), o.Reason, o.Issuer, orNull(o.Binding.Subject), orNull(o.Email),
		millis(o.Created), o.By, millis(o.Changed), o.ChangedBy, string(breakglass))
	if err != nil || c.SHA256 == "" {
		return err
	}
	return s.addOwn(ctx, o.Name, c)
}

// orNull is text for a column that is NULL where there is none.
func orNull(text string) any {
	if text == "" {
		return nil
	}
	return text
}

func (s *session) addOwn(ctx context.Context, name string, c *operators.Certificate) error {
	sum, err := hex.DecodeString(c.SHA256)
	if err != nil {
		return err
	}
	return s.exec(ctx, "INSERT INTO operator_certificate (sha256, operator, serial, issued, not_after, revoked, reason) VALUES (?, ?, ?, ?, ?, ?, ?)",
		sum, name, c.Serial, millis(c.Issued), millis(c.NotAfter), millis(c.Revoked), c.Reason)
}

// ChangeOperator makes one change and commits it with its event. An unknown
// operator is NotFound; what else is refused stands at operators.Change.
func (db *DB) ChangeOperator(ctx context.Context, c operators.Change, e audit.Event) error {
	return db.change(ctx, &e, func(ctx context.Context, tx *session) error {
		if err := tx.mayChange(ctx, &c); err != nil {
			return err
		}
		if c.Certify != nil {
			if err := tx.addOwn(ctx, c.Name, c.Certify); err != nil {
				return err
			}
		}
		if err := tx.revokeOwn(ctx, &c); err != nil {
			return err
		}
		if err := tx.endSessions(ctx, &c); err != nil {
			return err
		}
		return tx.changeEntry(ctx, &c)
	})
}

// mayChange returns why the change is not to be made. It locks everybody who
// is active: of two who remove each other one is second.
func (s *session) mayChange(ctx context.Context, c *operators.Change) error {
	var others int
	state := operators.State("")
	err := s.each(ctx, "SELECT name, state, breakglass FROM operator WHERE state = ? OR name = ? ORDER BY name"+forUpdate,
		[]any{string(operators.Active), c.Name}, func(r *sql.Rows) error {
			var name, breakglass string
			var is operators.State
			err := r.Scan(&name, &is, &breakglass)
			switch {
			case name == c.Name:
				state = is
			case is == operators.Active && breakglass == "":
				others++
			}
			return err
		})
	switch {
	case err != nil:
		return err
	case state == "":
		return fault.New(fault.NotFound, "operator_unknown", "no operator has this name")
	case !slices.Contains(c.From, state):
		return fault.New(fault.Conflict, "operator_state", fmt.Sprintf("the operator is %s", state))
	case c.Others && others == 0:
		return fault.New(fault.Conflict, "last_operator", "nobody else would be left who may do anything; add another operator first")
	case c.Holding == "":
		return nil
	}
	return s.holds(ctx, c)
}

// holds returns an error unless the operator holds the certificate that the change asks for.
func (s *session) holds(ctx context.Context, c *operators.Change) error {
	sum, err := hex.DecodeString(c.Holding)
	if err != nil {
		return err
	}
	var n int
	err = s.one(ctx, "SELECT count(*) FROM operator_certificate WHERE sha256 = ? AND operator = ? AND revoked = 0", []any{sum, c.Name}, &n)
	if err == nil && n == 0 {
		err = fault.New(fault.Denied, "certificate_revoked", "the operator certificate presented was revoked")
	}
	return err
}

// revokeOwn revokes what the change says.
func (s *session) revokeOwn(ctx context.Context, c *operators.Change) error {
	if c.RevokeAll {
		return s.exec(ctx, "UPDATE operator_certificate SET revoked = ?, reason = ? WHERE operator = ? AND revoked = 0", millis(c.At), c.Reason, c.Name)
	}
	if c.Revoke == "" {
		return nil
	}
	var n int
	if err := s.one(ctx, "SELECT count(*) FROM operator_certificate WHERE operator = ? AND serial = ?", []any{c.Name, c.Revoke}, &n); err != nil {
		return err
	}
	if n == 0 {
		return fault.New(fault.NotFound, "operator_certificate_unknown", "the operator has no certificate with this serial number")
	}
	return s.exec(ctx, "UPDATE operator_certificate SET revoked = ?, reason = ? WHERE operator = ? AND serial = ? AND revoked = 0",
		millis(c.At), c.Reason, c.Name, c.Revoke)
}

// changeEntry writes the entry's new state and roles.
func (s *session) changeEntry(ctx context.Context, c *operators.Change) error {
	if c.To != "" {
		if err := s.exec(ctx, "UPDATE operator SET state = ?, reason = ? WHERE name = ?", string(c.To), c.Reason, c.Name); err != nil {
			return err
		}
	}
	if c.Roles != nil {
		roles, err := json.Marshal(c.Roles)
		if err != nil {
			return err
		}
		if err := s.exec(ctx, "UPDATE operator SET roles = ? WHERE name = ?", string(roles), c.Name); err != nil {
			return err
		}
	}
	if b := c.Bind; b != nil {
		err := s.exec(ctx, "UPDATE operator SET oidc_issuer = ?, oidc = ?, oidc_email = ? WHERE name = ?", b.Issuer, orNull(b.Subject), orNull(b.Email), c.Name)
		if err != nil {
			return err
		}
	}
	return s.exec(ctx, "UPDATE operator SET changed = ?, changed_by = ? WHERE name = ?", millis(c.At), c.By, c.Name)
}

package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/enroll"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

const (
	heldColumns = "id, key, device, profile, renewal, key_hash, subject, reasons, state, created, expires, decided, by, reason, serial, attempts, operator, action, object, parameters, content"
	selectHeld  = "SELECT " + heldColumns + " FROM held"
	// liveHeld is the newest request with a key that has not ended.
	liveHeld = " WHERE key = ? AND expires > ? AND state NOT IN ('issued', 'used') ORDER BY seq DESC LIMIT 1"
	noHeld   = "no such held request"
)

// Hold writes h with its event, unless a live one with the same Key exists;
// then it counts one more attempt there and still writes the event. It returns
// the one that stands.
func (db *DB) Hold(ctx context.Context, h enroll.Held, e audit.Event) (enroll.Held, error) {
	reasons, err := json.Marshal(h.Reasons)
	if err != nil {
		return enroll.Held{}, err
	}
	h.Attempts = max(h.Attempts, 1)
	err = db.change(ctx, &e, func(ctx context.Context, tx *session) error {
		if err := db.engine.lockKeys(ctx, tx, []int64{keyPrefix(h.Key)}); err != nil {
			return err
		}
		standing, err := tx.liveHeld(ctx, h.Key, h.Created)
		if errors.Is(err, sql.ErrNoRows) {
			var errand enroll.Errand
			if h.Errand != nil {
				errand = *h.Errand
			}
			return tx.exec(ctx, "INSERT INTO held ("+heldColumns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
				h.ID, h.Key[:], h.Device, h.Profile, flag(h.Renewal), h.KeyHash, h.Subject, string(reasons), string(h.State),
				millis(h.Created), millis(h.Expires), millis(h.Decided), h.By, h.Reason, h.Serial, h.Attempts,
				errand.Operator, errand.Action, errand.Object, string(errand.Parameters), errand.Content)
		}
		if err != nil {
			return err
		}
		h = standing
		h.Attempts++
		return tx.exec(ctx, "UPDATE held SET attempts = attempts + 1 WHERE id = ?", h.ID)
	})
	if err != nil {
		return enroll.Held{}, err
	}
	return h, nil
}

func (s *session) liveHeld(ctx context.Context, key [32]byte, now time.Time) (enroll.Held, error) {
	var found []enroll.Held
	err := s.each(ctx, selectHeld+liveHeld, []any{key[:], now.UnixMilli()}, func(r *sql.Rows) error {
		return scanHeld(r, &found)
	})
	if err == nil && len(found) == 0 {
		err = sql.ErrNoRows
	}
	if err != nil {
		return enroll.Held{}, err
	}
	return found[0], nil
}

// HeldByKey returns the newest live one with that key, or an error of kind NotFound.
func (db *DB) HeldByKey(ctx context.Context, key [32]byte, now time.Time) (enroll.Held, error) {
	found, err := db.held(ctx, selectHeld+liveHeld, key[:], now.UnixMilli())
	if err == nil && len(found) == 0 {
		err = fault.New(fault.NotFound, "request_unknown", noHeld)
	}
	if err != nil {
		return enroll.Held{}, err
	}
	return found[0], nil
}

// HeldRequests returns those that the filter selects, newest first.
func (db *DB) HeldRequests(ctx context.Context, f enroll.HeldFilter) ([]enroll.Held, error) {
	var w where
	if f.ID != "" {
		w.and("id = ?", f.ID)
	}
	if f.State != "" {
		w.and("state = ?", string(f.State))
	}
	if f.Device != "" {
		w.and("device = ?", f.Device)
	}
	if f.Before != "" {
		w.and("id < ?", f.Before)
	}
	return db.held(ctx, selectHeld+w.text()+" ORDER BY id DESC LIMIT ?", append(w.args, limit(f.Limit))...)
}

func (db *DB) held(ctx context.Context, query string, args ...any) ([]enroll.Held, error) {
	var found []enroll.Held
	err := db.each(ctx, query, args, func(r *sql.Rows) error { return scanHeld(r, &found) })
	return found, err
}

func scanHeld(r *sql.Rows, to *[]enroll.Held) error {
	var h enroll.Held
	var key, reasons sql.RawBytes
	var created, expires, decided int64
	var errand enroll.Errand
	err := r.Scan(&h.ID, &key, &h.Device, &h.Profile, &h.Renewal, &h.KeyHash, &h.Subject, &reasons, &h.State,
		&created, &expires, &decided, &h.By, &h.Reason, &h.Serial, &h.Attempts,
		&errand.Operator, &errand.Action, &errand.Object, (*[]byte)(&errand.Parameters), &errand.Content)
	if err != nil {
		return err
	}
	if errand.Operator != "" {
		h.Errand = &errand
	}
	copy(h.Key[:], key)
	h.Created, h.Expires, h.Decided = fromMillis(created), fromMillis(expires), fromMillis(decided)
	err = json.Unmarshal(reasons, &h.Reasons)
	*to = append(*to, h)
	return err
}

// SettleHeld moves a pending request to Approved or Rejected with its event;
// another state is a Conflict, an unknown id NotFound.
func (db *DB) SettleHeld(ctx context.Context, s enroll.Settlement, e audit.Event) error {
	if s.To != enroll.Approved && s.To != enroll.Rejected {
		return fmt.Errorf("a held request is settled as approved or denied, not as %q", s.To)
	}
	return db.change(ctx, &e, func(ctx context.Context, tx *session) error {
		var state enroll.HeldState
		err := tx.one(ctx, "SELECT state FROM held WHERE id = ?"+forUpdate, []any{s.ID}, &state)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return fault.New(fault.NotFound, "request_unknown", noHeld)
		case err != nil:
			return err
		case state != enroll.Pending:
			return fault.New(fault.Conflict, "request_settled", fmt.Sprintf("the request is %s already", state))
		}
		return tx.exec(ctx, "UPDATE held SET state = ?, by = ?, reason = ?, decided = ? WHERE id = ?",
			string(s.To), s.By, s.Reason, millis(s.At), s.ID)
	})
}

// useUp marks the approved request as used, for the event at that time. One that is used already, or
// has expired, is a Conflict: nothing is done twice on one approval.
func (s *session) useUp(ctx context.Context, id string, at int64) error {
	if id == "" {
		return nil
	}
	n, err := s.count(ctx, "UPDATE held SET state = 'used' WHERE id = ? AND state = 'approved' AND expires > ?", id, at)
	if err == nil && n != 1 {
		err = fault.New(fault.Conflict, "approval_used", "what another operator had approved was done already, or too long ago; ask again")
	}
	return err
}

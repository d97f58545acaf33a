package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/hallmark-pki/hallmark/internal/fault"
)

// trouble is what an engine says of an error of its driver.
type trouble struct {
	unique string // the unique index that was violated, such as certificate_serial
	busy   bool   // lost connection, lock timeout, deadlock, full: worth another try
	lost   bool   // the connection is unusable
}

// errTakeBack makes a transaction roll back without being an error.
var errTakeBack = errors.New("take the transaction back")

// errCommit marks errors of COMMIT itself: the transaction may be durable or not.
type errCommit struct{ error }

func (e errCommit) Unwrap() error { return e.error }

// classify gives a driver's error its kind. What is classified already, and nil, come back as they are.
func (db *DB) classify(err error) error {
	var classified *fault.Error
	if err == nil || errors.As(err, &classified) {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fault.Wrap(fault.Busy, "gave_up_waiting", "the caller stopped waiting for the database", err)
	}
	t := db.engine.trouble(err)
	switch {
	case t.unique == "certificate_serial":
		return fault.Wrap(fault.Conflict, "serial_exists", "a certificate with this serial number exists", err)
	case t.unique == "record_id":
		return fault.Wrap(fault.Conflict, "record_exists", "the record holds an entry with this id", err)
	case t.unique == "operator_name":
		return fault.Wrap(fault.Conflict, "operator_exists", "the register holds an operator of this name; names are not given twice", err)
	case t.unique == "operator_oidc":
		return fault.Wrap(fault.Conflict, "oidc_subject_in_use", "another operator has this OIDC subject", err)
	case t.unique == "operator_oidc_email":
		return fault.Wrap(fault.Conflict, "oidc_email_in_use", "another operator has this email address at the identity provider", err)
	case t.unique == "device_serial":
		return fault.Wrap(fault.Conflict, "device_serial_in_use", "another device has this serial number", err)
	case t.unique != "":
		return fault.Wrap(fault.Conflict, "exists", "it exists already", err)
	case t.busy || t.lost:
		return &fault.Error{Kind: fault.Busy, Code: "database_busy", Says: "the database cannot just now; try again later", After: time.Second, Err: err}
	}
	return fault.Wrap(fault.Internal, "database", "internal error", err)
}

// missing turns "no rows" into an error of kind NotFound that names what is
// missing, and classifies everything else.
func (db *DB) missing(err error, says string) error {
	if errors.Is(err, sql.ErrNoRows) {
		return fault.New(fault.NotFound, "not_found", says)
	}
	return db.classify(err)
}

var errClosed = fault.New(fault.Busy, "closing", "the server is stopping")

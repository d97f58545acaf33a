package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

const (
	deviceColumns = "id, model, serial, batch, ek, ak, labels, state, reason, created, changed"
	insertDevice  = "INSERT INTO device (" + deviceColumns + ") VALUES {(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)}"
	deviceWidth   = 11
	bonded        = "EXISTS (SELECT 1 FROM bond WHERE bond.device = device.seq)"
	selectDevice  = "SELECT " + deviceColumns + ", " + bonded + " FROM device"
)

const noDevice = "no such device in the register"

// Device returns the device with that id, or an error of kind NotFound.
func (db *DB) Device(ctx context.Context, id string) (fleet.Device, error) {
	found, err := db.devices(ctx, selectDevice+" WHERE id = ?", id)
	if err == nil && len(found) == 0 {
		err = fault.New(fault.NotFound, "device_unknown", noDevice)
	}
	if err != nil {
		return fleet.Device{}, err
	}
	return found[0], nil
}

// FindDevice returns the device whose id is name, else the one whose serial is
// name, or an error of kind NotFound.
func (db *DB) FindDevice(ctx context.Context, name string) (fleet.Device, error) {
	d, err := db.Device(ctx, name)
	if !fault.Is(err, fault.NotFound) || name == "" {
		return d, err
	}
	found, err := db.devices(ctx, selectDevice+" WHERE serial = ? AND serial <> ''", name)
	if err == nil && len(found) == 0 {
		err = fault.New(fault.NotFound, "device_unknown", noDevice)
	}
	if err != nil {
		return fleet.Device{}, err
	}
	return found[0], nil
}

// Devices returns the devices that the filter selects, in order of id.
func (db *DB) Devices(ctx context.Context, f fleet.Filter) ([]fleet.Device, error) {
	var w where
	if f.Model != "" {
		w.and("model = ?", f.Model)
	}
	if f.Batch != "" {
		w.and("batch = ?", f.Batch)
	}
	if f.EKSHA256 != "" {
		w.and("ek = ? AND ek <> ''", f.EKSHA256)
	}
	if f.State != "" {
		w.and("state = ?", string(f.State))
	}
	if f.After != "" {
		w.and("id > ?", f.After)
	}
	return db.devices(ctx, selectDevice+w.text()+" ORDER BY id LIMIT ?", append(w.args, limit(f.Limit))...)
}

func (db *DB) devices(ctx context.Context, query string, args ...any) ([]fleet.Device, error) {
	var found []fleet.Device
	err := db.each(ctx, query, args, func(r *sql.Rows) error {
		var bonded bool
		d, err := scanDevice(r, &bonded)
		d.Bonded = bonded
		found = append(found, d)
		return err
	})
	return found, err
}

func scanDevice(r *sql.Rows, more ...any) (fleet.Device, error) {
	var d fleet.Device
	var labels sql.RawBytes
	var created, changed int64
	err := r.Scan(append([]any{&d.ID, &d.Model, &d.Serial, &d.Batch, &d.EKSHA256, &d.AKSHA256, &labels, &d.State, &d.Reason, &created, &changed}, more...)...)
	d.Created, d.Changed = fromMillis(created), fromMillis(changed)
	if err == nil && len(labels) > 0 {
		err = json.Unmarshal(labels, &d.Labels)
	}
	return d, err
}

// deviceValues are the values of a new device's row.
func deviceValues(d *fleet.Device, now int64) ([]any, error) {
	labels, err := labelText(d.Labels)
	return []any{d.ID, d.Model, d.Serial, d.Batch, d.EKSHA256, d.AKSHA256, labels, string(d.State), d.Reason, now, now}, err
}

func labelText(labels map[string]string) (string, error) {
	if len(labels) == 0 {
		return "", nil
	}
	b, err := json.Marshal(labels)
	return string(b), err
}

// ChangeDevices writes the change and its event in one transaction.
func (db *DB) ChangeDevices(ctx context.Context, c fleet.Change) (fleet.Imported, error) {
	if (c.Import == nil) == (c.ID == "") {
		return fleet.Imported{}, fmt.Errorf("a change of the register is an import or a move of one device")
	}
	done, err := db.changeDevices(ctx, &c)
	for range 3 {
		if err == nil || db.engine.trouble(err).unique != "device_id" {
			break
		}
		done, err = db.changeDevices(ctx, &c) // another process has just imported one of them: now the register knows it
	}
	return done, err
}

func (db *DB) changeDevices(ctx context.Context, c *fleet.Change) (fleet.Imported, error) {
	var done fleet.Imported
	err := db.changer.do(ctx, func(tx *session) error {
		ctx := db.engine.patience(ctx)
		var err error
		if c.ID != "" {
			done, err = fleet.Imported{Updated: 1}, tx.move(ctx, c)
		} else {
			done, err = tx.importDevices(ctx, c)
		}
		if err != nil {
			return err
		}
		event, err := c.EventWith(done)
		if err != nil {
			return err
		}
		return tx.record(ctx, &event)
	})
	if err != nil {
		return fleet.Imported{}, err
	}
	return done, nil
}

// move moves one device from one state to another.
func (s *session) move(ctx context.Context, c *fleet.Change) error {
	var seq int64
	var state fleet.State
	err := s.one(ctx, "SELECT seq, state FROM device WHERE id = ?"+forUpdate, []any{c.ID}, &seq, &state)
	if errors.Is(err, sql.ErrNoRows) {
		return fault.New(fault.NotFound, "device_unknown", noDevice)
	}
	if err != nil {
		return err
	}
	if !slices.Contains(c.From, state) {
		return fault.New(fault.Conflict, "device_state", fmt.Sprintf("the device is %s", state))
	}
	to := c.To
	if to == fleet.Active {
		var held int
		if err := s.one(ctx, "SELECT count(*) FROM (SELECT 1 FROM certificate WHERE device = ? LIMIT 1) held", []any{seq}, &held); err != nil {
			return err
		}
		if held == 0 {
			to = fleet.Expected
		}
	}
	return s.exec(ctx, "UPDATE device SET state = ?, reason = ?, changed = ? WHERE seq = ?", string(to), c.Reason, c.At.UnixMilli(), seq)
}

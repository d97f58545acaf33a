package store

import (
	"context"
	"database/sql"
	"slices"
)

// A batch is settled in three steps: lock and read all that it depends on,
// decide about each unit in memory, write what came of it. So it takes a handful
// of statements however many units there are, and a refused unit has written nothing.

// desk is where one batch is decided: what was read, kept up to date with what
// has been decided so far.
type desk struct {
	tx      *session
	batch   []*unit
	tokens  map[string]*tokenRow
	held    map[string]*heldRow
	devices map[string]*deviceRow
	keys    map[[32]byte]int64 // device.seq of whoever holds the key
	issued  map[[32]byte]*deviceRow
	barred  map[[32]byte]bool // keys that are never to be certified again
	revoked map[string]bool   // serial numbers of what was presented and counts no more
	bonds   map[*deviceRow]*bondRow
	tpms    map[[32]byte]*deviceRow // SHA-256 of an endorsement or attestation key → the device that is bound to it
}

func newDesk(tx *session, batch []*unit) *desk {
	return &desk{tx: tx, batch: batch, tokens: map[string]*tokenRow{}, held: map[string]*heldRow{},
		devices: map[string]*deviceRow{}, keys: map[[32]byte]int64{}, issued: map[[32]byte]*deviceRow{},
		barred: map[[32]byte]bool{}, revoked: map[string]bool{},
		bonds: map[*deviceRow]*bondRow{}, tpms: map[[32]byte]*deviceRow{}}
}

// inTurn runs the steps until one fails.
func inTurn(ctx context.Context, steps ...func(context.Context) error) error {
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// read locks and reads all that the batch depends on. All who lock rows lock
// them in this order, and each kind in order of its names, so that no two wait for each other.
func (d *desk) read(ctx context.Context) error {
	return inTurn(ctx, d.readTokens, d.readHeld, d.readDevices, d.lockKeys, d.readBonds, d.readKeys, d.readPresented)
}

// decide refuses the unit, or takes it and keeps the desk up to date.
func (d *desk) decide(u *unit) error {
	switch {
	case u.issuance != nil:
		return d.decideIssuance(u.issuance, u.proof)
	case u.proof != nil:
		return d.decideProof(u.proof)
	case u.ward != nil:
		d.stop(u.ward, u.entry.at)
	}
	return nil
}

// write writes what was decided, in an order that all keep to, too.
func (d *desk) write(ctx context.Context) error {
	return inTurn(ctx, d.writeDevices, d.writeTokens, d.writeHeld, d.writeStopped, d.writeBonds, d.writeEvidence,
		d.writeCertificates, d.writeNonces, d.writeSweep)
}

// named returns what each unit of the batch names, sorted and once each.
func (d *desk) named(name func(*unit) string) []any {
	var names []string
	for _, u := range d.batch {
		if n := name(u); n != "" {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	args := make([]any, len(names))
	for i, n := range names {
		args[i] = n
	}
	return args
}

func (u *unit) token() string {
	if u.issuance == nil {
		return ""
	}
	return u.issuance.Token
}

func (u *unit) request() string {
	if u.issuance == nil {
		return ""
	}
	return u.issuance.Request
}

func (u *unit) device() string {
	switch {
	case u.issuance != nil:
		return u.issuance.Certificate.Device
	case u.proof != nil:
		return u.proof.bond.Device
	case u.ward != nil:
		return u.ward.device
	}
	return ""
}

func (d *desk) readDevices(ctx context.Context) error {
	devices := d.named((*unit).device)
	return d.tx.among(ctx, "SELECT id, seq, state FROM device WHERE id IN ({?}) ORDER BY id"+forUpdate, nil, devices,
		func(r *sql.Rows) error {
			var id string
			v := &deviceRow{}
			err := r.Scan(&id, &v.seq, &v.state)
			d.devices[id] = v
			return err
		})
}

// lockKeys locks the keys of the batch: those that certificates are asked for, and those of TPMs.
func (d *desk) lockKeys(ctx context.Context) error {
	var prefixes []int64
	for _, u := range d.batch {
		if u.issuance != nil {
			prefixes = append(prefixes, u.issuance.prefix)
		}
		if u.proof != nil {
			for _, key := range u.proof.keys {
				prefixes = append(prefixes, keyPrefix(key))
			}
		}
	}
	if len(prefixes) == 0 {
		return nil
	}
	slices.Sort(prefixes)
	return d.tx.db.engine.lockKeys(ctx, d.tx, slices.Compact(prefixes))
}

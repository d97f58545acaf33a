package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

// Revoking locks what issuing locks, and in the same order: the rows of
// devices, then keys. So an issuance is committed before the revocation, which then sees
// it, or is decided after it, and then sees the revocation.

// revoking is one withdrawal on its way.
type revoking struct {
	*session
	ca.Withdrawal
	rows     map[int64]*doomed // by certificate.seq
	fresh    []*doomed         // not revoked before, in order of seq
	standing []*doomed
	devices  map[int64]fleet.State
	done     ca.Revoked
}

// doomed is a certificate that is to be revoked, or was.
type doomed struct {
	ca.Revocation
	seq, device int64
	key         [32]byte
}

// Revoke implements ca.Ledger.
func (db *DB) Revoke(ctx context.Context, w ca.Withdrawal) (ca.Revoked, error) {
	var done ca.Revoked
	err := db.changer.do(ctx, func(tx *session) error {
		r := &revoking{session: tx, Withdrawal: w, rows: map[int64]*doomed{}, devices: map[int64]fleet.State{}}
		err := inTurn(db.engine.patience(ctx), r.find, r.widen, r.sort, r.commit)
		done = r.done
		return err
	})
	if err != nil {
		return ca.Revoked{}, err
	}
	return done, nil
}

const selectDoomed = `SELECT c.seq, c.serial, c.device, d.id, c.profile, c.not_after, c.der
	FROM certificate c JOIN device d ON d.seq = c.device`

// find reads what the target names, and locks the devices that hold it.
func (r *revoking) find(ctx context.Context) error {
	switch {
	case r.Serial != "":
		return r.findSerial(ctx)
	case r.Device != "":
		return r.findDevice(ctx)
	}
	if err := r.overKey(ctx, r.Key); err != nil {
		return err
	}
	if len(r.rows) == 0 {
		return fault.New(fault.NotFound, "key_unknown", "no certificate was issued over a key with this SHA-256")
	}
	return r.lockDevices(ctx)
}

func (r *revoking) findSerial(ctx context.Context) error {
	unknown := fault.New(fault.NotFound, "not_found", "no certificate has this serial number")
	number, err := parseSerial(r.Serial)
	if err != nil {
		return unknown
	}
	if err := r.take(ctx, selectDoomed+" WHERE c.serial = ?", number); err != nil {
		return err
	}
	if len(r.rows) == 0 {
		return unknown
	}
	return r.lockDevices(ctx)
}

// findDevice locks the device first: what is issued to it is issued before or after.
func (r *revoking) findDevice(ctx context.Context) error {
	var seq int64
	var state fleet.State
	err := r.one(ctx, "SELECT seq, state FROM device WHERE id = ?"+forUpdate, []any{r.Device}, &seq, &state)
	if errors.Is(err, sql.ErrNoRows) {
		return fault.New(fault.NotFound, "device_unknown", noDevice)
	}
	if err != nil {
		return err
	}
	r.devices[seq] = state
	return r.take(ctx, selectDoomed+" WHERE c.device = ? AND c.not_after >= ? ORDER BY c.seq", seq, r.At.Unix())
}

func (r *revoking) take(ctx context.Context, query string, args ...any) error {
	return r.each(ctx, query, args, func(rows *sql.Rows) error {
		_, err := r.scan(rows, nil)
		return err
	})
}

// scan takes a row, unless it is of another key than wanted.
func (r *revoking) scan(rows *sql.Rows, wanted *[32]byte) (bool, error) {
	var c doomed
	var serial, der sql.RawBytes
	var until int64
	if err := rows.Scan(&c.seq, &serial, &c.device, &c.Device, &c.Profile, &until, &der); err != nil {
		return false, err
	}
	c.Serial, c.NotAfter = fmt.Sprintf("%x", []byte(serial)), time.Unix(until, 0).UTC()
	plain, err := r.db.packer.unpack(der)
	if err != nil {
		return false, err
	}
	if c.key, err = hashOfKey(plain); err != nil || wanted != nil && c.key != *wanted {
		return false, err
	}
	if c.Issuer, err = ca.IssuedBy(plain); err == nil && r.rows[c.seq] == nil {
		r.rows[c.seq] = &c
	}
	return true, err
}

// overKey takes all certificates over a key.
func (r *revoking) overKey(ctx context.Context, key [32]byte) error {
	return r.each(ctx, selectDoomed+" WHERE c.key = ? ORDER BY c.seq", []any{keyPrefix(key)}, func(rows *sql.Rows) error {
		_, err := r.scan(rows, &key)
		return err
	})
}

// lockDevices locks the devices of what was found, in order of their ids as everybody does.
func (r *revoking) lockDevices(ctx context.Context) error {
	var seqs []any
	for _, c := range r.rows {
		seqs = append(seqs, c.device)
	}
	return r.among(ctx, "SELECT seq, state FROM device WHERE seq IN ({?}) ORDER BY id"+forUpdate, nil, seqs, func(rows *sql.Rows) error {
		var seq int64
		var state fleet.State
		err := rows.Scan(&seq, &state)
		r.devices[seq] = state
		return err
	})
}

// widen locks the keys that are never to be certified again, and takes all
// certificates over them: a key that is known to others has no good one. They are one device's, for
// a key belongs to one.
func (r *revoking) widen(ctx context.Context) error {
	if !r.BarsKeys() || len(r.rows) == 0 {
		return nil
	}
	var keys [][32]byte
	var prefixes []int64
	for _, c := range r.rows {
		keys, prefixes = append(keys, c.key), append(prefixes, keyPrefix(c.key))
	}
	slices.SortFunc(keys, func(a, b [32]byte) int { return slices.Compare(a[:], b[:]) })
	slices.Sort(prefixes)
	if err := r.db.engine.lockKeys(ctx, r.session, slices.Compact(prefixes)); err != nil {
		return err
	}
	for _, key := range slices.Compact(keys) {
		if err := r.overKey(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// sort tells what was revoked before from what is to be.
func (r *revoking) sort(ctx context.Context) error {
	var seqs []any
	for seq := range r.rows {
		seqs = append(seqs, seq)
	}
	stands := map[int64]bool{}
	err := r.among(ctx, "SELECT r.certificate, "+revokedColumns+" FROM revocation r WHERE r.certificate IN ({?})", nil, seqs, func(rows *sql.Rows) error {
		var seq int64
		var s revokedScan
		if err := rows.Scan(append([]any{&seq}, s.columns()...)...); err != nil {
			return err
		}
		if c := r.rows[seq]; !stands[seq] {
			s.fill(&c.Revocation)
			stands[seq] = true
			r.standing = append(r.standing, c)
		}
		return nil
	})
	for _, c := range r.rows {
		if !stands[c.seq] {
			r.fresh = append(r.fresh, c)
		}
	}
	order := func(a, b *doomed) int { return int(a.seq - b.seq) }
	slices.SortFunc(r.fresh, order)
	slices.SortFunc(r.standing, order)
	if r.done.More = len(r.fresh) > ca.MaxRevoked; r.done.More {
		r.fresh = r.fresh[len(r.fresh)-ca.MaxRevoked:] // the newest live longest
	}
	return err
}

// commit writes what was decided.
func (r *revoking) commit(ctx context.Context) error {
	for _, c := range r.fresh {
		c.At, c.Reason, c.By = r.At, r.Reason, r.By
		r.done.Fresh = append(r.done.Fresh, c.Revocation)
	}
	for _, c := range r.standing {
		r.done.Standing = append(r.done.Standing, c.Revocation)
	}
	if err := r.quarantine(ctx); err != nil {
		return err
	}
	event, err := r.EventWith(&r.done)
	if err != nil {
		return err
	}
	if err := r.insertRows(ctx, event.ID[:]); err != nil {
		return err
	}
	for i := range r.done.Fresh {
		r.done.Fresh[i].Record = event.ID
	}
	return r.record(ctx, &event)
}

// insertRows writes the revocations. One transaction does so at a time, so that
// the order of their positions is that in which others see them.
func (r *revoking) insertRows(ctx context.Context, record []byte) error {
	if err := r.db.engine.lockRevocations(ctx, r.session); err != nil {
		return err
	}
	bars := 0
	if r.BarsKeys() {
		bars = 1
		var standing []any
		for _, c := range r.standing {
			standing = append(standing, c.seq)
		}
		if err := r.among(ctx, "UPDATE revocation SET bars = 1 WHERE certificate IN ({?})", nil, standing, ignore); err != nil {
			return err
		}
	}
	var rows []any
	for _, c := range r.fresh {
		rows = append(rows, c.seq, c.Issuer, c.NotAfter.Unix(), c.At.Unix(), c.Reason.Code(), bars, c.By, record)
	}
	n := 0
	return r.insertEach(ctx, "INSERT INTO revocation (certificate, issuer, not_after, at, reason, bars, by, record) VALUES {(?, ?, ?, ?, ?, ?, ?, ?)} RETURNING seq",
		8, rows, func(rows *sql.Rows) error {
			err := rows.Scan(&r.done.Fresh[n].Position)
			n++
			return err
		})
}

// quarantine stops a device that is revoked as a whole, unless it is to be kept or out of service already.
func (r *revoking) quarantine(ctx context.Context) error {
	if r.Keep || r.Device == "" {
		return nil
	}
	for seq, state := range r.devices {
		if !state.InService() {
			continue
		}
		var id string
		if err := r.one(ctx, "UPDATE device SET state = ?, reason = ?, changed = ? WHERE seq = ? RETURNING id",
			[]any{string(fleet.Quarantined), "certificates revoked: " + string(r.Reason), r.At.UnixMilli(), seq}, &id); err != nil {
			return err
		}
		r.done.Stopped = append(r.done.Stopped, id)
	}
	slices.Sort(r.done.Stopped)
	return nil
}

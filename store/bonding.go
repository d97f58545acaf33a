package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

// Binding a device to its TPM is decided on the desk, too. Whoever names a TPM
// holds the lock of its keys, just as for the keys of certificates, so that two
// devices that show one TPM at the same moment are decided one after the other.

// proof is accepted evidence, made ready for the committer by the caller's goroutine.
type proof struct {
	bond  attest.Bond
	keys  [][32]byte // SHA-256 of the endorsement key and of the attestation key, as far as they are known
	blobs []blob
}

// newProof makes an outcome ready; nil stays nil.
func (db *DB) newProof(ctx context.Context, o *attest.Outcome, device string) (*proof, error) {
	if o == nil {
		return nil, nil
	}
	if device == "" || o.Bond.Device != device {
		return nil, fmt.Errorf("the bond is of device %q, but the evidence is of %q", o.Bond.Device, device)
	}
	p := &proof{bond: o.Bond}
	for _, text := range [...]string{o.Bond.EK, o.Bond.AK} {
		if text == "" {
			continue
		}
		var key [32]byte
		if n, err := hex.Decode(key[:], []byte(text)); err != nil || n != len(key) || len(text) != 2*len(key) {
			return nil, fmt.Errorf("%q is not a SHA-256 in hex", text)
		}
		p.keys = append(p.keys, key)
	}
	if len(p.keys) == 0 {
		return nil, fmt.Errorf("the bond of device %q names no TPM", device)
	}
	if _, err := bondValues(nil, &p.bond); err != nil {
		return nil, err
	}
	var err error
	p.blobs, err = db.newBlobs(ctx, o.Blobs)
	return p, err
}

// bondRow is a device's bond as it stands, or will stand.
type bondRow struct {
	attest.Bond
	ek, ak  string // as they stand in the database; empty where no bond does
	changed bool
}

// readBonds reads the bonds of the devices, and of the TPMs, that the batch
// names. The caller has locked both.
func (d *desk) readBonds(ctx context.Context) error {
	var devices, keys []any
	bySeq := map[int64]*deviceRow{}
	for _, u := range d.batch {
		if u.proof == nil {
			continue
		}
		if v := d.devices[u.proof.bond.Device]; v != nil && bySeq[v.seq] == nil {
			bySeq[v.seq] = v
			devices = append(devices, v.seq)
		}
		for i := range u.proof.keys {
			keys = append(keys, u.proof.keys[i][:])
		}
	}
	err := d.tx.among(ctx, "SELECT device, "+bondColumns+" FROM bond WHERE device IN ({?})", nil, devices, func(r *sql.Rows) error {
		b, seq := &bondRow{}, int64(0)
		err := scanBond(r, &seq, &b.Bond)
		b.ek, b.ak = b.EK, b.AK
		d.bonds[bySeq[seq]] = b
		return err
	})
	for _, query := range [...]string{"SELECT ek, device FROM bond WHERE ek IN ({?})", "SELECT ak, device FROM bond WHERE ak IN ({?})"} {
		if err != nil {
			return err
		}
		err = d.tx.among(ctx, query, nil, keys, func(r *sql.Rows) error {
			var hash sql.RawBytes
			var seq int64
			if err := r.Scan(&hash, &seq); err != nil || len(hash) != 32 {
				return err
			}
			if bySeq[seq] == nil {
				bySeq[seq] = &deviceRow{seq: seq} // of no interest but for being another
			}
			d.tpms[[32]byte(hash)] = bySeq[seq]
			return nil
		})
	}
	return err
}

// checkBond refuses a device that is bound to another TPM, and a TPM that
// another device is bound to.
func (d *desk) checkBond(p *proof, device *deviceRow) error {
	if p == nil {
		return nil
	}
	if standing := d.bonds[device]; standing != nil && !sameTPM(&standing.Bond, &p.bond) {
		return attest.Refuse(attest.EKMismatch, "the device is bound to another TPM; if it was replaced, an operator has to lift the binding")
	}
	for _, key := range p.keys {
		if holder, taken := d.tpms[key]; taken && holder != device {
			return attest.Refuse(attest.EKMismatch, "another device is bound to this TPM")
		}
	}
	return nil
}

// sameTPM compares what both show: endorsement keys where both have one, else attestation keys.
func sameTPM(a, b *attest.Bond) bool {
	if a.EK != "" && b.EK != "" {
		return a.EK == b.EK
	}
	return a.AK != "" && a.AK == b.AK
}

var errNotInService = fault.New(fault.Denied, "device_not_in_service", "the device is not in service")

// decideProof refuses evidence that no certificate came of, or takes it.
func (d *desk) decideProof(p *proof) error {
	device := d.devices[p.bond.Device]
	if device == nil || !device.state.InService() {
		return errNotInService
	}
	if err := d.checkBond(p, device); err != nil {
		return err
	}
	d.bind(p, device)
	return nil
}

// bind keeps the desk up to date with a bond that was checked.
func (d *desk) bind(p *proof, device *deviceRow) {
	if p == nil {
		return
	}
	standing := d.bonds[device]
	if standing == nil {
		standing = &bondRow{Bond: p.bond}
		d.bonds[device] = standing
	} else {
		standing.Bond = joined(&standing.Bond, &p.bond)
	}
	standing.changed = true
	for _, key := range p.keys {
		d.tpms[key] = device
	}
}

// joined is what a bond becomes with another proof of the same TPM. The one
// quoted later says how the device is: proofs that were checked side by side
// may arrive in any order, and the TPM's clock must not go back for that. Under
// another attestation key a TPM may count from elsewhere, so there the order of arrival counts.
func joined(standing, next *attest.Bond) attest.Bond {
	late, early := *next, standing
	if next.AK == standing.AK && next.Clock.Before(standing.Clock) {
		late, early = *standing, next
	}
	if late.EK == "" {
		late.EK = early.EK
	}
	if late.TPM == (attest.Make{}) {
		late.TPM = early.TPM
	}
	if late.AKPublic == nil && late.AK == early.AK {
		late.AKPublic = early.AKPublic
	}
	if late.Bank == "" {
		late.Bank, late.PCRs = early.Bank, early.PCRs
	}
	if late.EventLog == [32]byte{} {
		late.EventLog = early.EventLog
	}
	if early.First.Before(late.First) && !early.First.IsZero() {
		late.First = early.First
	}
	if late.Affirmed.Before(early.Affirmed) {
		late.Affirmed = early.Affirmed
	}
	return late
}

// writeBonds writes the bonds that changed, and the evidence behind them.
func (d *desk) writeBonds(ctx context.Context) error {
	var renewed, others []any
	for device, b := range d.bonds {
		if !b.changed {
			continue
		}
		rows := &others
		if b.EK == b.ek && b.AK == b.ak {
			rows = &renewed
		}
		var err error
		if *rows, err = bondValues(append(*rows, device.seq), &b.Bond); err != nil {
			return err
		}
	}
	if err := d.tx.insert(ctx, renewBond, bondWidth, renewed); err != nil {
		return err
	}
	return d.tx.insert(ctx, upsertBond, bondWidth, others)
}

// writeEvidence writes what the units that were not refused bring, in order of
// its digest, as everybody does, so that no two wait for each other.
func (d *desk) writeEvidence(ctx context.Context) error {
	var all []blob
	for _, u := range d.batch {
		if u.refusal != nil {
			continue
		}
		all = append(all, u.blobs...)
		if u.proof != nil {
			all = append(all, u.proof.blobs...)
		}
	}
	slices.SortFunc(all, compareBlobs)
	all = slices.CompactFunc(all, sameBlob)
	rows := make([]any, 0, len(all)*blobWidth)
	for i := range all {
		rows = append(rows, all[i].sha256[:], string(all[i].kind), all[i].body)
	}
	return d.tx.insert(ctx, insertBlob, blobWidth, rows)
}

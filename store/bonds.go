package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

const (
	bondColumns = "ek, maker, model, version, ak, ak_name, ak_public, key, vouched, clock, reset, restart, safe, firmware, bank, pcrs, first, last, verdict, affirmed, evidence, event_log"
	bondWidth   = 23
	insertBond  = "INSERT INTO bond (device, " + bondColumns + ") VALUES {(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)}" +
		" ON CONFLICT (device) DO UPDATE SET "
	// renewBond is for bonds that stand with the same keys, and leaves their indexes alone; upsertBond is for all others.
	renewBond = insertBond + `maker = excluded.maker, model = excluded.model, version = excluded.version, ak_name = excluded.ak_name,
		ak_public = excluded.ak_public, key = excluded.key, vouched = excluded.vouched, clock = excluded.clock, reset = excluded.reset,
		restart = excluded.restart, safe = excluded.safe, firmware = excluded.firmware, bank = excluded.bank, pcrs = excluded.pcrs,
		first = excluded.first, last = excluded.last, verdict = excluded.verdict, affirmed = excluded.affirmed,
		evidence = excluded.evidence, event_log = excluded.event_log`
	upsertBond = renewBond + ", ek = excluded.ek, ak = excluded.ak"
	selectBond = "SELECT (SELECT id FROM device WHERE seq = bond.device), " + bondColumns + " FROM bond"
	noBond     = "the device is not bound to a TPM"
)

// Bond returns the device's, or an error of kind NotFound.
func (db *DB) Bond(ctx context.Context, device string) (attest.Bond, error) {
	return db.bond(ctx, selectBond+" WHERE device = (SELECT seq FROM device WHERE id = ?)", noBond, device)
}

// BondOf returns the bond that holds this endorsement key, or else this
// attestation key (SHA-256, hex; an empty one matches none), or an error of
// kind NotFound.
func (db *DB) BondOf(ctx context.Context, ek, ak string) (attest.Bond, error) {
	found, bound := attest.Bond{}, false
	err := db.each(ctx, selectBond+" WHERE ek = ? OR ak = ?", []any{hashOf(ek), hashOf(ak)}, func(r *sql.Rows) error {
		var b attest.Bond
		err := scanBond(r, &b.Device, &b)
		if !bound || b.EK == ek {
			found, bound = b, true
		}
		return err
	})
	if err == nil && !bound {
		err = fault.New(fault.NotFound, "bond_unknown", "no device is bound to this TPM")
	}
	return found, err
}

// hashOf is a hash as it is looked for; NULL, which equals nothing, if it is none.
func hashOf(text string) []byte {
	hash, err := hex.DecodeString(text)
	if err != nil || len(hash) == 0 {
		return nil
	}
	return hash
}

func (db *DB) bond(ctx context.Context, query, missing string, arg any) (attest.Bond, error) {
	found, b := false, attest.Bond{}
	err := db.each(ctx, query, []any{arg}, func(r *sql.Rows) error {
		found = true
		return scanBond(r, &b.Device, &b)
	})
	if err == nil && !found {
		err = fault.New(fault.NotFound, "bond_unknown", missing)
	}
	return b, err
}

// Unbind forgets the device's bond and commits that with its event; none there
// is NotFound. The evidence stays.
func (db *DB) Unbind(ctx context.Context, device string, e audit.Event) error {
	return db.change(ctx, &e, func(ctx context.Context, tx *session) error {
		var seq int64
		err := tx.one(ctx, "SELECT seq FROM device WHERE id = ?"+forUpdate, []any{device}, &seq)
		if errors.Is(err, sql.ErrNoRows) {
			return fault.New(fault.NotFound, "device_unknown", noDevice)
		}
		if err != nil {
			return err
		}
		n, err := tx.count(ctx, "DELETE FROM bond WHERE device = ?", seq)
		if err == nil && n == 0 {
			err = fault.New(fault.NotFound, "bond_unknown", noBond)
		}
		return err
	})
}

// Attest commits accepted evidence that no certificate came of. A bond to
// another TPM is Denied with code ek_mismatch, and so is a TPM that another
// device is bound to; a device not in service is Denied with device_not_in_service.
func (db *DB) Attest(ctx context.Context, o attest.Outcome, e audit.Event) error {
	p, err := db.newProof(ctx, &o, o.Bond.Device)
	if err != nil {
		return err
	}
	entry, err := db.newEntry(&e)
	if err != nil {
		return err
	}
	return db.submit(ctx, &unit{entry: entry, proof: p})
}

// bondValues appends the columns of a bond after its first, the device.
func bondValues(to []any, b *attest.Bond) ([]any, error) {
	ek, err := keyHashBytes(b.EK)
	if err != nil {
		return nil, err
	}
	ak, err := keyHashBytes(b.AK)
	if err != nil {
		return nil, err
	}
	pcrs, err := packPCRs(b.PCRs)
	if err != nil {
		return nil, err
	}
	log := []byte{}
	if b.EventLog != [32]byte{} {
		log = b.EventLog[:]
	}
	return append(to, ek, b.TPM.Manufacturer, b.TPM.Model, b.TPM.Version, ak, present(b.AKName), present(b.AKPublic), b.Key[:], string(b.Case),
		int64(b.Clock.Clock), int64(b.Clock.Reset), int64(b.Clock.Restart), flag(b.Clock.Safe), int64(b.Clock.Firmware),
		b.Bank, pcrs, millis(b.First), millis(b.Last), b.Verdict.String(), millis(b.Affirmed), b.Evidence[:], log), nil
}

// scanBond reads a row whose first column goes to device.
func scanBond(r *sql.Rows, device any, b *attest.Bond) error {
	var ek, ak, name, public, key, pcrs, evidence, log sql.RawBytes
	var verdict string
	var clock, firmware, first, last, affirmed int64
	err := r.Scan(device, &ek, &b.TPM.Manufacturer, &b.TPM.Model, &b.TPM.Version, &ak, &name, &public, &key, &b.Case, &clock, &b.Clock.Reset, &b.Clock.Restart, &b.Clock.Safe, &firmware,
		&b.Bank, &pcrs, &first, &last, &verdict, &affirmed, &evidence, &log)
	if err != nil {
		return err
	}
	b.EK, b.AK = hex.EncodeToString(ek), hex.EncodeToString(ak)
	b.AKName, b.AKPublic = absent(name), absent(public)
	b.Clock.Clock, b.Clock.Firmware = uint64(clock), uint64(firmware)
	b.First, b.Last, b.Affirmed = fromMillis(first), fromMillis(last), fromMillis(affirmed)
	copy(b.Key[:], key)
	copy(b.Evidence[:], evidence)
	copy(b.EventLog[:], log)
	b.Verdict = verdicts[verdict]
	b.PCRs, err = unpackPCRs(pcrs)
	return err
}

// verdicts are the words that attest.Verdict.String writes.
var verdicts = map[string]attest.Verdict{"none": attest.None, "affirming": attest.Affirming, "warning": attest.Warning, "contraindicated": attest.Contraindicated}

// keyHashBytes returns a SHA-256 in hex as bytes, NULL if it is empty.
func keyHashBytes(text string) (any, error) {
	if text == "" {
		return nil, nil
	}
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != 32 {
		return nil, fmt.Errorf("store: %q is not a SHA-256 in hex", text)
	}
	return b, nil
}

// present and absent turn no bytes into an empty value and back.
func present(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func absent(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return bytes.Clone(b)
}

// packPCRs writes registers in order, each as its index, its length and its value.
func packPCRs(pcrs map[int][]byte) ([]byte, error) {
	out := make([]byte, 0, 34*len(pcrs))
	for _, index := range slices.Sorted(maps.Keys(pcrs)) {
		value := pcrs[index]
		if index < 0 || index > 255 || len(value) > 255 {
			return nil, fmt.Errorf("store: PCR %d of %d bytes cannot be kept", index, len(value))
		}
		out = append(append(out, byte(index), byte(len(value))), value...)
	}
	return out, nil
}

// unpackPCRs takes packPCRs back. It keeps nothing of b.
func unpackPCRs(b []byte) (map[int][]byte, error) {
	if len(b) == 0 {
		return nil, nil
	}
	pcrs := make(map[int][]byte, len(b)/34+1)
	for len(b) > 0 {
		if len(b) < 2 || len(b) < 2+int(b[1]) {
			return nil, errPacked
		}
		end := 2 + int(b[1])
		pcrs[int(b[0])] = bytes.Clone(b[2:end])
		b = b[end:]
	}
	return pcrs, nil
}

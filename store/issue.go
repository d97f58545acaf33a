package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/enroll"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

// issuance is what Issue was asked, made ready for the committer by the caller's goroutine.
type issuance struct {
	ca.Issuance
	serial []byte
	shown  []byte // Presented
	der    []byte // packed; nil until the unit is
	prefix int64  // of Certificate.KeySHA256

	device *deviceRow // set by decide
}

// Issue commits the issuance in one transaction and returns when it is durable.
// Beyond what ca.Store says: a key that another device holds is an error of
// kind Denied with code key_in_use, also when both ask at the same moment.
func (db *DB) Issue(ctx context.Context, i ca.Issuance) error {
	c := i.Certificate
	serial, err := parseSerial(c.Serial)
	if err != nil {
		return fault.Wrap(fault.Malformed, "serial", "not a serial number: want hex digits", err)
	}
	var shown []byte
	if i.Presented != "" {
		if shown, err = parseSerial(i.Presented); err != nil {
			return fmt.Errorf("the serial number of the certificate presented: %w", err)
		}
	}
	if i.Admit != nil && i.Admit.ID != c.Device {
		return fmt.Errorf("the device to admit is %q, but the certificate is for %q", i.Admit.ID, c.Device)
	}
	e, err := db.newEntry(&i.Event)
	if err != nil {
		return err
	}
	p, err := db.newProof(ctx, i.Attested, c.Device)
	if err != nil {
		return err
	}
	return db.submit(ctx, &unit{entry: e, proof: p, issuance: &issuance{
		Issuance: i, serial: serial, shown: shown, prefix: keyPrefix(c.KeySHA256)}})
}

type tokenRow struct {
	seq, uses, used, expires int64
	revoked                  bool
	taken                    int64 // uses counted by this batch
}

type heldRow struct {
	seq    int64
	state  enroll.HeldState
	serial string
}

type deviceRow struct {
	seq    int64
	state  fleet.State
	admit  *fleet.Device // to be created by this batch
	active bool          // to be made active by this batch

	stopped *stopped // to be quarantined by this batch; nil: not
}

func (d *desk) readTokens(ctx context.Context) error {
	tokens := d.named((*unit).token)
	return d.tx.among(ctx, "SELECT id, seq, uses, used, expires, revoked FROM token WHERE id IN ({?}) ORDER BY id"+forUpdate, nil, tokens,
		func(r *sql.Rows) error {
			var id string
			t := &tokenRow{}
			err := r.Scan(&id, &t.seq, &t.uses, &t.used, &t.expires, &t.revoked)
			d.tokens[id] = t
			return err
		})
}

func (d *desk) readHeld(ctx context.Context) error {
	requests := d.named((*unit).request)
	return d.tx.among(ctx, "SELECT id, seq, state FROM held WHERE id IN ({?}) ORDER BY id"+forUpdate, nil, requests,
		func(r *sql.Rows) error {
			var id string
			h := &heldRow{}
			err := r.Scan(&id, &h.seq, &h.state)
			d.held[id] = h
			return err
		})
}

// readKeys finds out who holds the keys of the batch.
func (d *desk) readKeys(ctx context.Context) error {
	var prefixes []int64
	for _, u := range d.batch {
		if u.issuance != nil {
			prefixes = append(prefixes, u.issuance.prefix)
		}
	}
	if len(prefixes) == 0 {
		return nil
	}
	slices.Sort(prefixes)
	prefixes = slices.Compact(prefixes)
	args := make([]any, len(prefixes))
	for i, p := range prefixes {
		args[i] = p
	}
	// The newest certificate of each prefix tells, unless two keys share their first 64 bits.
	twins, err := d.readHolders(ctx, selectHolders+"c.seq IN (SELECT max(seq) FROM certificate WHERE key IN ({?}) GROUP BY key)", args)
	if err == nil && len(twins) > 0 {
		_, err = d.readHolders(ctx, selectHolders+"c.key IN ({?})", twins)
	}
	return err
}

// selectHolders tells along whether a key is never to be certified again, for
// then every certificate over it is revoked.
const selectHolders = "SELECT c.key, c.device, c.der, coalesce(r.bars, 0) FROM certificate c LEFT JOIN revocation r ON r.certificate = c.seq WHERE "

// readHolders runs a query for certificates and notes which device holds which
// key, and which keys are barred. It returns the prefixes under which it found another key than the batch names.
func (d *desk) readHolders(ctx context.Context, query string, prefixes []any) (twins []any, err error) {
	err = d.tx.among(ctx, query, nil, prefixes, func(r *sql.Rows) error {
		var prefix, device, bars int64
		var der sql.RawBytes
		if err := r.Scan(&prefix, &device, &der, &bars); err != nil {
			return err
		}
		hash, err := d.tx.db.keyHash(der)
		d.keys[hash] = device
		if bars != 0 {
			d.barred[hash] = true
		}
		for _, u := range d.batch {
			if i := u.issuance; i != nil && i.prefix == prefix && i.Certificate.KeySHA256 != hash {
				twins = append(twins, prefix)
			}
		}
		return err
	})
	return twins, err
}

// readPresented finds out which of the certificates that requests were made with
// are revoked. Most batches have none to ask about.
func (d *desk) readPresented(ctx context.Context) error {
	var serials []any
	for _, u := range d.batch {
		if u.issuance != nil && u.issuance.shown != nil {
			serials = append(serials, u.issuance.shown)
		}
	}
	return d.tx.among(ctx, "SELECT c.serial FROM certificate c JOIN revocation r ON r.certificate = c.seq WHERE c.serial IN ({?})", nil, serials,
		func(r *sql.Rows) error {
			var serial sql.RawBytes
			err := r.Scan(&serial)
			d.revoked[string(serial)] = true
			return err
		})
}

// decideIssuance refuses an issuance, or takes it.
func (d *desk) decideIssuance(i *issuance, p *proof) error {
	token, held, device := d.tokens[i.Token], d.held[i.Request], d.devices[i.Certificate.Device]
	if i.Token != "" && (token == nil || token.revoked || token.used >= token.uses || token.expires <= i.Certificate.NotBefore.UnixMilli()) {
		return fault.New(fault.Denied, "token_used", "the enrolment token has been used as often as it is good for, or has ended, in the meantime")
	}
	if i.Request != "" && (held == nil || held.state != enroll.Approved) {
		return fault.New(fault.Conflict, "request_not_approved", "the held request is not approved any more")
	}
	if device == nil && i.Admit != nil {
		device = &deviceRow{state: fleet.Expected, admit: i.Admit}
	}
	if device == nil || !device.state.InService() {
		return errNotInService
	}
	if d.revoked[string(i.shown)] {
		return fault.New(fault.Denied, "certificate_revoked", "the client certificate was revoked in the meantime; enrol again with a token or a factory certificate")
	}
	key := i.Certificate.KeySHA256
	if d.barred[key] {
		return fault.New(fault.Denied, "key_revoked", "the key in the request was revoked and is never certified again; make a fresh key")
	}
	holder, taken := d.keys[key]
	if taken && (device.admit != nil || holder != device.seq) || d.issued[key] != nil && d.issued[key] != device {
		return fault.New(fault.Denied, "key_in_use", "another device holds a certificate over this key; make a fresh key")
	}
	if err := d.checkBond(p, device); err != nil {
		return err
	}
	d.bind(p, device)
	if token != nil {
		token.used++
		token.taken++
	}
	if held != nil {
		held.state, held.serial = enroll.Issued, i.Certificate.Serial
	}
	if i.Activate && device.state == fleet.Expected {
		device.state, device.active = fleet.Active, true
	}
	d.devices[i.Certificate.Device], d.issued[key], i.device = device, device, device
	return nil
}

// writeDevices creates the devices that were admitted, and makes active those
// that got their first certificate.
func (d *desk) writeDevices(ctx context.Context) error {
	var now int64 // the newest event of the batch stands for all of them
	var active []any
	for _, u := range d.batch {
		if u.issuance != nil && u.refusal == nil {
			now = max(now, u.entry.at)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(d.devices)) {
		v := d.devices[id]
		switch {
		case v.admit != nil:
			if err := d.admit(ctx, v, now); err != nil {
				return err
			}
		case v.active:
			active = append(active, v.seq)
		}
	}
	return d.tx.among(ctx, "UPDATE device SET state = 'active', changed = ? WHERE seq IN ({?})", []any{now}, active, ignore)
}

// admit creates a device along with its first certificate.
func (d *desk) admit(ctx context.Context, v *deviceRow, now int64) error {
	device := *v.admit
	device.State = v.state
	args, err := deviceValues(&device, now)
	if err != nil {
		return err
	}
	return d.tx.one(ctx, insertDevice+" RETURNING seq", args, &v.seq)
}

// writeTokens counts the uses. Mostly each token of a batch is used once, so
// one statement does for all of them.
func (d *desk) writeTokens(ctx context.Context) error {
	byCount := map[int64][]any{}
	for _, t := range d.tokens {
		if t.taken > 0 {
			byCount[t.taken] = append(byCount[t.taken], t.seq)
		}
	}
	for n, seqs := range byCount {
		if err := d.tx.among(ctx, "UPDATE token SET used = used + ? WHERE seq IN ({?})", []any{n}, seqs, ignore); err != nil {
			return err
		}
	}
	return nil
}

func (d *desk) writeHeld(ctx context.Context) error {
	for _, h := range d.held {
		if h.serial == "" {
			continue
		}
		if err := d.tx.exec(ctx, "UPDATE held SET state = 'issued', serial = ? WHERE seq = ?", h.serial, h.seq); err != nil {
			return err
		}
	}
	return nil
}

// writeCertificates writes the certificates that were not refused.
func (d *desk) writeCertificates(ctx context.Context) error {
	rows := make([]any, 0, len(d.batch)*certificateWidth)
	for _, u := range d.batch {
		if i := u.issuance; i != nil && u.refusal == nil {
			c := i.Certificate
			rows = append(rows, i.serial, i.device.seq, c.Profile, c.NotBefore.Unix(), c.NotAfter.Unix(), i.prefix, u.entry.id, i.der)
		}
	}
	return d.tx.insert(ctx, insertCertificate, certificateWidth, rows)
}

const (
	insertCertificate = "INSERT" + orFail + " INTO certificate (serial, device, profile, not_before, not_after, key, record, der) VALUES {(?, ?, ?, ?, ?, ?, ?, ?)}"
	certificateWidth  = 8
)

// parseSerial returns the bytes of a serial number in hex, without leading zeros.
func parseSerial(text string) ([]byte, error) {
	text = strings.TrimLeft(text, "0")
	if len(text)%2 == 1 {
		text = "0" + text
	}
	b, err := hex.DecodeString(text)
	if err == nil && len(b) == 0 {
		err = fmt.Errorf("empty or zero")
	}
	return b, err
}

// keyPrefix is the first 64 bits of a key's hash: what certificates are
// indexed by. Whoever finds one compares the whole hash.
func keyPrefix(hash [32]byte) int64 { return int64(binary.BigEndian.Uint64(hash[:])) }

// keyHash returns the SHA-256 over the SubjectPublicKeyInfo of a packed certificate.
func (db *DB) keyHash(packed []byte) ([32]byte, error) {
	der, err := db.packer.unpack(packed)
	if err != nil {
		return [32]byte{}, err
	}
	return hashOfKey(der)
}

// hashOfKey is keyHash of a certificate in DER.
func hashOfKey(der []byte) ([32]byte, error) {
	spki, err := subjectPublicKeyInfo(der)
	if err != nil {
		return [32]byte{}, fmt.Errorf("store: a stored certificate: %w", err)
	}
	return sha256.Sum256(spki), nil
}

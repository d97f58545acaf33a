package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

const selectCertificate = `SELECT c.seq, c.serial, d.id, c.profile, c.not_before, c.not_after, c.der, ` + revokedColumns + `
	FROM certificate c JOIN device d ON d.seq = c.device LEFT JOIN revocation r ON r.certificate = c.seq`

// selectRevoked goes by the revocations, of which there are fewer than of certificates.
const selectRevoked = `SELECT c.seq, c.serial, d.id, c.profile, c.not_before, c.not_after, c.der, ` + revokedColumns + `
	FROM revocation r JOIN certificate c ON c.seq = r.certificate JOIN device d ON d.seq = c.device`

// selectHolder reads a certificate and the device that holds it at once: a
// renewal needs both.
const selectHolder = `SELECT device.id, model, device.serial, batch, ek, ak, labels, state, device.reason, created, changed, ` + bonded + `,
	c.seq, c.serial, device.id, c.profile, c.not_before, c.not_after, c.der, ` + revokedColumns + `
	FROM certificate c JOIN device ON device.seq = c.device LEFT JOIN revocation r ON r.certificate = c.seq WHERE c.serial = ?`

// Certificate returns the certificate with that serial, and its holder's entry
// in the register with it, or an error of kind NotFound.
func (db *DB) Certificate(ctx context.Context, serial string) (*ca.Certificate, error) {
	unknown := fault.New(fault.NotFound, "not_found", "no certificate has this serial number")
	number, err := parseSerial(serial)
	if err != nil {
		return nil, unknown
	}
	var found *ca.Certificate
	err = db.each(ctx, selectHolder, []any{number}, func(r *sql.Rows) error {
		var row certificateScan
		var bonded bool
		holder, err := scanDevice(r, append([]any{&bonded}, row.columns()...)...)
		if err == nil {
			err = row.read(db)
		}
		holder.Bonded = bonded
		row.Holder, found = &holder, &row.Certificate
		return err
	})
	if err == nil && found == nil {
		err = unknown
	}
	if err != nil {
		return nil, err
	}
	return found, nil
}

// Certificates returns those that the filter selects, newest first.
func (db *DB) Certificates(ctx context.Context, f ca.Filter) ([]ca.Listed, error) {
	var w where
	if f.Device != "" {
		w.and("c.device = (SELECT seq FROM device WHERE id = ?)", f.Device)
	}
	if f.Profile != "" {
		w.and("c.profile = ?", f.Profile)
	}
	if !f.ValidAt.IsZero() {
		w.and("c.not_before <= ?", f.ValidAt.Unix())
		w.and("c.not_after >= ?", f.ValidAt.Unix())
	}
	if f.Key != [32]byte{} {
		w.and("c.key = ?", keyPrefix(f.Key))
	}
	query, order := selectCertificate, "c.seq"
	switch f.Revoked {
	case ca.OnlyRevoked:
		query, order = selectRevoked, "r.certificate"
	case ca.OnlyUnrevoked:
		w.and("r.seq IS NULL")
	}
	if f.Before > 0 {
		w.and(order+" < ?", f.Before)
	}
	found, err := db.listed(ctx, query+w.text()+" ORDER BY "+order+" DESC LIMIT ?", append(w.args, limit(f.Limit))...)
	if f.Key != [32]byte{} { // others may share the first 64 bits
		found = slices.DeleteFunc(found, func(c ca.Listed) bool { return c.KeySHA256 != f.Key })
	}
	return found, err
}

func (db *DB) listed(ctx context.Context, query string, args ...any) ([]ca.Listed, error) {
	var found []ca.Listed
	err := db.each(ctx, query, args, func(r *sql.Rows) error {
		var row certificateScan
		err := r.Scan(row.columns()...)
		if err == nil {
			err = row.read(db)
		}
		found = append(found, row.Listed)
		return err
	})
	return found, err
}

// certificateScan takes the columns of a certificate.
type certificateScan struct {
	ca.Listed
	serial, der sql.RawBytes
	from, until int64
	revoked     revokedScan
}

func (s *certificateScan) columns() []any {
	return append([]any{&s.Position, &s.serial, &s.Device, &s.Profile, &s.from, &s.until, &s.der}, s.revoked.columns()...)
}

// read makes a certificate of the columns, before the next row is scanned.
func (s *certificateScan) read(db *DB) (err error) {
	s.Serial = hex.EncodeToString(s.serial)
	s.NotBefore, s.NotAfter = time.Unix(s.from, 0).UTC(), time.Unix(s.until, 0).UTC()
	if s.DER, err = db.packer.unpack(s.der); err != nil {
		return err
	}
	s.Revoked = s.revoked.of(&s.Certificate)
	s.KeySHA256, err = hashOfKey(s.DER)
	return err
}

// KeyHolder returns the id of the device that the newest certificate over this
// key was issued to, or "" if the key is new. spki is the DER SubjectPublicKeyInfo.
func (db *DB) KeyHolder(ctx context.Context, spki []byte) (string, error) {
	hash := sha256.Sum256(spki)
	holder := ""
	err := db.each(ctx, "SELECT c.der, d.id FROM certificate c JOIN device d ON d.seq = c.device WHERE c.key = ? ORDER BY c.seq DESC",
		[]any{keyPrefix(hash)}, func(r *sql.Rows) error {
			var der sql.RawBytes
			var id string
			if err := r.Scan(&der, &id); err != nil {
				return err
			}
			found, err := db.keyHash(der)
			if err != nil || found != hash { // another key with the same first 64 bits
				return err
			}
			holder = id
			return errEnough
		})
	return holder, err
}

// subjectPublicKeyInfo returns the part of a certificate that holds its key,
// still in DER, by walking past the fields before it (RFC 5280, Section 4.1).
func subjectPublicKeyInfo(der []byte) ([]byte, error) {
	input := cryptobyte.String(der)
	var certificate, tbs, spki cryptobyte.String
	ok := input.ReadASN1(&certificate, asn1.SEQUENCE) &&
		certificate.ReadASN1(&tbs, asn1.SEQUENCE) &&
		tbs.SkipOptionalASN1(asn1.Tag(0).ContextSpecific().Constructed()) && // version
		tbs.SkipASN1(asn1.INTEGER) && // serialNumber
		tbs.SkipASN1(asn1.SEQUENCE) && // signature
		tbs.SkipASN1(asn1.SEQUENCE) && // issuer
		tbs.SkipASN1(asn1.SEQUENCE) && // validity
		tbs.SkipASN1(asn1.SEQUENCE) && // subject
		tbs.ReadASN1Element(&spki, asn1.SEQUENCE)
	if !ok {
		return nil, errors.New("not a certificate in DER")
	}
	return spki, nil
}

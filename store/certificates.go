package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

const selectCertificate = `SELECT c.seq, c.serial, d.id, c.profile, c.not_before, c.not_after, c.der
	FROM certificate c JOIN device d ON d.seq = c.device`

// Certificate returns the certificate with that serial, or an error of kind NotFound.
func (db *DB) Certificate(ctx context.Context, serial string) (*ca.Certificate, error) {
	number, err := parseSerial(serial)
	if err != nil {
		return nil, fault.New(fault.NotFound, "not_found", "no certificate has this serial number")
	}
	found, err := db.listed(ctx, selectCertificate+" WHERE c.serial = ?", number)
	if err == nil && len(found) == 0 {
		err = fault.New(fault.NotFound, "not_found", "no certificate has this serial number")
	}
	if err != nil {
		return nil, err
	}
	return &found[0].Certificate, nil
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
	if f.Before > 0 {
		w.and("c.seq < ?", f.Before)
	}
	return db.listed(ctx, selectCertificate+w.text()+" ORDER BY c.seq DESC LIMIT ?", append(w.args, limit(f.Limit))...)
}

func (db *DB) listed(ctx context.Context, query string, args ...any) ([]ca.Listed, error) {
	var found []ca.Listed
	err := db.each(ctx, query, args, func(r *sql.Rows) error {
		var serial, der sql.RawBytes
		var from, until int64
		var l ca.Listed
		err := r.Scan(&l.Position, &serial, &l.Device, &l.Profile, &from, &until, &der)
		if err != nil {
			return err
		}
		l.Serial = hex.EncodeToString(serial)
		l.NotBefore, l.NotAfter = time.Unix(from, 0).UTC(), time.Unix(until, 0).UTC()
		if l.DER, err = db.packer.unpack(der); err != nil {
			return err
		}
		spki, err := subjectPublicKeyInfo(l.DER)
		l.KeySHA256 = sha256.Sum256(spki)
		found = append(found, l)
		return err
	})
	return found, err
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

package tpm

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// revocation is revoked.json.
type revocation struct {
	keys         map[string]bool // SHA-256 over the SubjectPublicKeyInfo, lower-case hex
	certificates map[string]bool // folded issuer, zero byte, serial in lower-case hex
}

// revokedEntry is one entry of revoked.json: a key, or a certificate by its issuer and serial number.
type revokedEntry struct {
	SHA256 string `json:"sha256"`
	Issuer string `json:"issuer"` // as RFC 4514 writes it
	Serial string `json:"serial"` // hex; colons are taken
	Reason string `json:"reason"` // for people
}

func (r *revocation) read(file []byte) error {
	r.keys, r.certificates = map[string]bool{}, map[string]bool{}
	return eachIn(file, r.add)
}

func (r *revocation) add(e revokedEntry) error {
	byKey, byCertificate := e.SHA256 != "", e.Issuer != "" && e.Serial != ""
	switch {
	case byKey && e.Issuer == "" && e.Serial == "":
		digest, err := hex.DecodeString(strings.ReplaceAll(e.SHA256, ":", ""))
		if err != nil || len(digest) != 32 {
			return fmt.Errorf("sha256 %q is not a SHA-256 digest in hex", e.SHA256)
		}
		r.keys[hex.EncodeToString(digest)] = true
		return nil
	case byCertificate && !byKey:
		serial, ok := new(big.Int).SetString(strings.ReplaceAll(e.Serial, ":", ""), 16)
		if !ok {
			return fmt.Errorf("serial %q is not hex", e.Serial)
		}
		r.certificates[foldText(e.Issuer)+"\x00"+serial.Text(16)] = true
		return nil
	}
	return errors.New("an entry has either sha256 (of the key), or issuer and serial (of a certificate)")
}

// revocations is one revocation list.
type revocations struct {
	list    *x509.RevocationList
	serials map[string]bool // lower-case hex
}

// addCRL reads a revocation list. What such a list says is never taken back by
// its age: a certificate once revoked stays so until the list is replaced, and no list is ever needed. A delta
// or an indirect list is refused: the first says who is on another list no longer, the second speaks for other issuers.
func (d *Dossier) addCRL(file []byte) error {
	ders, err := blocksIn(file, "X509 CRL")
	if err != nil {
		return err
	}
	for _, der := range ders {
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			return fmt.Errorf("reading a revocation list: %w", err)
		}
		if err := checkScope(list); err != nil {
			return err
		}
		r := &revocations{list: list, serials: make(map[string]bool, len(list.RevokedCertificateEntries))}
		for _, e := range list.RevokedCertificateEntries {
			r.serials[e.SerialNumber.Text(16)] = true
		}
		issuer := string(foldName(list.RawIssuer))
		d.crls[issuer] = append(d.crls[issuer], r)
	}
	return nil
}

var (
	oidDeltaCRL          = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidDistributionPoint = asn1.ObjectIdentifier{2, 5, 29, 28}
)

// checkScope refuses lists that do not speak for all of their issuer's
// certificates alike (RFC 5280, Sections 5.2.4 and 5.2.5). One that is limited to some of them is fine: what it
// revokes is revoked.
func checkScope(list *x509.RevocationList) error {
	for _, e := range list.Extensions {
		switch {
		case e.Id.Equal(oidDeltaCRL):
			return errors.New("this is a delta revocation list; put a complete one here")
		case e.Id.Equal(oidDistributionPoint):
			if isIndirect(e.Value) {
				return errors.New("this is an indirect revocation list; put the issuer's own here")
			}
		case e.Critical:
			return fmt.Errorf("the revocation list has a critical extension %s that is not known here", e.Id)
		}
	}
	return nil
}

// isIndirect reads indirectCRL [4] of an IssuingDistributionPoint; what cannot be read counts as indirect.
func isIndirect(der []byte) bool {
	var fields, field cryptobyte.String
	in := cryptobyte.String(der)
	if !in.ReadASN1(&fields, cbasn1.SEQUENCE) || !in.Empty() {
		return true
	}
	for !fields.Empty() {
		var tag cbasn1.Tag
		if !fields.ReadAnyASN1(&field, &tag) {
			return true
		}
		if tag == cbasn1.Tag(4).ContextSpecific() && !(len(field) == 1 && field[0] == 0) {
			return true
		}
	}
	return false
}

// lists returns the lists that an authority, folded, signed. Another's of the same name do not count.
func (d *Dossier) lists(authority *x509.Certificate) []*revocations {
	var signed []*revocations
	for _, r := range d.crls[string(authority.RawSubject)] {
		if r.list.CheckSignatureFrom(authority) == nil {
			signed = append(signed, r)
		}
	}
	return signed
}

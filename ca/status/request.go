// Package status answers whether a certificate still counts: by revocation
// lists (RFC 5280) and by OCSP (RFC 6960).
package status

import (
	"crypto"
	"encoding/asn1"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Bounds of a request.
const (
	MaxRequest = 8 << 10 // bytes of DER
	maxAsked   = 16      // certificates asked about at once
	maxNonce   = 128     // octets (RFC 9654, Section 2.1)
	maxSerial  = 21      // octets of a serial number: 20, and a leading zero
)

// Request is a question about certificates (RFC 6960, Section 4.1.1).
// A signature on it is not looked at: what is answered is for everybody.
type Request struct {
	Asked []CertID
	Nonce []byte // to be repeated in the answer; nil if there was none
}

// CertID names a certificate (RFC 6960, Section 4.1.1).
type CertID struct {
	Hash       crypto.Hash // of the two that follow: SHA1, SHA256, SHA384 or SHA512
	IssuerName string      // hash of the issuer's name, as octets
	IssuerKey  string      // hash of the issuer's key, as octets
	Serial     string      // big-endian octets without leading zeros
	raw        []byte      // as it came, for the answer
}

var (
	oidBasic = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}
	oidNonce = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}

	errMalformed = errors.New("not an OCSP request")
)

// ParseRequest reads a request, DER. What it refuses is answered with malformedRequest.
func ParseRequest(der []byte) (*Request, error) {
	if len(der) > MaxRequest {
		return nil, fmt.Errorf("%w: more than %d bytes", errMalformed, MaxRequest)
	}
	input := cryptobyte.String(der)
	var outer, tbs, list cryptobyte.String
	if !input.ReadASN1(&outer, casn1.SEQUENCE) || !input.Empty() || !outer.ReadASN1(&tbs, casn1.SEQUENCE) ||
		!outer.SkipOptionalASN1(explicit(0)) || !outer.Empty() {
		return nil, errMalformed
	}
	var version cryptobyte.String
	var versioned bool
	if !tbs.ReadOptionalASN1(&version, &versioned, explicit(0)) || !tbs.SkipOptionalASN1(explicit(1)) || !tbs.ReadASN1(&list, casn1.SEQUENCE) {
		return nil, errMalformed
	}
	if number := 0; versioned && (!version.ReadASN1Integer(&number) || number != 0 || !version.Empty()) {
		return nil, fmt.Errorf("%w: of a version that is not 1", errMalformed)
	}
	r := &Request{}
	for !list.Empty() {
		id, err := readAsked(&list)
		if err != nil {
			return nil, err
		}
		if r.Asked = append(r.Asked, id); len(r.Asked) > maxAsked {
			return nil, fmt.Errorf("%w: it asks about more than %d certificates", errMalformed, maxAsked)
		}
	}
	if len(r.Asked) == 0 {
		return nil, fmt.Errorf("%w: it asks about no certificate", errMalformed)
	}
	return r, r.readExtensions(&tbs)
}

// readAsked reads one Request of the list; extensions for one certificate alone mean nothing here.
func readAsked(list *cryptobyte.String) (CertID, error) {
	var one, id cryptobyte.String
	if !list.ReadASN1(&one, casn1.SEQUENCE) || !one.ReadASN1Element(&id, casn1.SEQUENCE) || !one.SkipOptionalASN1(explicit(0)) || !one.Empty() {
		return CertID{}, errMalformed
	}
	return readCertID(id)
}

func readCertID(raw cryptobyte.String) (CertID, error) {
	id := CertID{raw: raw}
	var body, algorithm, name, key, serial cryptobyte.String
	var oid asn1.ObjectIdentifier
	if !raw.ReadASN1(&body, casn1.SEQUENCE) || !body.ReadASN1(&algorithm, casn1.SEQUENCE) || !algorithm.ReadASN1ObjectIdentifier(&oid) ||
		!body.ReadASN1(&name, casn1.OCTET_STRING) || !body.ReadASN1(&key, casn1.OCTET_STRING) ||
		!body.ReadASN1(&serial, casn1.INTEGER) || !body.Empty() {
		return CertID{}, errMalformed
	}
	if id.Hash = hashOf(oid); id.Hash == 0 {
		return id, nil // an issuer that nobody here is
	}
	if len(name) != id.Hash.Size() || len(key) != id.Hash.Size() || len(serial) == 0 || len(serial) > maxSerial {
		return CertID{}, errMalformed
	}
	for len(serial) > 1 && serial[0] == 0 {
		serial = serial[1:]
	}
	id.IssuerName, id.IssuerKey, id.Serial = string(name), string(key), string(serial)
	return id, nil
}

// hashOf returns the hash of that name, and 0 for one that is not known.
func hashOf(oid asn1.ObjectIdentifier) crypto.Hash {
	switch oid.String() {
	case "1.3.14.3.2.26":
		return crypto.SHA1 // names an issuer, and secures nothing (RFC 6960, Section 4.1.1)
	case "2.16.840.1.101.3.4.2.1":
		return crypto.SHA256
	case "2.16.840.1.101.3.4.2.2":
		return crypto.SHA384
	case "2.16.840.1.101.3.4.2.3":
		return crypto.SHA512
	}
	return 0
}

// readExtensions takes the nonce. Other extensions are not critical in practice,
// and one that is cannot be obeyed, so it is refused (RFC 6960, Section 4.4).
func (r *Request) readExtensions(tbs *cryptobyte.String) error {
	var outer, list cryptobyte.String
	var present bool
	if !tbs.ReadOptionalASN1(&outer, &present, explicit(2)) || !tbs.Empty() {
		return errMalformed
	}
	if !present {
		return nil
	}
	if !outer.ReadASN1(&list, casn1.SEQUENCE) || !outer.Empty() {
		return errMalformed
	}
	for !list.Empty() {
		var extension, value cryptobyte.String
		var oid asn1.ObjectIdentifier
		var critical bool
		if !list.ReadASN1(&extension, casn1.SEQUENCE) || !extension.ReadASN1ObjectIdentifier(&oid) ||
			!extension.ReadOptionalASN1Boolean(&critical, casn1.BOOLEAN, false) || !extension.ReadASN1(&value, casn1.OCTET_STRING) || !extension.Empty() {
			return errMalformed
		}
		switch {
		case oid.Equal(oidNonce):
			if err := r.readNonce(value); err != nil {
				return err
			}
		case critical:
			return fmt.Errorf("%w: extension %s is critical and not known", errMalformed, oid)
		}
	}
	return nil
}

// readNonce reads an OCTET STRING of 1 to 128 octets (RFC 9654, Section 2.1).
func (r *Request) readNonce(value cryptobyte.String) error {
	var nonce cryptobyte.String
	if !value.ReadASN1(&nonce, casn1.OCTET_STRING) || !value.Empty() || len(nonce) == 0 || len(nonce) > maxNonce || r.Nonce != nil {
		return fmt.Errorf("%w: a nonce has 1 to %d octets, and there is one", errMalformed, maxNonce)
	}
	r.Nonce = nonce
	return nil
}

func explicit(n uint8) casn1.Tag { return casn1.Tag(n).ContextSpecific().Constructed() }

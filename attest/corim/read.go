package corim

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/veraison/go-cose"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

// Read returns the baselines of a CoRIM file, to be added as drafts: one for each
// measurement of each model. With a key the file has to be signed by it, and valid
// at that time; without one it has to be unsigned. Errors are of kind Malformed, or Denied with
// code corim_signature where a signature is missing, unexpected, expired or does not hold.
func Read(file []byte, key crypto.PublicKey, at time.Time) ([]attest.Baseline, error) {
	if len(file) > MaxFile {
		return nil, refuse("has %d bytes, at most %d are read", len(file), MaxFile)
	}
	var outer cbor.RawTag
	if err := decoding().Unmarshal(file, &outer); err != nil {
		return nil, refuse("begins with no CBOR tag, or does not end where it should")
	}
	sum := sha256.Sum256(file)
	source := "CoRIM, SHA-256 " + hex.EncodeToString(sum[:])
	switch {
	case outer.Number == tagRIM && key == nil:
		return read(outer.Content, source)
	case outer.Number == tagRIM:
		return nil, unsigned("the CoRIM file is not signed, and a key is given that it should be signed by")
	case outer.Number == cose.CBORTagSign1Message && key == nil:
		return nil, unsigned("the CoRIM file is signed: give the key that it is signed by")
	case outer.Number == cose.CBORTagSign1Message:
		payload, by, err := verify(file, key, at)
		if err != nil {
			return nil, err
		}
		var inner cbor.RawTag
		if err := decoding().Unmarshal(payload, &inner); err != nil || inner.Number != tagRIM {
			return nil, refuse("has a signed payload that is no unsigned CoRIM (tag %d)", tagRIM)
		}
		return read(inner.Content, source+", signed by "+by)
	}
	return nil, refuse("begins with tag %d: tag %d (a CoRIM) and tag %d (a signed one) are read", outer.Number, tagRIM, cose.CBORTagSign1Message)
}

func unsigned(says string) error { return fault.New(fault.Denied, "corim_signature", says) }

// verify returns the payload of a signed file, and who signed it. The algorithm
// is the key's, whatever the file says.
func verify(file []byte, key crypto.PublicKey, at time.Time) (payload []byte, by string, err error) {
	alg, err := algorithmOf(key)
	if err != nil {
		return nil, "", err
	}
	verifier, err := cose.NewVerifier(alg, key)
	if err != nil {
		return nil, "", fault.Wrap(fault.Malformed, "corim_key", "the key is not one that CoRIM files are verified with", err)
	}
	var message cose.Sign1Message
	if err := message.UnmarshalCBOR(file); err != nil {
		return nil, "", refuse("has a signature that cannot be read")
	}
	headers := message.Headers.Protected
	if _, critical := headers[cose.HeaderLabelCritical]; critical {
		return nil, "", refuse("has critical headers, of which none is known")
	}
	if t, ok := headers[cose.HeaderLabelContentType].(string); !ok || t != ContentType {
		return nil, "", refuse("is signed as something else than %s", ContentType)
	}
	if err := message.Verify(nil, verifier); err != nil {
		return nil, "", unsigned("the signature of the CoRIM file does not hold under this key")
	}
	by, until, err := signedBy(headers)
	if err == nil && until != nil && (at.After(until.NotAfter) || until.NotBefore != nil && at.Before(*until.NotBefore)) {
		err = unsigned("the signature of the CoRIM file is not valid at this time")
	}
	return message.Payload, by, err
}

// signedBy reads who a verified file says has signed it.
func signedBy(headers cose.ProtectedHeader) (string, *validity, error) {
	if raw, ok := headers[headerMeta].([]byte); ok {
		var m meta
		if err := decoding().Unmarshal(raw, &m); err != nil || len(m.Signer.Name) > 128 {
			return "", nil, refuse("does not say legibly who signed it")
		}
		return m.Signer.Name, m.Validity, nil
	}
	if claims, ok := headers[headerClaims].(map[any]any); ok {
		if issuer, ok := claims[int64(1)].(string); ok && len(issuer) <= 128 { // iss (RFC 8392, Section 3.1.1)
			return issuer, nil, nil
		}
	}
	return "", nil, refuse("does not say who signed it")
}

// algorithmOf is the one algorithm that a key signs with.
func algorithmOf(key crypto.PublicKey) (cose.Algorithm, error) {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return cose.AlgorithmES256, nil
		case elliptic.P384():
			return cose.AlgorithmES384, nil
		}
	case ed25519.PublicKey:
		return cose.AlgorithmEdDSA, nil
	case *rsa.PublicKey:
		if k.N.BitLen() >= 2048 {
			return cose.AlgorithmPS256, nil
		}
	}
	return 0, fault.New(fault.Malformed, "corim_key", "CoRIM files are signed by keys of ECDSA P-256 or P-384, Ed25519, or RSA of 2048 bits and more")
}

// read reads a corim-map.
func read(content []byte, source string) ([]attest.Baseline, error) {
	var r rim
	if err := decode(content, &r, "its map"); err != nil {
		return nil, err
	}
	if !named(r.ID) || len(r.Tags) == 0 {
		return nil, refuse("has no id or nothing in it")
	}
	var baselines []attest.Baseline
	for _, raw := range r.Tags {
		var tag cbor.RawTag
		var inner []byte
		if err := decoding().Unmarshal(raw, &tag); err != nil || tag.Number != tagCoMID {
			return nil, refuse("has a part of tag %d: only tag %d, a CoMID, is read", tag.Number, tagCoMID)
		}
		if err := decode(tag.Content, &inner, "a CoMID"); err != nil {
			return nil, err
		}
		found, err := readCoMID(inner, source, r.Validity)
		if err != nil {
			return nil, err
		}
		baselines = append(baselines, found...)
	}
	return baselines, nil
}

// decode reads what stands in the place named.
func decode(b []byte, into any, place string) error {
	err := decoding().Unmarshal(b, into)
	var unknown *cbor.UnknownFieldError
	switch {
	case errors.As(err, &unknown):
		return refuse("says more in %s than is read here: registers of a model are, with a version and a validity", place)
	case err != nil:
		return refuse("cannot be read in %s: %.200s", place, err.Error())
	}
	return nil
}

// named reports whether id is text or a UUID, tagged or not.
func named(id any) bool {
	if tag, ok := id.(cbor.Tag); ok && tag.Number == 37 {
		id = tag.Content
	}
	switch id := id.(type) {
	case string:
		return id != ""
	case []byte:
		return len(id) == 16
	}
	return false
}

// readCoMID makes a baseline of each measurement.
func readCoMID(b []byte, source string, valid *validity) ([]attest.Baseline, error) {
	var c comid
	if err := decode(b, &c, "a CoMID"); err != nil {
		return nil, err
	}
	if !named(c.Identity.ID) {
		return nil, refuse("has a CoMID without an id")
	}
	var baselines []attest.Baseline
	for _, t := range c.Triples.Reference {
		for _, m := range t.Measurements {
			next := attest.Baseline{Model: t.Environment.Class.Model, State: attest.Draft, Source: source, PCRs: map[string]map[int][]string{}}
			if m.Values.Version != nil {
				next.Firmware = m.Values.Version.Version
			}
			if valid != nil {
				if valid.NotBefore != nil {
					next.ValidFrom = valid.NotBefore.UTC()
				}
				if until := valid.NotAfter.UTC(); !until.Equal(forever) {
					next.ValidUntil = until
				}
			}
			if err := readRegisters(m.Values.Registers, &next); err != nil {
				return nil, err
			}
			baselines = append(baselines, next)
		}
	}
	if len(baselines) == 0 {
		return nil, refuse("has a CoMID without reference values")
	}
	return baselines, nil
}

func readRegisters(registers map[uint64][]digest, into *attest.Baseline) error {
	if len(registers) == 0 || into.Model == "" {
		return refuse("has reference values without a model or without integrity registers")
	}
	for pcr, digests := range registers {
		if pcr > 23 || len(digests) == 0 {
			return refuse("has an integrity register %d, or one without a value: PCRs are 0 to 23", pcr)
		}
		for _, d := range digests {
			i := slices.IndexFunc(algorithms, func(a algorithm) bool { return d.Algorithm == a.id || d.Algorithm == a.name })
			if i < 0 || len(d.Value) != algorithms[i].size {
				return refuse("has a value of PCR %d that is neither SHA-256 nor SHA-384 (algorithm %.20v, %d bytes)", pcr, fmt.Sprint(d.Algorithm), len(d.Value))
			}
			bank := algorithms[i].bank
			if into.PCRs[bank] == nil {
				into.PCRs[bank] = map[int][]string{}
			}
			into.PCRs[bank][int(pcr)] = append(into.PCRs[bank][int(pcr)], hex.EncodeToString(d.Value))
		}
	}
	return nil
}

package corim

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"regexp"

	"github.com/fxamacker/cbor/v2"
	"github.com/veraison/go-cose"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

// semantic is what semantic versions look like.
var semantic = regexp.MustCompile(`^\d+\.\d+\.\d+([-+][0-9A-Za-z.+-]+)?$`)

// Write returns the baseline as a CoRIM file, unsigned, always the same bytes. A baseline
// with log rules, or without registers, is refused: CoRIM has no words for its rules, and a file
// without them would allow more. Events, state and history stay behind.
func Write(b *attest.Baseline) ([]byte, error) {
	switch {
	case b.Log.SecureBoot != nil || len(b.Log.Allowed) > 0 || len(b.Log.Denied) > 0:
		return nil, fault.New(fault.Conflict, "corim_rules", "the baseline has rules over the event log, which CoRIM cannot say")
	case len(b.PCRs) == 0:
		return nil, fault.New(fault.Conflict, "corim_empty", "the baseline lists no register")
	}
	registers, err := registersOf(b)
	if err != nil {
		return nil, err
	}
	m := measurement{Values: values{Registers: registers}}
	if b.Firmware != "" {
		m.Values.Version = &version{Version: b.Firmware}
		if semantic.MatchString(b.Firmware) {
			m.Values.Version.Scheme = uint64(semver)
		}
	}
	mode := encoding()
	tag, err := mode.Marshal(comid{Identity: identity{ID: b.ID}, Triples: triples{Reference: []reference{{
		Environment: environment{Class: class{Model: b.Model}}, Measurements: []measurement{m}}}}})
	if err != nil {
		return nil, err
	}
	wrapped, err := mode.Marshal(cbor.Tag{Number: tagCoMID, Content: tag})
	if err != nil {
		return nil, err
	}
	return mode.Marshal(cbor.Tag{Number: tagRIM, Content: rim{ID: b.ID, Tags: []cbor.RawMessage{wrapped}, Validity: validityOf(b)}})
}

// registersOf lists every value of a register, of both banks, as acceptable
// (draft-ietf-rats-corim, Section 5.1.4.1.4.7).
func registersOf(b *attest.Baseline) (map[uint64][]digest, error) {
	registers := map[uint64][]digest{}
	for _, a := range algorithms {
		for pcr, allowed := range b.PCRs[a.bank] {
			for _, text := range allowed {
				value, err := hex.DecodeString(text)
				if err != nil || len(value) != a.size || pcr < 0 {
					return nil, fmt.Errorf("baseline %s: %q is no value of PCR %d in bank %s", b.ID, text, pcr, a.bank)
				}
				registers[uint64(pcr)] = append(registers[uint64(pcr)], digest{Algorithm: a.id, Value: value})
			}
		}
	}
	return registers, nil
}

func validityOf(b *attest.Baseline) *validity {
	if b.ValidFrom.IsZero() && b.ValidUntil.IsZero() {
		return nil
	}
	v := &validity{NotAfter: forever}
	if !b.ValidUntil.IsZero() {
		v.NotAfter = b.ValidUntil
	}
	if !b.ValidFrom.IsZero() {
		v.NotBefore = &b.ValidFrom
	}
	return v
}

// Header parameters of a signed CoRIM (draft-ietf-rats-corim, Section 4.2).
const (
	headerMeta   = int64(8)
	headerClaims = int64(15)
)

// meta is a corim-meta-map.
type meta struct {
	Signer   signer    `cbor:"0,keyasint"`
	Validity *validity `cbor:"1,keyasint,omitempty"`
}

type signer struct {
	Name string          `cbor:"0,keyasint"`
	URI  cbor.RawMessage `cbor:"1,keyasint,omitempty"`
}

// Sign wraps a CoRIM file in a signature by a key of ECDSA P-256 or P-384,
// Ed25519 or RSA. name says whose it is.
func Sign(file []byte, key crypto.Signer, name string) ([]byte, error) {
	alg, err := algorithmOf(key.Public())
	if err != nil {
		return nil, err
	}
	by, err := cose.NewSigner(alg, key)
	if err != nil {
		return nil, err
	}
	about, err := encoding().Marshal(meta{Signer: signer{Name: name}})
	if err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	kid := sha256.Sum256(spki)
	message := cose.Sign1Message{Payload: file, Headers: cose.Headers{Protected: cose.ProtectedHeader{
		cose.HeaderLabelAlgorithm: alg, cose.HeaderLabelContentType: ContentType, cose.HeaderLabelKeyID: kid[:], headerMeta: about}}}
	if err := message.Sign(rand.Reader, nil, by); err != nil {
		return nil, err
	}
	return message.MarshalCBOR()
}

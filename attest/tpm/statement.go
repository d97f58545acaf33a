package tpm

import (
	"crypto"

	"golang.org/x/crypto/cryptobyte"

	"github.com/hallmark-pki/hallmark/attest"
)

// generated is the magic number that only a TPM signs under a restricted key
// (TPM_GENERATED_VALUE; Part 2, Section 6.2).
const generated = 0xff544347

// structureTag says what was attested (TPM_ST; Part 2, Section 6.9).
type structureTag uint16

const (
	attestCertify  structureTag = 0x8017
	attestQuote    structureTag = 0x8018
	attestCreation structureTag = 0x801a
)

// statement is a TPMS_ATTEST (Part 2, Section 10.12) of the types that are read here.
type statement struct {
	bytes     []byte      // without a size before it: what was signed
	hash      crypto.Hash // of the signature, once that was verified
	tag       structureTag
	signer    []byte // qualified Name of the signing key
	extraData []byte
	clock     attest.Clock

	name []byte // certify, creation: of the key that it is about

	selections []selection // quote
	digest     []byte      // quote: over the selected registers; creation: over the creation data
}

// selection is a TPMS_PCR_SELECTION (Part 2, Section 10.6.2).
type selection struct {
	bank   algorithm
	bitmap []byte // register n is bit n%8 of octet n/8
}

// parseStatement reads a TPMS_ATTEST or TPM2B_ATTEST that has to be of type
// want. what names it in refusals: malformed_evidence, not_tpm_generated, wrong_attest_type.
func parseStatement(b []byte, want structureTag, what string) (*statement, error) {
	s := &statement{bytes: bare(b)}
	in := cryptobyte.String(s.bytes)
	var magic uint32
	var signer, extra cryptobyte.String
	if !in.ReadUint32(&magic) || !in.ReadUint16((*uint16)(&s.tag)) {
		return nil, malformed("the %s is not a TPMS_ATTEST", what)
	}
	if magic != generated {
		return nil, attest.Refuse(attest.NotTPMGenerated, "the "+what+" does not start with ff544347, so no TPM made it; send what TPM2_Certify and TPM2_Quote return")
	}
	if s.tag != want {
		return nil, wrongType(what, s.tag, want)
	}
	if !in.ReadUint16LengthPrefixed(&signer) || !in.ReadUint16LengthPrefixed(&extra) || !readClock(&in, &s.clock) || !s.readBody(&in) || !in.Empty() {
		return nil, malformed("the %s is not a TPMS_ATTEST from its first byte to its last", what)
	}
	s.signer, s.extraData = signer, extra
	return s, nil
}

// readClock reads a TPMS_CLOCK_INFO (Part 2, Section 10.11.1) and the firmware version after it.
func readClock(in *cryptobyte.String, c *attest.Clock) bool {
	var safe uint8
	ok := in.ReadUint64(&c.Clock) && in.ReadUint32(&c.Reset) && in.ReadUint32(&c.Restart) &&
		in.ReadUint8(&safe) && safe <= 1 && in.ReadUint64(&c.Firmware)
	c.Safe = safe == 1
	return ok
}

// readBody reads TPMS_CERTIFY_INFO, TPMS_CREATION_INFO or TPMS_QUOTE_INFO
// (Part 2, Section 10.12).
func (s *statement) readBody(in *cryptobyte.String) bool {
	if s.tag != attestQuote {
		var name, second cryptobyte.String // of a certify, the qualified name
		ok := in.ReadUint16LengthPrefixed(&name) && in.ReadUint16LengthPrefixed(&second)
		if s.name = name; s.tag == attestCreation {
			s.digest = second
		}
		return ok
	}
	var count uint32
	if !in.ReadUint32(&count) || count > maxSelections {
		return false
	}
	for range count {
		var one selection
		var bitmap cryptobyte.String
		if !readAlgorithm(in, &one.bank) || !in.ReadUint8LengthPrefixed(&bitmap) || len(bitmap) > maxBitmap {
			return false
		}
		one.bitmap = bitmap
		s.selections = append(s.selections, one)
	}
	var digest cryptobyte.String
	ok := in.ReadUint16LengthPrefixed(&digest)
	s.digest = digest
	return ok
}

// Bounds of a selection: TPMs have up to 32 registers in a handful of banks.
const (
	maxSelections = 16
	maxBitmap     = 4
)

func wrongType(what string, got, want structureTag) error {
	kinds := map[structureTag]string{attestCertify: "a certify statement", attestQuote: "a quote", attestCreation: "a creation statement"}
	is, known := kinds[got]
	if !known {
		is = "a structure of another type"
	}
	return refuse(attest.WrongAttestType, "what was sent as %s is %s (type %#04x, want %#04x)", what, is, uint16(got), uint16(want))
}

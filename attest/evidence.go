package attest

import (
	"encoding/asn1"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Bounds of what a device may send. They are far above what devices send.
const (
	MaxEvidence = 192 << 10 // octets of an AttestationBundle
	MaxEventLog = 512 << 10 // octets of an event log out of its wrapping

	maxStatements  = 8
	maxCerts       = 10
	maxStructure   = 2 << 10 // octets of a TPM structure: the largest, a quote with an RSA-4096 signature, has a fourth of it
	maxCertificate = 8 << 10 // octets of a certificate
)

// Evidence is what a device sent, taken apart and otherwise unproven. Its parts are
// slices of DER, except for an event log that came out of a wrapping.
type Evidence struct {
	DER      []byte     // the AttestationBundle
	Certify  *Statement // nil where absent
	Quote    *Statement // nil where absent
	EventLog []byte     // TCG2 crypto-agile log, out of its wrapping; nil where absent
	Certs    [][]byte   // DER, in the order sent: leaf first
	Unknown  []string   // types of the statements that nobody here reads: dotted, or a media type

	wrapped []byte // the event log's element in DER, wrapping and all
}

// Statement is one signed statement of a TPM.
type Statement struct {
	Attest    []byte // TPMS_ATTEST, in sized form (TPM2B) where the device sent that
	Signature []byte // TPMT_SIGNATURE, likewise
	Public    []byte // of a certify: TPMT_PUBLIC of the certified key, likewise; nil where absent
	Values    []byte // of a quote: raw PCR values, ascending, one after the other; nil where absent
}

// Statement types (csr-attestation with TCG's, and a conceptual message wrapper).
var (
	oidCertify = asn1.ObjectIdentifier{2, 23, 133, 20, 1}
	oidQuote   = asn1.ObjectIdentifier{2, 23, 133, 20, 2}
	oidCMW     = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 35}
)

// otherCertificate is the tag of what certs may hold beside certificates: [3].
var otherCertificate = casn1.Tag(3).ContextSpecific().Constructed()

func malformed(format string, args ...any) error {
	return Refuse(MalformedEvidence, "the attestation evidence cannot be read: "+fmt.Sprintf(format, args...))
}

// ParseEvidence reads the value of an id-aa-attestation attribute:
//
//	AttestationBundle ::= SEQUENCE {
//	   attestations SEQUENCE SIZE(1..MAX) OF AttestationStatement,
//	   certs        SEQUENCE SIZE(1..MAX) OF CertificateChoices OPTIONAL }
//	AttestationStatement ::= SEQUENCE { type OBJECT IDENTIFIER, stmt ANY DEFINED BY type }
//
// Statements of types that are not known here are listed and skipped. Errors are
// refusals: malformed_evidence, duplicate_statement (two of one type),
// unsupported_evidence (nothing but unknown statements). The Evidence keeps der.
func ParseEvidence(der []byte) (*Evidence, error) {
	if len(der) > MaxEvidence {
		return nil, malformed("it is larger than %d bytes", MaxEvidence)
	}
	input := cryptobyte.String(der)
	var bundle, statements, certs cryptobyte.String
	var withCerts bool
	if !input.ReadASN1(&bundle, casn1.SEQUENCE) || !input.Empty() {
		return nil, malformed("want one DER SEQUENCE, an AttestationBundle, and nothing after it")
	}
	if !bundle.ReadASN1(&statements, casn1.SEQUENCE) || statements.Empty() ||
		!bundle.ReadOptionalASN1(&certs, &withCerts, casn1.SEQUENCE) || withCerts && certs.Empty() || !bundle.Empty() {
		return nil, malformed("an AttestationBundle has statements, then at most certificates, and no empty lists")
	}
	e := &Evidence{DER: der}
	if err := e.readStatements(statements); err != nil {
		return nil, err
	}
	if err := e.readCerts(certs); err != nil {
		return nil, err
	}
	if e.Certify == nil && e.Quote == nil && e.EventLog == nil {
		return nil, Refuse(UnsupportedEvidence, fmt.Sprintf(
			"none of the evidence is of a type known here (%q); send tcg-attest-tpm-certify (%s) and tcg-attest-tpm-quote (%s)", e.Unknown, oidCertify, oidQuote))
	}
	return e, nil
}

func (e *Evidence) readStatements(list cryptobyte.String) error {
	for n := 0; !list.Empty(); n++ {
		if n == maxStatements {
			return malformed("it has more than %d statements", maxStatements)
		}
		var statement, value cryptobyte.String
		var oid asn1.ObjectIdentifier
		var tag casn1.Tag
		if !list.ReadASN1(&statement, casn1.SEQUENCE) || !statement.ReadASN1ObjectIdentifier(&oid) ||
			!statement.ReadAnyASN1Element(&value, &tag) || !statement.Empty() {
			return malformed("statement %d is not a type and one value", n+1)
		}
		if err := e.readStatement(oid, value); err != nil {
			return err
		}
	}
	return nil
}

func (e *Evidence) readStatement(oid asn1.ObjectIdentifier, value cryptobyte.String) (err error) {
	switch {
	case oid.Equal(oidCertify):
		if e.Certify != nil {
			return twice("certify")
		}
		e.Certify, err = readTPM(value, "certify", func(s *Statement) *[]byte { return &s.Public })
		return err
	case oid.Equal(oidQuote):
		if e.Quote != nil {
			return twice("quote")
		}
		e.Quote, err = readTPM(value, "quote", func(s *Statement) *[]byte { return &s.Values })
		return err
	case oid.Equal(oidCMW):
		return e.readWrapped(value)
	}
	e.Unknown = append(e.Unknown, oid.String())
	return nil
}

func twice(what string) error {
	return Refuse(DuplicateStatement, "the attestation evidence has two "+what+" statements; send one of each type")
}

// readTPM reads TcgAttestCertify and TcgAttestQuote, which have one form:
//
//	SEQUENCE { tpmSAttest OCTET STRING, signature OCTET STRING, third OCTET STRING OPTIONAL }
func readTPM(value cryptobyte.String, what string, third func(*Statement) *[]byte) (*Statement, error) {
	s := new(Statement)
	var body cryptobyte.String
	if !value.ReadASN1(&body, casn1.SEQUENCE) || !readOctets(&body, &s.Attest) || !readOctets(&body, &s.Signature) {
		return nil, malformed("a %s statement starts with two OCTET STRINGs of up to %d bytes", what, maxStructure)
	}
	if !body.Empty() && (!readOctets(&body, third(s)) || !body.Empty()) {
		return nil, malformed("a %s statement ends with at most one more OCTET STRING of up to %d bytes", what, maxStructure)
	}
	return s, nil
}

// readOctets reads an OCTET STRING of a TPM structure's size.
func readOctets(from *cryptobyte.String, out *[]byte) bool {
	var octets cryptobyte.String
	if !from.ReadASN1(&octets, casn1.OCTET_STRING) || octets.Empty() || len(octets) > maxStructure {
		return false
	}
	*out = octets
	return true
}

// readCerts reads CertificateChoices. Certificates of other formats count, and are skipped.
func (e *Evidence) readCerts(list cryptobyte.String) error {
	for n := 0; !list.Empty(); n++ {
		var element cryptobyte.String
		var tag casn1.Tag
		if n == maxCerts {
			return malformed("it has more than %d certificates", maxCerts)
		}
		if !list.ReadAnyASN1Element(&element, &tag) || tag != casn1.SEQUENCE && tag != otherCertificate {
			return malformed("certificate %d is neither a certificate nor of another format, [3]", n+1)
		}
		if len(element) > maxCertificate {
			return malformed("certificate %d is larger than %d bytes", n+1, maxCertificate)
		}
		if tag == casn1.SEQUENCE {
			e.Certs = append(e.Certs, element)
		}
	}
	return nil
}

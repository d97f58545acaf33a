package ca

import (
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/hallmark-pki/hallmark/internal/fault"
)

// MaxCSR is the largest certification request that ParseCSR reads, in bytes.
// Requests that carry attestation evidence with an event log come near it.
const MaxCSR = 192 << 10

// CSR is a certification request (PKCS #10, RFC 2986) whose syntax, key and
// signature have been checked. What it says of names are claims, which
// Profile.CheckNames and CheckRenewalNames hold against the register; only the
// key is taken from it.
type CSR struct {
	DER       []byte
	SPKI      []byte // DER SubjectPublicKeyInfo
	PublicKey crypto.PublicKey
	KeyType   KeyType
	KeyBits   int // size of an RSA modulus; of the curve's field otherwise
	Request   *x509.CertificateRequest

	Subject []Attribute // in order; empty for the empty subject
	SANs    []SAN       // in order

	// Challenge is the challengePassword (RFC 2985, Section 5.4.1), Linking the
	// estIdentityLinking (RFC 7894, Section 3.3); empty where absent.
	Challenge string
	Linking   string

	ChangeSubject bool   // ChangeSubjectName (RFC 6402, Section 2.8) is present
	Attestation   []byte // the one value of id-aa-attestation, DER; nil where absent
}

// Attribute is one part of a distinguished name.
type Attribute struct {
	RDN   int // which RelativeDistinguishedName it stands in, from 0
	Type  asn1.ObjectIdentifier
	Value string // UTF-8, free of control characters
}

// malformed is the refusal of a request that cannot be taken as it is.
func malformed(code, says string) error { return fault.New(fault.Malformed, code, says) }

// errSyntax is the refusal of what is not DER of a certification request.
func errSyntax(what string) error {
	return malformed("csr_malformed", "the request is not a DER PKCS#10 certification request: "+what)
}

// ParseCSR reads a certification request from a stranger. What is cheap comes
// first: the signature is verified only over a key of a size and a kind that
// could be certified. Errors are of kind Malformed, or Denied with code
// ca_requested where the request asks to become an authority. The CSR keeps der.
func ParseCSR(der []byte) (*CSR, error) {
	if len(der) > MaxCSR {
		return nil, malformed("csr_too_large", fmt.Sprintf("the request is larger than %d bytes", MaxCSR))
	}
	parts, err := splitCSR(der)
	if err != nil {
		return nil, err
	}
	csr := &CSR{DER: der, SPKI: parts.spki}
	if csr.PublicKey, csr.KeyType, csr.KeyBits, err = parseKey(parts.spki); err != nil {
		return nil, err
	}
	if csr.Subject, err = parseName(parts.subject); err != nil {
		return nil, err
	}
	if err := csr.readAttributes(parts.attributes); err != nil {
		return nil, err
	}
	if err := checkSignatureAlgorithm(parts.algorithm); err != nil {
		return nil, err
	}
	if csr.Request, err = x509.ParseCertificateRequest(der); err != nil {
		return nil, fault.Wrap(fault.Malformed, "csr_malformed", "the request is not a well-formed PKCS#10 certification request", err)
	}
	if err := csr.Request.CheckSignature(); err != nil {
		return nil, fault.Wrap(fault.Malformed, "csr_signature", "the request's signature does not verify with the key in it", err)
	}
	return csr, nil
}

// WithKey returns a request with the same claims over another key, for a door
// that makes the key itself. The key is held to the same rules.
func (c *CSR) WithKey(pub crypto.PublicKey) (*CSR, error) {
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("encoding a public key: %w", err)
	}
	other := *c
	other.SPKI = spki
	if other.PublicKey, other.KeyType, other.KeyBits, err = parseKey(spki); err != nil {
		return nil, err
	}
	return &other, nil
}

// csrParts are slices of the request.
type csrParts struct {
	subject, spki, algorithm []byte // whole elements
	attributes               cryptobyte.String
}

// splitCSR reads the frame of RFC 2986, Section 4:
//
//	SEQUENCE { info SEQUENCE { version INTEGER, subject Name, key SubjectPublicKeyInfo, [0] attributes },
//	           algorithm AlgorithmIdentifier, signature BIT STRING }
func splitCSR(der []byte) (p csrParts, err error) {
	input := cryptobyte.String(der)
	var outer, info, subject, spki, algorithm cryptobyte.String
	var signature asn1.BitString
	if !input.ReadASN1(&outer, casn1.SEQUENCE) || !input.Empty() {
		return p, errSyntax("want one SEQUENCE and nothing after it")
	}
	if !outer.ReadASN1(&info, casn1.SEQUENCE) || !outer.ReadASN1Element(&algorithm, casn1.SEQUENCE) ||
		!outer.ReadASN1BitString(&signature) || !outer.Empty() {
		return p, errSyntax("want information, algorithm and signature")
	}
	var version int64
	if !info.ReadASN1Integer(&version) || version != 0 {
		return p, malformed("csr_version", "the request's version is not 0, the only one of PKCS#10")
	}
	if !info.ReadASN1Element(&subject, casn1.SEQUENCE) || !info.ReadASN1Element(&spki, casn1.SEQUENCE) {
		return p, errSyntax("want a subject and a public key")
	}
	var present bool
	// Section 4.1 wants the field even when it is empty; some devices leave it out.
	if !info.ReadOptionalASN1(&p.attributes, &present, explicit0) || !info.Empty() {
		return p, errSyntax("want attributes in [0] and nothing after them")
	}
	p.subject, p.spki, p.algorithm = subject, spki, algorithm
	return p, nil
}

// strongSignatures are the algorithms that a request may be signed with, by
// their dotted identifiers. MD5 and SHA-1 are not among them, nor is DSA.
var strongSignatures = map[string]bool{
	"1.2.840.113549.1.1.11": true, "1.2.840.113549.1.1.12": true, "1.2.840.113549.1.1.13": true, // RSA with SHA-256, -384, -512
	"1.2.840.113549.1.1.10": true,                                                           // RSASSA-PSS; the parser knows only SHA-2 parameters
	"1.2.840.10045.4.3.2":   true, "1.2.840.10045.4.3.3": true, "1.2.840.10045.4.3.4": true, // ECDSA with SHA-256, -384, -512
	"1.3.101.112": true, // Ed25519
}

func checkSignatureAlgorithm(element []byte) error {
	input := cryptobyte.String(element)
	var algorithm cryptobyte.String
	var oid asn1.ObjectIdentifier
	if !input.ReadASN1(&algorithm, casn1.SEQUENCE) || !algorithm.ReadASN1ObjectIdentifier(&oid) {
		return errSyntax("the signature algorithm cannot be read")
	}
	if !strongSignatures[oid.String()] {
		return malformed("csr_signature_algorithm",
			fmt.Sprintf("the request is signed with algorithm %s; sign it with SHA-256 or stronger (RSA, ECDSA) or Ed25519", oid))
	}
	return nil
}

// parseName reads a distinguished name.
func parseName(element []byte) ([]Attribute, error) {
	input := cryptobyte.String(element)
	var rdns cryptobyte.String
	if !input.ReadASN1(&rdns, casn1.SEQUENCE) || !input.Empty() {
		return nil, errSyntax("a name is not a SEQUENCE")
	}
	var name []Attribute
	for rdn := 0; !rdns.Empty(); rdn++ {
		var set cryptobyte.String
		if !rdns.ReadASN1(&set, casn1.SET) || set.Empty() || rdn == maxParts {
			return nil, errSyntax("a name has an unreadable part, or too many")
		}
		for !set.Empty() {
			a, err := parseAttribute(&set)
			if err != nil {
				return nil, err
			}
			if a.RDN = rdn; len(name) == maxParts {
				return nil, errSyntax("a name has too many parts")
			}
			name = append(name, a)
		}
	}
	return name, nil
}

// Bounds of what a request may claim. They are far above what anybody needs and
// keep what ends in a refusal, a log line or the record short.
const (
	maxParts = 32      // parts of a name, names, attributes, extensions
	maxValue = 256     // octets of one part of a name; X.520 has 64 for most
	maxNames = 8 << 10 // octets of a subjectAltName
)

func parseAttribute(set *cryptobyte.String) (a Attribute, err error) {
	var pair, value cryptobyte.String
	var tag casn1.Tag
	if !set.ReadASN1(&pair, casn1.SEQUENCE) || !pair.ReadASN1ObjectIdentifier(&a.Type) ||
		!pair.ReadAnyASN1(&value, &tag) || !pair.Empty() {
		return a, errSyntax("a name has a part that is not a type and a value")
	}
	if len(value) > maxValue {
		return a, malformed("bad_name", fmt.Sprintf("a part of a name (%s) is longer than %d octets", a.Type, maxValue))
	}
	if a.Value, err = decodeText(tag, value); err != nil {
		return a, malformed("bad_name", fmt.Sprintf("a part of a name (%s) has control characters or an invalid encoding", a.Type))
	}
	return a, nil
}

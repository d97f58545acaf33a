package tpm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"math/big"
	"slices"

	"golang.org/x/crypto/cryptobyte"

	"github.com/hallmark-pki/hallmark/attest"
)

// Structures of TPMs are read by hand: their layout is fixed, their lengths are
// checked to the last byte, and a general decoder takes ten times as long and leaves
// trailing bytes unread. Clauses are those of the TPM 2.0 Library, Part 2.

// algorithm is a TPM_ALG_ID (Part 2, Section 6.3).
type algorithm uint16

const (
	algRSA    algorithm = 0x0001
	algSHA1   algorithm = 0x0004
	algAES    algorithm = 0x0006
	algSHA256 algorithm = 0x000b
	algSHA384 algorithm = 0x000c
	algNull   algorithm = 0x0010
	algRSASSA algorithm = 0x0014
	algRSAES  algorithm = 0x0015
	algRSAPSS algorithm = 0x0016
	algOAEP   algorithm = 0x0017
	algECDSA  algorithm = 0x0018
	algECDAA  algorithm = 0x001a
	algECC    algorithm = 0x0023
	algCFB    algorithm = 0x0043
)

// hash returns the hash function, where it is one that is accepted: SHA-256 or
// SHA-384, and SHA-1 never. 0 is no hash function.
func (a algorithm) hash() crypto.Hash {
	switch a {
	case algSHA256:
		return crypto.SHA256
	case algSHA384:
		return crypto.SHA384
	}
	return 0
}

// size is the length of the hash's digest; 0 for what is none.
func (a algorithm) size() int {
	if h := a.hash(); h != 0 {
		return h.Size()
	}
	return 0
}

// String names what people know by name, banks as they are configured.
func (a algorithm) String() string {
	switch a {
	case algSHA1:
		return "sha1"
	case algSHA256:
		return "sha256"
	case algSHA384:
		return "sha384"
	case algRSASSA:
		return "RSASSA"
	case algRSAPSS:
		return "RSAPSS"
	case algECDSA:
		return "ECDSA"
	}
	return fmt.Sprintf("%#04x", uint16(a))
}

// attributes is a TPMA_OBJECT (Part 2, Section 8.3).
type attributes uint32

const (
	fixedTPM            attributes = 1 << 1
	fixedParent         attributes = 1 << 4
	sensitiveDataOrigin attributes = 1 << 5
	restricted          attributes = 1 << 16
	decrypt             attributes = 1 << 17
	sign                attributes = 1 << 18

	// made are those of a key that one TPM made and never lets go.
	made = fixedTPM | fixedParent | sensitiveDataOrigin
)

func (a attributes) has(all attributes) bool { return a&all == all }
func (a attributes) any(of attributes) bool  { return a&of != 0 }

// scheme is a signing or key exchange scheme with its hash.
type scheme struct{ id, hash algorithm }

func (s scheme) String() string { return s.id.String() + " and " + s.hash.String() }

// area is a TPMT_PUBLIC (Part 2, Section 12.2.4): the public area of a key.
type area struct {
	bytes      []byte // without a size before it
	kind       algorithm
	nameAlg    algorithm
	attributes attributes
	policy     []byte
	symmetric  algorithm // of a storage key
	symBits    uint16
	symMode    algorithm
	scheme     scheme
	bits       int // of an RSA modulus, or of the curve's field
	curve      elliptic.Curve
	modulus    []byte
	exponent   uint32 // 0 stands for 65537
	x, y       []byte
}

// Elliptic curves (Part 2, Section 6.4).
const (
	curveP256 = 0x0003
	curveP384 = 0x0004
)

// bare strips the size that a TPM2B puts before a structure. None of the
// structures read here starts with its own length, so the two cannot be confused.
func bare(b []byte) []byte {
	if len(b) > 2 && int(binary.BigEndian.Uint16(b)) == len(b)-2 {
		return b[2:]
	}
	return b
}

// sized puts the size before a structure. None made here comes near 64 KiB.
func sized(b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(b)), uint16(len(b))), b...)
}

// parseArea reads a TPMT_PUBLIC or TPM2B_PUBLIC of an RSA or ECC key. what names
// it in refusals, which are malformed_evidence and algorithm_not_allowed.
func parseArea(b []byte, what string) (*area, error) {
	a := &area{bytes: bare(b)}
	in := cryptobyte.String(a.bytes)
	var policy cryptobyte.String
	if !readAlgorithm(&in, &a.kind) || !readAlgorithm(&in, &a.nameAlg) || !in.ReadUint32((*uint32)(&a.attributes)) ||
		!in.ReadUint16LengthPrefixed(&policy) {
		return nil, malformed("%s is not a TPMT_PUBLIC", what)
	}
	a.policy = policy
	if a.nameAlg.hash() == 0 {
		return nil, notAllowed("%s is named with hash algorithm %s; use SHA-256 or SHA-384", what, a.nameAlg)
	}
	var err error
	switch a.kind {
	case algRSA:
		err = a.readRSA(&in, what)
	case algECC:
		err = a.readECC(&in, what)
	default:
		err = notAllowed("%s is of type %s; use an RSA or ECC key", what, a.kind)
	}
	if err != nil {
		return nil, err
	}
	if !in.Empty() {
		return nil, malformed("%s has bytes after its end", what)
	}
	return a, nil
}

// readRSA reads TPMS_RSA_PARMS and the modulus.
func (a *area) readRSA(in *cryptobyte.String, what string) error {
	var bits uint16
	var modulus cryptobyte.String
	if !a.readSymmetric(in) || !readScheme(in, &a.scheme) || !in.ReadUint16(&bits) || !in.ReadUint32(&a.exponent) || !in.ReadUint16LengthPrefixed(&modulus) {
		return malformed("%s is not a TPMT_PUBLIC of an RSA key", what)
	}
	if err := a.checkSchemes(what, algRSASSA, algRSAPSS, algOAEP, algRSAES); err != nil {
		return err
	}
	if bits != 2048 && bits != 3072 && bits != 4096 {
		return notAllowed("%s is an RSA key of %d bits; use 2048, 3072 or 4096", what, bits)
	}
	if a.exponent != 0 && a.exponent != 65537 {
		return notAllowed("%s is an RSA key with exponent %d; use 65537", what, a.exponent)
	}
	a.bits, a.modulus = int(bits), modulus
	if len(modulus) != a.bits/8 || modulus[0]&0x80 == 0 || modulus[len(modulus)-1]&1 == 0 {
		return malformed("the RSA modulus of %s is not an odd number of %d bits", what, bits)
	}
	return nil
}

// readECC reads TPMS_ECC_PARMS and the point.
func (a *area) readECC(in *cryptobyte.String, what string) error {
	var curve uint16
	var kdf scheme
	var x, y cryptobyte.String
	if !a.readSymmetric(in) || !readScheme(in, &a.scheme) || !in.ReadUint16(&curve) || !readScheme(in, &kdf) ||
		!in.ReadUint16LengthPrefixed(&x) || !in.ReadUint16LengthPrefixed(&y) {
		return malformed("%s is not a TPMT_PUBLIC of an ECC key", what)
	}
	if err := a.checkSchemes(what, algECDSA); err != nil {
		return err
	}
	if kdf.id != algNull {
		return notAllowed("%s has key derivation scheme %s; use none", what, kdf.id)
	}
	switch curve {
	case curveP256:
		a.curve = elliptic.P256()
	case curveP384:
		a.curve = elliptic.P384()
	default:
		return notAllowed("%s is on elliptic curve %#04x; use P-256 or P-384", what, curve)
	}
	a.bits, a.x, a.y = a.curve.Params().BitSize, x, y
	if len(x) > a.bits/8 || len(y) > a.bits/8 {
		return malformed("the point of %s is too long for its curve", what)
	}
	return nil
}

// checkSchemes wants what is known here, so that nothing is certified that was
// read but not understood.
func (a *area) checkSchemes(what string, known ...algorithm) error {
	if a.symmetric != algNull && a.symmetric != algAES {
		return notAllowed("%s has symmetric algorithm %s; use AES", what, a.symmetric)
	}
	if a.scheme.id != algNull && !slices.Contains(known, a.scheme.id) {
		return notAllowed("%s has scheme %s; use RSASSA, RSAPSS or ECDSA", what, a.scheme.id)
	}
	return nil
}

// readSymmetric reads a TPMT_SYM_DEF_OBJECT.
func (a *area) readSymmetric(in *cryptobyte.String) bool {
	if !readAlgorithm(in, &a.symmetric) {
		return false
	}
	return a.symmetric == algNull || in.ReadUint16(&a.symBits) && readAlgorithm(in, &a.symMode)
}

// readScheme reads a TPMT_RSA_SCHEME, TPMT_ECC_SCHEME or TPMT_KDF_SCHEME: an
// identifier and, but for those without one, a hash.
func readScheme(in *cryptobyte.String, s *scheme) bool {
	if !readAlgorithm(in, &s.id) {
		return false
	}
	switch s.id {
	case algNull, algRSAES:
		return true
	case algECDAA:
		return readAlgorithm(in, &s.hash) && in.Skip(2)
	}
	return readAlgorithm(in, &s.hash)
}

func readAlgorithm(in *cryptobyte.String, a *algorithm) bool { return in.ReadUint16((*uint16)(a)) }

// name returns the key's Name: the identifier of nameAlg and the digest of the area.
func (a *area) name() []byte {
	h := a.nameAlg.hash().New()
	h.Write(a.bytes)
	return h.Sum(binary.BigEndian.AppendUint16(make([]byte, 0, 2+h.Size()), uint16(a.nameAlg)))
}

// key returns the public key. An ECC point that is not on its curve is malformed_evidence.
func (a *area) key(what string) (crypto.PublicKey, error) {
	if a.kind == algRSA {
		return &rsa.PublicKey{N: new(big.Int).SetBytes(a.modulus), E: 65537}, nil
	}
	size := a.bits / 8
	point := make([]byte, 1+2*size)
	point[0] = 4 // uncompressed (SEC 1, Section 2.3.3)
	copy(point[1+size-len(a.x):], a.x)
	copy(point[1+2*size-len(a.y):], a.y)
	pub, err := ecdsa.ParseUncompressedPublicKey(a.curve, point)
	if err != nil {
		return nil, malformed("the point of %s is not on its curve", what)
	}
	return pub, nil
}

// spki returns the key and its DER SubjectPublicKeyInfo.
func (a *area) spki(what string) (crypto.PublicKey, []byte, error) {
	pub, err := a.key(what)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, nil, attest.RefuseBecause(attest.MalformedEvidence, what+" cannot be encoded as a public key", err)
	}
	return pub, der, nil
}

// same reports whether two encoded areas are one key's.
func same(a, b []byte) bool { return bytes.Equal(bare(a), bare(b)) }

package forge

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
)

// Role is what a key is for; it decides the attributes and the scheme.
type Role int

// The roles.
const (
	Endorsement Role = iota // a TCG endorsement key: restricted, decrypts
	Attestation             // restricted, signs
	Device                  // signs anything
)

// Key is a key with the public area that its TPM tells of it, true or not.
type Key struct {
	Private crypto.Signer // *ecdsa.PrivateKey or *rsa.PrivateKey
	Area    Area
}

// NewKey makes a key of a kind ("p256", "p384", "rsa") for a role.
func NewKey(kind string, role Role) (*Key, error) {
	var private crypto.Signer
	var err error
	switch kind {
	case "p256":
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "p384":
		private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "rsa":
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	default:
		err = errKind(kind)
	}
	if err != nil {
		return nil, err
	}
	return Hold(private, role)
}

// OnCurve makes a key on a curve that TPMs may have and nobody should use; its area is empty.
func OnCurve(curve elliptic.Curve) (*Key, error) {
	private, err := ecdsa.GenerateKey(curve, rand.Reader)
	return &Key{Private: private}, err
}

// Hold puts a key that exists into the TPM.
func Hold(private crypto.Signer, role Role) (*Key, error) {
	a, err := areaOf(private.Public(), role)
	if err != nil {
		return nil, err
	}
	return &Key{Private: private, Area: a}, nil
}

// SPKI returns the key's DER SubjectPublicKeyInfo.
func (k *Key) SPKI() []byte {
	der, err := x509.MarshalPKIXPublicKey(k.Private.Public())
	if err != nil {
		return nil // not of a key that areaOf took
	}
	return der
}

// Area is a TPMT_PUBLIC.
type Area struct {
	Kind, NameAlg    uint16
	Attributes       uint32
	Policy           []byte
	Symmetric        uint16 // Null, or AES with the two below
	SymBits, SymMode uint16
	Scheme, Hash     uint16
	Bits             uint16 // RSA
	Exponent         uint32
	Modulus          []byte
	Curve            uint16 // ECC
	KDF              uint16
	X, Y             []byte
}

// endorsementPolicy is that of the TCG's templates: PolicySecret of the
// endorsement hierarchy, and its SHA-384 form (EK Credential Profile, Annex B).
const endorsementPolicy = "\x83\x71\x97\x67\x44\x84\xb3\xf8\x1a\x90\xcc\x8d\x46\xa5\xd7\x24\xfd\x52\xd7\x6e\x06\x52\x0b\x64\xf2\xa1\xda\x1b\x33\x14\x69\xaa"

func areaOf(public crypto.PublicKey, role Role) (Area, error) {
	a := Area{NameAlg: SHA256, Symmetric: Null, Scheme: Null, KDF: Null, Attributes: FixedTPM | FixedParent | SensitiveDataOrigin | UserWithAuth | Sign, Hash: SHA256}
	switch public := public.(type) {
	case *ecdsa.PublicKey:
		size := (public.Curve.Params().BitSize + 7) / 8
		point, err := public.Bytes()
		if err != nil {
			return a, fmt.Errorf("forge: %w", err)
		}
		a.Kind, a.Curve, a.X, a.Y, a.Scheme = ECC, P256, point[1:1+size], point[1+size:], ECDSA
		if size == 48 {
			a.Curve, a.NameAlg, a.Hash = P384, SHA384, SHA384
		}
	case *rsa.PublicKey:
		a.Kind, a.Bits, a.Modulus, a.Scheme = RSA, uint16(public.N.BitLen()), public.N.Bytes(), RSASSA
	default:
		return a, errKind(fmt.Sprintf("%T", public))
	}
	switch role {
	case Endorsement:
		a.Attributes = FixedTPM | FixedParent | SensitiveDataOrigin | AdminWithPolicy | Restricted | Decrypt
		a.Policy = []byte(endorsementPolicy)
		a.Scheme, a.Symmetric, a.SymBits, a.SymMode = Null, AES, 128, CFB
		if a.NameAlg == SHA384 {
			a.SymBits = 256
		}
	case Attestation:
		a.Attributes |= Restricted
	}
	return a, nil
}

// Bytes encodes the area without a size before it.
func (a *Area) Bytes() []byte {
	b := cryptobyte.NewBuilder(make([]byte, 0, 512))
	b.AddUint16(a.Kind)
	b.AddUint16(a.NameAlg)
	b.AddUint32(a.Attributes)
	addSized(b, a.Policy)
	b.AddUint16(a.Symmetric)
	if a.Symmetric != Null {
		b.AddUint16(a.SymBits)
		b.AddUint16(a.SymMode)
	}
	b.AddUint16(a.Scheme)
	if a.Scheme != Null {
		b.AddUint16(a.Hash)
	}
	if a.Scheme == ECDAA {
		b.AddUint16(0)
	}
	if a.Kind == RSA {
		b.AddUint16(a.Bits)
		b.AddUint32(a.Exponent)
		addSized(b, a.Modulus)
		return b.BytesOrPanic()
	}
	b.AddUint16(a.Curve)
	b.AddUint16(a.KDF)
	if a.KDF != Null {
		b.AddUint16(SHA256)
	}
	addSized(b, a.X)
	addSized(b, a.Y)
	return b.BytesOrPanic()
}

// Name returns the TPM Name of the area; with a nameAlg that is not SHA-2 it is the SHA-256.
func (a *Area) Name() []byte {
	h := digest(a.NameAlg, a.Bytes())
	return append([]byte{byte(a.NameAlg >> 8), byte(a.NameAlg)}, h...)
}

// Sized puts the size before a structure, as a TPM2B does.
func Sized(b []byte) []byte {
	return append([]byte{byte(len(b) >> 8), byte(len(b))}, b...)
}

func addSized(b *cryptobyte.Builder, value []byte) {
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(value) })
}

// SignAs signs a message and encodes a TPMT_SIGNATURE of the scheme and hash
// named, which need not be the key's; the mathematics are.
func (k *Key) SignAs(message []byte, scheme, hash uint16) ([]byte, error) {
	sum := digest(hash, message)
	b := cryptobyte.NewBuilder(make([]byte, 0, 300))
	b.AddUint16(scheme)
	b.AddUint16(hash)
	var opts crypto.SignerOpts = hashes[hash]
	if scheme == RSAPSS {
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hashes[hash]}
	}
	signed, err := k.Private.Sign(rand.Reader, sum, opts)
	if err != nil {
		return nil, fmt.Errorf("forge: signing: %w", err)
	}
	if _, isRSA := k.Private.(*rsa.PrivateKey); isRSA {
		addSized(b, signed)
		return b.BytesOrPanic(), nil
	}
	var point struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(signed, &point); err != nil {
		return nil, fmt.Errorf("forge: %w", err)
	}
	size := len(k.Area.X)
	addSized(b, point.R.FillBytes(make([]byte, size)))
	addSized(b, point.S.FillBytes(make([]byte, size)))
	return b.BytesOrPanic(), nil
}

// hashes are those that the package computes.
var hashes = map[uint16]crypto.Hash{SHA1: crypto.SHA1, SHA256: crypto.SHA256, SHA384: crypto.SHA384, SHA512: crypto.SHA512}

func digest(alg uint16, message []byte) []byte {
	hash, ok := hashes[alg]
	if !ok {
		hash = crypto.SHA256
	}
	h := hash.New()
	h.Write(message)
	return h.Sum(nil)
}

package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/asn1"
	"fmt"
	"math"
	"math/big"

	"filippo.io/edwards25519"
	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Bounds of an RSA modulus, in bits. The lower is 112 bits of strength (SP
// 800-57 Part 1, Section 5.6.1); the upper keeps a stranger's verification cheap.
const (
	minRSABits = 2048
	maxRSABits = 8192
)

// Algorithms of a SubjectPublicKeyInfo (RFC 3279, 5480, 8410).
var (
	oidRSA     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidEC      = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidP256    = asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}
	oidP384    = asn1.ObjectIdentifier{1, 3, 132, 0, 34}
	oidEd25519 = asn1.ObjectIdentifier{1, 3, 101, 112}
)

// weak is the refusal of a key that no profile may allow.
func weak(says string) error { return malformed("weak_key", says) }

// parseKey reads a SubjectPublicKeyInfo and refuses every key that is broken,
// whoever asks: this is the check of Baseline Requirements 6.1.6 and of the
// failures ROCA (CVE-2017-15361), Fermat (CVE-2022-26320) and chosen curve
// parameters (CVE-2020-0601). bits is the size of an RSA modulus or of the curve.
func parseKey(spki []byte) (pub crypto.PublicKey, t KeyType, bits int, err error) {
	input := cryptobyte.String(spki)
	var info, algorithm cryptobyte.String
	var oid asn1.ObjectIdentifier
	var key asn1.BitString
	if !input.ReadASN1(&info, casn1.SEQUENCE) || !input.Empty() ||
		!info.ReadASN1(&algorithm, casn1.SEQUENCE) || !algorithm.ReadASN1ObjectIdentifier(&oid) ||
		!info.ReadASN1BitString(&key) || !info.Empty() || key.BitLength%8 != 0 {
		return nil, "", 0, errSyntax("the public key cannot be read")
	}
	switch {
	case oid.Equal(oidEC):
		return parseEC(algorithm, key.Bytes)
	case oid.Equal(oidEd25519):
		pub, err = parseEd25519(algorithm, key.Bytes)
		return pub, Ed25519, 255, err
	case oid.Equal(oidRSA):
		rsaKey, err := parseRSA(algorithm, key.Bytes)
		if err != nil {
			return nil, "", 0, err
		}
		return rsaKey, RSA, rsaKey.N.BitLen(), nil
	}
	return nil, "", 0, malformed("key_type", fmt.Sprintf("public keys of type %s are not certified; use ECDSA P-256 or P-384, Ed25519 or RSA", oid))
}

// parseEC takes the two named curves. Explicit parameters (RFC 5480, Section
// 2.1.1, forbids them) are how CVE-2020-0601 forged certificates.
func parseEC(parameters cryptobyte.String, point []byte) (crypto.PublicKey, KeyType, int, error) {
	var name asn1.ObjectIdentifier
	if !parameters.ReadASN1ObjectIdentifier(&name) || !parameters.Empty() {
		return nil, "", 0, malformed("key_parameters", "the elliptic curve is not given by name; only the named curves P-256 and P-384 are certified")
	}
	var curve elliptic.Curve
	var t KeyType
	switch {
	case name.Equal(oidP256):
		curve, t = elliptic.P256(), P256
	case name.Equal(oidP384):
		curve, t = elliptic.P384(), P384
	default:
		return nil, "", 0, malformed("key_type", fmt.Sprintf("the elliptic curve %s is not certified; use P-256 or P-384", name))
	}
	pub, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		return nil, "", 0, weak("the elliptic curve key is not an uncompressed point on its curve")
	}
	return pub, t, curve.Params().BitSize, nil
}

// parseEd25519 refuses points of small order: over such a key one signature
// fits many messages, so it proves no possession.
func parseEd25519(parameters cryptobyte.String, key []byte) (crypto.PublicKey, error) {
	if !parameters.Empty() || len(key) != ed25519.PublicKeySize {
		return nil, weak("the Ed25519 key does not have 32 octets and no parameters")
	}
	point, err := new(edwards25519.Point).SetBytes(key)
	if err != nil || new(edwards25519.Point).MultByCofactor(point).Equal(edwards25519.NewIdentityPoint()) == 1 {
		return nil, weak("the Ed25519 key is not a point of large order on its curve")
	}
	return ed25519.PublicKey(key), nil
}

// parseRSA reads RSAPublicKey ::= SEQUENCE { modulus INTEGER, publicExponent INTEGER }.
func parseRSA(parameters cryptobyte.String, key []byte) (*rsa.PublicKey, error) {
	var null, numbers cryptobyte.String
	input := cryptobyte.String(key)
	n, e := new(big.Int), new(big.Int)
	if !parameters.ReadASN1(&null, casn1.NULL) || !null.Empty() || !parameters.Empty() ||
		!input.ReadASN1(&numbers, casn1.SEQUENCE) || !input.Empty() {
		return nil, errSyntax("the RSA public key cannot be read")
	}
	if len(numbers) > maxRSABits/8+32 {
		return nil, weak(fmt.Sprintf("the RSA key is larger than %d bits", maxRSABits))
	}
	if !numbers.ReadASN1Integer(n) || !numbers.ReadASN1Integer(e) || !numbers.Empty() {
		return nil, errSyntax("the RSA public key cannot be read")
	}
	if err := checkRSA(n, e); err != nil {
		return nil, err
	}
	return &rsa.PublicKey{N: n, E: int(e.Int64())}, nil
}

// checkRSA refuses moduli and exponents that are known to be breakable.
func checkRSA(n, e *big.Int) error {
	if bits := n.BitLen(); n.Sign() <= 0 || bits < minRSABits || bits > maxRSABits {
		return weak(fmt.Sprintf("the RSA key has %d bits; between %d and %d are certified", bits, minRSABits, maxRSABits))
	}
	// FIPS 186-5, Section A.1.1: odd, above 2^16. Below 2^31 is what verifiers can read.
	if e.Cmp(big.NewInt(65537)) < 0 || e.BitLen() > 31 || e.Bit(0) == 0 {
		return weak("the RSA key's public exponent is not an odd number from 65537 up to 2^31")
	}
	switch {
	case hasSmallFactor(n):
		return weak("the RSA key's modulus has a small factor; make a new key with a sound generator")
	case isROCA(n):
		return weak("the RSA key was made by a chip with the ROCA flaw (CVE-2017-15361); make a new key elsewhere")
	case fermat(n):
		return weak("the RSA key's two primes are too close together (CVE-2022-26320); make a new key with a sound generator")
	}
	return nil
}

// hasSmallFactor reports whether a prime up to 751 divides n (the bound that
// Baseline Requirements 6.1.6 take from SP 800-89, Section 5.3.3). It divides the
// long number by a product of several candidates at once, and the remainder by each.
func hasSmallFactor(n *big.Int) bool {
	rest := new(big.Int)
	for p := int64(2); p <= 751; {
		first, product := p, int64(1)
		for ; p <= 751 && product < math.MaxInt64/752; p++ {
			if maybePrime(p) {
				product *= p
			}
		}
		r := rest.Mod(n, big.NewInt(product)).Int64()
		for q := first; q < p; q++ {
			if maybePrime(q) && r%q == 0 {
				return true
			}
		}
	}
	return false
}

// maybePrime leaves out most composites; dividing by a few in vain is simpler than a table.
func maybePrime(p int64) bool { return p < 4 || p%2 != 0 && p%3 != 0 }

// isROCA reports whether n has the fingerprint of CVE-2017-15361: modulo each
// of these primes it is a power of 65537. Of random moduli one in 2^27 is.
func isROCA(n *big.Int) bool {
	rest := new(big.Int)
	for _, p := range []int64{11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157} {
		if !isPower(65537%p, rest.Mod(n, big.NewInt(p)).Int64(), p) {
			return false
		}
	}
	return true
}

// isPower reports whether x is a power of base modulo p.
func isPower(base, x, p int64) bool {
	for power := int64(1); ; {
		if power == x {
			return true
		}
		if power = power * base % p; power == 1 {
			return false
		}
	}
}

// fermatRounds is how many steps of Fermat's factorisation a key must survive.
// Primes that were chosen apart survive any number that could be tried.
const fermatRounds = 100

// fermat reports whether n = a² - b² for an a just above its square root, that
// is, whether n is a square or its two factors lie close together.
func fermat(n *big.Int) bool {
	a := new(big.Int).Sqrt(n)
	square := new(big.Int).Mul(a, a)
	if square.Cmp(n) == 0 {
		return true
	}
	a.Add(a, big.NewInt(1))
	b2 := square.Sub(square.Mul(a, a), n)
	step, root := new(big.Int), new(big.Int)
	for range fermatRounds {
		if maybeSquare(b2, step) && step.Mul(root.Sqrt(b2), root).Cmp(b2) == 0 {
			return true
		}
		b2.Add(b2, step.Lsh(a, 1)).Add(b2, big.NewInt(1)) // (a+1)² - a² = 2a + 1
		a.Add(a, big.NewInt(1))
	}
	return false
}

// maybeSquare reports whether n is a square modulo a few small primes, which
// saves the root of all but one in fifteen other numbers. rest is scratch space.
func maybeSquare(n, rest *big.Int) bool {
	r := rest.Mod(n, big.NewInt(3*5*7*11*13)).Int64()
	for _, p := range []int64{3, 5, 7, 11, 13} {
		x := int64(0)
		for x < p && x*x%p != r%p {
			x++
		}
		if x == p {
			return false
		}
	}
	return true
}

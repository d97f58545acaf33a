package ca_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"math/big"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

// TestWeakRSA is a row for each way in which an RSA key is known to be broken.
// The requests are signed by somebody else: a weak key is refused before its
// signature is looked at.
func TestWeakRSA(t *testing.T) {
	key := newKey(t, elliptic.P256())
	e := big.NewInt(65537)
	p, q := prime(t, 1024), prime(t, 1024)
	sound := new(big.Int).Mul(p, q)
	for says, spki := range map[string][]byte{
		"1024 bits":             rsaSPKI(new(big.Int).Mul(prime(t, 512), prime(t, 512)), e),
		"2047 bits":             rsaSPKI(new(big.Int).SetBit(new(big.Int).Rsh(sound, 1), 0, 1), e),
		"16384 bits":            rsaSPKI(odd(16384), e),
		"100,000 bits":          rsaSPKI(odd(100_000), e),
		"a negative modulus":    rsaSPKI(new(big.Int).Neg(sound), e),
		"a modulus of zero":     rsaSPKI(new(big.Int), e),
		"an even modulus":       rsaSPKI(new(big.Int).Lsh(p, 1024), e),
		"a small factor":        rsaSPKI(new(big.Int).Mul(prime(t, 2040), big.NewInt(751)), e),
		"a square":              rsaSPKI(new(big.Int).Mul(p, p), e),
		"close primes":          rsaSPKI(closePrimes(t), e),
		"the ROCA fingerprint":  rsaSPKI(roca(t), e),
		"an exponent of 1":      rsaSPKI(sound, big.NewInt(1)),
		"an exponent of 3":      rsaSPKI(sound, big.NewInt(3)),
		"an even exponent":      rsaSPKI(sound, big.NewInt(65538)),
		"a huge exponent":       rsaSPKI(sound, new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), 31), big.NewInt(1))),
		"a negative exponent":   rsaSPKI(sound, big.NewInt(-65537)),
		"an exponent of 2^4096": rsaSPKI(sound, odd(4096)),
	} {
		der := forgery{spki: spki}.der(t, key)
		start := time.Now()
		_, err := ca.ParseCSR(der)
		if took := time.Since(start); took > 250*time.Millisecond {
			t.Logf("%s: refused after %s", says, took) // for the reader: a loaded machine may be slow
		}
		if err == nil || fault.Of(err).Code != "weak_key" {
			t.Errorf("%s: got %v", says, err)
		}
	}
	// The same with sound numbers gets as far as the signature.
	_, err := ca.ParseCSR(forgery{spki: rsaSPKI(sound, e)}.der(t, key))
	refused(t, err, fault.Malformed, "csr_signature")
}

func prime(t *testing.T, bits int) *big.Int {
	t.Helper()
	p, err := rand.Prime(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func odd(bits int) *big.Int {
	n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
	return n.Add(n, big.NewInt(1))
}

// closePrimes is the product of two primes that start with the same 960 bits.
func closePrimes(t *testing.T) *big.Int {
	p := prime(t, 1024)
	q := new(big.Int).Add(p, big.NewInt(1<<20))
	for q.SetBit(q, 0, 1); !q.ProbablyPrime(20); q.Add(q, big.NewInt(2)) {
	}
	return new(big.Int).Mul(p, q)
}

// roca is a modulus whose factors are k·M + (65537^a mod M), as the flawed
// chips chose them, with M the product of the first 126 primes.
func roca(t *testing.T) *big.Int {
	t.Helper()
	m := big.NewInt(1)
	for p, n := int64(2), 0; n < 126; p++ {
		if big.NewInt(p).ProbablyPrime(10) {
			m.Mul(m, big.NewInt(p))
			n++
		}
	}
	factor := func() *big.Int { // whether it is prime makes no difference to the fingerprint
		f := new(big.Int).Exp(big.NewInt(65537), prime(t, 60), m)
		return f.Add(f, new(big.Int).Mul(prime(t, 64), m))
	}
	return new(big.Int).Mul(factor(), factor())
}

// TestSoundRSA shows that no sound key is refused.
func TestSoundRSA(t *testing.T) {
	for _, bits := range []int{2048, 2048, 2048, 3072} {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		if c := request(t, key); c.KeyType != ca.RSA || c.KeyBits != bits {
			t.Errorf("%d bits: read as %s of %d", bits, c.KeyType, c.KeyBits)
		}
	}
}

// TestWeakEd25519 offers points of small order, with which anybody's signature verifies.
func TestWeakEd25519(t *testing.T) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sound := spki(t, key.Public())
	for _, point := range []string{
		"0100000000000000000000000000000000000000000000000000000000000000", // order 1
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // order 2
		"0000000000000000000000000000000000000000000000000000000000000000", // order 4
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", // order 8
		"0200000000000000000000000000000000000000000000000000000000000000", // no point
	} {
		raw, err := hex.DecodeString(point)
		if err != nil {
			t.Fatal(err)
		}
		weak := append(bytes.Clone(sound[:len(sound)-32]), raw...)
		_, err = ca.ParseCSR(forgery{spki: weak}.der(t, key))
		refused(t, err, fault.Malformed, "weak_key")
	}
	_, err = ca.ParseCSR(forgery{spki: append(bytes.Clone(sound[:2]), sound[2:]...)}.der(t, key))
	if err != nil {
		t.Error(err)
	}
}

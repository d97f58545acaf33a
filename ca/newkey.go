package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
)

// NewKey makes a device's key where the server is asked to (RFC 7030, Section
// 4.4): of the kind and size that the request's own key has, if the profile
// allows it, else of the first kind that it does allow. The key is kept nowhere.
func (p *Profile) NewKey(c *CSR) (crypto.Signer, error) {
	t, bits := c.KeyType, max(c.KeyBits, p.RSABits)
	if !p.allows(t, bits) {
		t, bits = p.Keys[0], p.RSABits
	}
	if t == RSA {
		bits = max(p.RSABits, min((bits+1023)/1024*1024, 4096)) // no device makes us search for larger primes than the profile wants
	}
	key, err := generate(t, bits)
	if err != nil {
		return nil, fmt.Errorf("making a %s key: %w", t, err)
	}
	return key, nil
}

func generate(t KeyType, bits int) (crypto.Signer, error) {
	switch t {
	case P256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case P384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case Ed25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	case RSA:
		return rsa.GenerateKey(rand.Reader, bits)
	}
	return nil, fmt.Errorf("no such kind of key")
}

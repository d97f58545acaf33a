package enroll

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"slices"

	"github.com/hallmark-pki/hallmark/ca"
)

// NewKey makes a key for a device: of the type that its CSR has, where the
// profile takes that, else of the profile's first.
func (p *Profile) NewKey(csr *ca.CSR) (crypto.Signer, error) {
	kind := csr.KeyType
	if !slices.Contains(p.Keys, kind) && len(p.Keys) > 0 {
		kind = p.Keys[0]
	}
	var key crypto.Signer
	var err error
	switch kind {
	case ca.P256:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case ca.P384:
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case ca.Ed25519:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case ca.RSA:
		key, err = rsa.GenerateKey(rand.Reader, max(p.RSABits, 2048))
	default:
		err = fmt.Errorf("no keys of type %q are made here", kind)
	}
	if err != nil {
		return nil, fmt.Errorf("making a key for a device: %w", err)
	}
	return key, nil
}

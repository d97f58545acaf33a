package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"

	"github.com/hallmark-pki/hallmark/internal/tpmdevice"
)

// keyType is a kind of key that the agent can make.
type keyType string

const (
	p256     keyType = "p256"
	p384     keyType = "p384"
	ed       keyType = "ed25519"
	rsa2048  keyType = "rsa2048"
	rsa3072  keyType = "rsa3072"
	rsa4096  keyType = "rsa4096"
	keyTypes         = "p256, p384, ed25519, rsa2048, rsa3072, rsa4096"
)

func (k keyType) generate() (crypto.Signer, error) {
	switch k {
	case p256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case p384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case ed:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	case rsa2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case rsa3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	case rsa4096:
		return rsa.GenerateKey(rand.Reader, 4096)
	}
	return nil, usagef("unknown key type %q: want one of %s", string(k), keyTypes)
}

// typeOf is the type that makes such keys, or "" if none here does.
func typeOf(key crypto.Signer) keyType {
	switch public := key.Public().(type) {
	case *ecdsa.PublicKey:
		switch public.Curve {
		case elliptic.P256():
			return p256
		case elliptic.P384():
			return p384
		}
	case ed25519.PublicKey:
		return ed
	case *rsa.PublicKey:
		switch public.N.BitLen() {
		case 2048:
			return rsa2048
		case 3072:
			return rsa3072
		case 4096:
			return rsa4096
		}
	}
	return ""
}

// encodeKey is a key as it stands in key.pem: PKCS#8, or what the TPM wrapped it in.
func encodeKey(key crypto.Signer) ([]byte, error) {
	if k := tpmKey(key); k != nil {
		return k.PEM()
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding the key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// readKey reads a key file; one of a TPM needs to know which.
func readKey(path string, at *tpmdevice.TPM) (crypto.Signer, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block != nil && tpmdevice.IsKey(block.Type) {
		if at == nil {
			return nil, fmt.Errorf("%s has a key of a TPM: give --tpm", path)
		}
		key, err := tpmdevice.ParseKey(at, text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return key, nil
	}
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("%s has no PKCS#8 key in PEM", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s has no readable key", path) // the cause could quote it
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s has a key that cannot sign", path)
	}
	return signer, nil
}

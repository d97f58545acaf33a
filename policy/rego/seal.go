package rego

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"

	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/util"
)

// Seal signs bundles as OPA does: ES256 over the names and digests of all files.
type Seal struct {
	Key   crypto.Signer // ECDSA on P-256
	KeyID string        // by which an agent finds the public key in its configuration
	Scope string        // as the agent's configuration has it; may be empty
}

// KeyID names a public key as RFC 7638 does: by the SHA-256 of its JWK, base64url. The key is ECDSA on P-256.
func KeyID(public crypto.PublicKey) (string, error) {
	jwk, err := JWK(public)
	if err != nil {
		return "", err
	}
	// RFC 7638, Section 3.2: the required members, sorted, without white space.
	text, err := json.Marshal(map[string]string{"crv": jwk["crv"], "kty": jwk["kty"], "x": jwk["x"], "y": jwk["y"]})
	if err != nil {
		return "", err
	}
	digest := sha256.Sum256(text)
	return base64.RawURLEncoding.EncodeToString(digest[:]), nil
}

// JWK is the public key as a JSON Web Key (RFC 7517). The key is ECDSA on P-256.
func JWK(public crypto.PublicKey) (map[string]string, error) {
	key, ok := public.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("the key that signs bundles has to be ECDSA on P-256")
	}
	point, err := key.Bytes() // 4, then x and y of 32 bytes each
	if err != nil {
		return nil, err
	}
	return map[string]string{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig",
		"x": base64.RawURLEncoding.EncodeToString(point[1:33]), "y": base64.RawURLEncoding.EncodeToString(point[33:])}, nil
}

// claims are what a bundle's signature is over.
type claims struct {
	Files []bundle.FileInfo `json:"files"`
	KeyID string            `json:"keyid,omitempty"`
	Scope string            `json:"scope,omitempty"`
}

// sign returns the text of .signatures.json. The token is made here, as OPA
// signs only with keys that it holds in memory as PEM.
func (s *Seal) sign(files []file) ([]byte, error) {
	public, ok := s.Key.Public().(*ecdsa.PublicKey)
	if !ok || public.Curve != elliptic.P256() || s.KeyID == "" {
		return nil, errors.New("signing a bundle takes an ECDSA key on P-256 and its id")
	}
	c := claims{KeyID: s.KeyID, Scope: s.Scope}
	for _, f := range files {
		digest, err := fileDigest(f.name, f.text)
		if err != nil {
			return nil, err
		}
		c.Files = append(c.Files, bundle.NewFile(f.name, hex.EncodeToString(digest), bundle.SHA256.String()))
	}
	token, err := s.token(c, public)
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string][]string{"signatures": {token}})
}

// fileDigest is a file's as OPA computes it: of the value for JSON and YAML, of the bytes for others.
func fileDigest(name string, text []byte) ([]byte, error) {
	hasher, err := bundle.NewSignatureHasher(bundle.SHA256)
	if err != nil {
		return nil, err
	}
	if !bundle.IsStructuredDoc(name) {
		return hasher.HashFile(text)
	}
	var value any
	if err := util.Unmarshal(text, &value); err != nil {
		return nil, Problems{{File: name, Says: err.Error()}}
	}
	return hasher.HashFile(value)
}

// token is the claims as a signed JWT (RFC 7515, Section 3.1; RFC 7518, Section 3.4).
func (s *Seal) token(c claims, public *ecdsa.PublicKey) (string, error) {
	header, err := json.Marshal(map[string]string{"alg": "ES256", "kid": s.KeyID, "typ": "JWT"})
	if err != nil {
		return "", err
	}
	payload, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	input := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(payload)
	digest := sha256.Sum256([]byte(input))
	var chance io.Reader = rand.Reader
	if _, inMemory := s.Key.(*ecdsa.PrivateKey); inMemory {
		chance = nil // RFC 6979: the same files give the same signature
	}
	der, err := s.Key.Sign(chance, digest[:], crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("signing the bundle: %w", err)
	}
	var signature struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(der, &signature); err != nil || len(rest) > 0 || !ecdsa.VerifyASN1(public, digest[:], der) {
		return "", errors.New("signing the bundle: the key's signature does not hold")
	}
	raw := make([]byte, 64)
	signature.R.FillBytes(raw[:32])
	signature.S.FillBytes(raw[32:])
	return input + "." + base64.RawURLEncoding.EncodeToString(raw), nil
}

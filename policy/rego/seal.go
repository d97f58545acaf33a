package rego

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"slices"

	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/util"
)

// Seal signs bundles as OPA does: ES256 over the names and digests of all files.
type Seal struct {
	Key   crypto.Signer // ECDSA on P-256
	KeyID string        // by which an agent finds the public key in its configuration
	Scope string        // as the agent's configuration has it; may be empty
}

// Trust says which signatures of bundles are accepted.
type Trust struct {
	Keys  map[string]*ecdsa.PublicKey // by key id; on P-256
	Scope string                      // that the signature has to be for; may be empty
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

// verify demands a signature of a trusted key over exactly these files.
func (t *Trust) verify(files map[string][]byte) error {
	text, ok := files[signaturesFile]
	if !ok {
		return errors.New("the bundle is not signed")
	}
	var signatures bundle.SignaturesConfig
	if err := json.Unmarshal(text, &signatures); err != nil {
		return fmt.Errorf("no signatures: %w", err)
	}
	signatures.Plugin = "" // how to verify is not for the bundle to say
	config, err := t.config()
	if err != nil {
		return err
	}
	signed, err := bundle.VerifyBundleSignature(signatures, config)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if name == signaturesFile {
			continue
		}
		if err := bundle.VerifyBundleFile(name, *bytes.NewBuffer(files[name]), signed); err != nil {
			return err
		}
	}
	if len(signed) > 0 {
		return fmt.Errorf("%s is signed and is not in the bundle", slices.Min(slices.Collect(maps.Keys(signed))))
	}
	return nil
}

// config is the trust as OPA's verifier wants it.
func (t *Trust) config() (*bundle.VerificationConfig, error) {
	keys := make(map[string]*bundle.KeyConfig, len(t.Keys))
	for id, key := range t.Keys {
		if key.Curve != elliptic.P256() {
			return nil, fmt.Errorf("key %q is not on P-256", id)
		}
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", id, err)
		}
		text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
		keys[id] = &bundle.KeyConfig{Key: string(text), Algorithm: "ES256"}
	}
	return bundle.NewVerificationConfig(keys, "", t.Scope, nil), nil
}

package rego

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/bundle"
)

// Trust says which signatures of bundles are accepted.
type Trust struct {
	Keys  map[string]crypto.PublicKey // by key id: ECDSA on P-256 or P-384, or RSA of 2048 bits and more
	Scope string                      // that the signature has to be for; may be empty

	// Unsigned takes bundles without a signature, too. One that is there has to hold all the same.
	Unsigned bool
}

// ParseKey reads a public key that Trust takes from PEM: PUBLIC KEY, RSA PUBLIC KEY, or a CERTIFICATE.
func ParseKey(text []byte) (crypto.PublicKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("no PEM block in it")
	}
	var key crypto.PublicKey
	var err error
	switch block.Type {
	case "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		key, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		var c *x509.Certificate
		if c, err = x509.ParseCertificate(block.Bytes); err == nil {
			key = c.PublicKey
		}
	default:
		return nil, fmt.Errorf("a public key is wanted, not %s", block.Type) // a private one has no business here
	}
	if err != nil {
		return nil, err
	}
	_, err = algorithm(key)
	return key, err
}

// leastRSA is the least size of an RSA key, in bits.
const leastRSA = 2048

// algorithm is the one algorithm that a key is good for. It goes by the key, whatever a token says of
// itself (RFC 8725, Section 3.1): so there is no "none", and no public key that passes for an HMAC secret.
func algorithm(key crypto.PublicKey) (string, error) {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return "ES256", nil
		case elliptic.P384():
			return "ES384", nil
		}
	case *rsa.PublicKey:
		if k.N.BitLen() >= leastRSA {
			return "RS256", nil
		}
	}
	return "", fmt.Errorf("a key that signs bundles is ECDSA on P-256 or P-384, or RSA of %d bits and more", leastRSA)
}

// verify demands a signature of a trusted key over exactly these files.
func (t *Trust) verify(files map[string][]byte) error {
	text, ok := files[signaturesFile]
	if !ok && t.Unsigned {
		return nil
	}
	if !ok {
		return errors.New("the bundle is not signed")
	}
	var signatures bundle.SignaturesConfig
	if err := json.Unmarshal(text, &signatures); err != nil {
		return fmt.Errorf("no signatures: %w", err)
	}
	signatures.Plugin = "" // how to verify is not for the bundle to say
	signed, err := t.signed(signatures)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if name == signaturesFile {
			continue
		}
		if err := checkFile(name, files[name], signed); err != nil {
			return err
		}
	}
	if len(signed) > 0 {
		return fmt.Errorf("%s is signed and is not in the bundle", shorten(slices.Min(slices.Collect(maps.Keys(signed)))))
	}
	return nil
}

// signed returns the files that a trusted key has signed.
func (t *Trust) signed(signatures bundle.SignaturesConfig) (map[string]bundle.FileInfo, error) {
	config, err := t.config()
	if err != nil {
		return nil, err
	}
	signed, err := bundle.VerifyBundleSignature(signatures, config)
	if err == nil {
		return signed, nil
	}
	if len(signatures.Signatures) != 1 || !namesNoKey(signatures.Signatures[0]) {
		if strings.HasPrefix(err.Error(), "verification key corresponding to ID") {
			err = fmt.Errorf("%w: the bundle is signed with a key that is not configured here", err)
		}
		return nil, err
	}
	for _, config.KeyID = range slices.Sorted(maps.Keys(t.Keys)) { // opa build names none unless it is told to
		if signed, err = bundle.VerifyBundleSignature(signatures, config); err == nil {
			return signed, nil
		}
	}
	return nil, err
}

// checkFile takes one file off those that are signed, if it is as it was signed.
func checkFile(name string, text []byte, signed map[string]bundle.FileInfo) error {
	switch bundle.HashingAlgorithm(signed[name].Algorithm) {
	case bundle.MD5, bundle.SHA1: // OPA takes these; two files may share such a digest
		return fmt.Errorf("%s is signed by its %s digest, which is too weak", shorten(name), signed[name].Algorithm)
	}
	return bundle.VerifyBundleFile(name, *bytes.NewBuffer(text), signed)
}

// config is the trust as OPA's verifier wants it.
func (t *Trust) config() (*bundle.VerificationConfig, error) {
	keys := make(map[string]*bundle.KeyConfig, len(t.Keys))
	for id, key := range t.Keys {
		alg, err := algorithm(key)
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", id, err)
		}
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", id, err)
		}
		text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
		keys[id] = &bundle.KeyConfig{Key: string(text), Algorithm: alg}
	}
	return bundle.NewVerificationConfig(keys, "", t.Scope, nil), nil
}

// unnamed is what opa build calls a key that it was given no name for.
const unnamed = "default"

// namesNoKey reports whether a token (RFC 7515) says nothing of the key that signed it.
func namesNoKey(token string) bool {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return false
	}
	var header struct {
		ID string `json:"kid"`
	}
	var payload struct {
		ID string `json:"keyid"`
	}
	for i, into := range []any{&header, &payload} {
		text, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil || json.Unmarshal(text, into) != nil {
			return false
		}
	}
	means := func(id string) bool { return id != "" && id != unnamed }
	return !means(header.ID) && !means(payload.ID)
}

package enroll

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/hallmark-pki/hallmark/attest"
)

// sealed is what a nonce exchange gives the device to bring back. Nothing of
// it is kept here: only its nonce, once it is used.
type sealed struct {
	Profile   string           `json:"p"` // it was asked under
	Device    string           `json:"d"` // that has proven to ask
	Until     time.Time        `json:"t"`
	Challenge attest.Challenge `json:"c"`
}

// What a sealed exchange is written as, before base64url (RFC 4648, Section 5)
// without padding: this version, a salt, and AES-256-GCM under a key of its own.
const (
	sealVersion = 1
	saltSize    = 24
)

// maxSealed is the longest text that a client has to carry: browsers and HTTP
// libraries keep cookies of up to 4096 bytes, with name and attributes (RFC 6265, Section 6.1).
const maxSealed = 3900

// seal writes s for the device to carry.
func (s sealed) seal(secret []byte) (string, error) {
	text, err := s.write(secret)
	if err == nil && len(text) > maxSealed { // the words of advisories are the one thing without a bound
		bare := make([]attest.Advisory, len(s.Challenge.Advisories))
		for i, a := range s.Challenge.Advisories {
			bare[i] = attest.Advisory{ID: a.ID, Action: a.Action}
		}
		s.Challenge.Advisories = bare
		text, err = s.write(secret)
	}
	if err == nil && len(text) > maxSealed {
		err = fmt.Errorf("a nonce exchange takes %d bytes to seal, %d fit", len(text), maxSealed)
	}
	return text, err
}

func (s sealed) write(secret []byte) (string, error) {
	plain, err := json.Marshal(s)
	if err != nil {
		return "", fmt.Errorf("sealing a nonce exchange: %w", err)
	}
	out := make([]byte, 1+saltSize, 1+saltSize+len(plain)+16)
	out[0] = sealVersion
	rand.Read(out[1:])
	aead, err := sealKey(secret, out[1:])
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(aead.Seal(out, noNonce(aead), plain, nil)), nil
}

// unseal reads what seal wrote, and reports whether it is ours.
func unseal(secret []byte, text string) (s sealed, ok bool) {
	if len(text) > maxSealed || strings.ContainsAny(text, "\r\n") { // line ends the decoder would skip
		return s, false
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) < 1+saltSize || raw[0] != sealVersion {
		return s, false
	}
	aead, err := sealKey(secret, raw[1:1+saltSize])
	if err != nil {
		return s, false
	}
	plain, err := aead.Open(nil, noNonce(aead), raw[1+saltSize:], nil)
	if err != nil {
		return s, false
	}
	return s, json.Unmarshal(plain, &s) == nil
}

// sealKey is a key for one text, made from the secret that all replicas share.
// A key that encrypts once needs no nonce, and however many exchanges there are, none comes twice.
func sealKey(secret, salt []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, secret, salt, "hallmark nonce exchange", 32)
	if err != nil {
		return nil, fmt.Errorf("deriving a key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func noNonce(aead cipher.AEAD) []byte { return make([]byte, aead.NonceSize()) }

// secret returns what exchanges are sealed with.
func (a *Attestation) secret(ctx context.Context) ([]byte, error) {
	if known := a.sealing.Load(); known != nil {
		return *known, nil
	}
	secret, err := a.Nonces.Secret(ctx, "nonce")
	if err != nil {
		return nil, fmt.Errorf("reading the secret of nonce exchanges: %w", err)
	}
	a.sealing.Store(&secret)
	return secret, nil
}

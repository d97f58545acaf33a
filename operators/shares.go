package operators

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/pem"
	"errors"
	"fmt"
)

// A break-glass key is cut in two with a one-time pad: one half is random, the
// other is the key XORed with it. Either alone is as good as nothing, by
// information theory and not by the strength of a cipher. The checksum of a half is over
// that half, so it tells nothing of the key.

const (
	shareType = "HALLMARK BREAK-GLASS SHARE"
	keySize   = 32 // of a P-256 private key (SEC 1, Section 2.3.7)
	sumSize   = 8
	maxShare  = 4 << 10
)

// NewBreakglassKey makes a key to be sealed.
func NewBreakglassKey() (*ecdsa.PrivateKey, error) {
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

// Split cuts a key in two halves, each a PEM block for one person. Both
// together give it back. Each names the SHA-256 of the public key (over its SubjectPublicKeyInfo,
// lower-case hex), by which the server knows the seal.
func Split(key *ecdsa.PrivateKey) (a, b []byte, err error) {
	secret, err := key.Bytes()
	if err != nil {
		return nil, nil, fmt.Errorf("encoding a break-glass key: %w", err)
	}
	name, err := spki(&key.PublicKey)
	if err != nil {
		return nil, nil, err
	}
	if len(secret) != keySize {
		return nil, nil, errors.New("a break-glass key is one of P-256")
	}
	pad, other := make([]byte, keySize), make([]byte, keySize)
	rand.Read(pad) // never fails: crypto/rand aborts the process instead
	subtle.XORBytes(other, secret, pad)
	return encodeShare("A", name, pad), encodeShare("B", name, other), nil
}

func encodeShare(letter, name string, half []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: shareType, Headers: map[string]string{"Share": letter, "Key-SHA256": name},
		Bytes: append(bytes.Clone(half), checksum(letter, name, half)...)})
}

// checksum finds a slip of whoever typed a half from paper.
func checksum(letter, name string, half []byte) []byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %q %q %x", shareType, letter, name, half))
	return sum[:sumSize]
}

// Join puts the key together from its two halves, in any order. Errors tell
// nothing of what the halves hold.
func Join(a, b []byte) (*ecdsa.PrivateKey, error) {
	letterA, nameA, one, err := decodeShare(a)
	if err != nil {
		return nil, err
	}
	letterB, nameB, other, err := decodeShare(b)
	switch {
	case err != nil:
		return nil, err
	case nameA != nameB:
		return nil, errors.New("the shares are of different keys")
	case letterA == letterB:
		return nil, fmt.Errorf("both files are share %s: the other one is needed", letterA)
	}
	secret := make([]byte, keySize)
	subtle.XORBytes(secret, one, other)
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), secret)
	if err != nil {
		return nil, errors.New("the shares do not make a key")
	}
	if name, err := spki(&key.PublicKey); err != nil || name != nameA {
		return nil, errors.New("the shares make another key than they name")
	}
	return key, nil
}

func decodeShare(text []byte) (letter, name string, half []byte, err error) {
	if len(text) > maxShare {
		return "", "", nil, errors.New("this is larger than any share of a break-glass key")
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != shareType || len(bytes.TrimSpace(rest)) > 0 || len(block.Bytes) != keySize+sumSize {
		return "", "", nil, errors.New("this is not a share of a break-glass key")
	}
	letter, name, half = block.Headers["Share"], block.Headers["Key-SHA256"], block.Bytes[:keySize]
	if letter != "A" && letter != "B" || !bytes.Equal(block.Bytes[keySize:], checksum(letter, name, half)) {
		return "", "", nil, errors.New("the share was changed or mistyped: its checksum is wrong")
	}
	return letter, name, half, nil
}

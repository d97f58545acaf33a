// Package once makes a call that is sent twice be done once: what an
// Idempotency-Key (draft-ietf-httpapi-idempotency-key-header) is worth.
//
// A caller names each change with a key of their own making. The name of an attempt
// in the store and the key that its answer is sealed with are both derived from
// that, and the caller's key itself is kept nowhere: who reads the store learns neither
// what was answered, which may be a token's secret, nor what was asked.
package once

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/hallmark-pki/hallmark/internal/fault"
)

// Header is the header that carries a key.
const Header = "Idempotency-Key"

// Bounds of a key, in bytes. A short one could be guessed, and then an answer be opened that is none of one's business.
const (
	MinKey = 16
	MaxKey = 128
)

// Life is how long an attempt is remembered.
const Life = 24 * time.Hour

// MaxAnswer bounds an answer that is kept, in bytes of its body. Of a larger
// one it is only known that there was one.
const MaxAnswer = 256 << 10

// Attempt is one call with a key, as the store keeps it.
type Attempt struct {
	ID       [32]byte  // see Key
	Decision string    // id of the decision that permitted it: the record holds it if it was done
	Began    time.Time // to the millisecond, as the others
	Until    time.Time // without an answer by then, it will never have one
	Expires  time.Time
	Answer   []byte // sealed; empty: none yet, or none ever
}

// Store keeps attempts, for all replicas.
type Store interface {
	// Attempt returns what is kept under that id, or an error of kind NotFound.
	Attempt(ctx context.Context, id [32]byte) (Attempt, error)

	// BeginAttempt keeps a new attempt, durably. One that stands under the same id is a
	// Conflict with code attempt_exists, unless it has expired at a.Began, or is that of the
	// decision instead, which is known to have come to nothing. Of many calls exactly one succeeds.
	BeginAttempt(ctx context.Context, a Attempt, instead string) error

	// EndAttempt keeps the answer of the attempt of that decision, or forgets the attempt if the answer is nil.
	EndAttempt(ctx context.Context, id [32]byte, decision string, answer []byte) error
}

// Key is what the parts of one attempt are derived from.
type Key struct {
	ID   [32]byte // names the attempt in the store
	seal cipher.AEAD
	mac  []byte
}

// Parse reads the values of the header of a call by that operator: one string as
// in RFC 8941, Section 3.3.3, or the same without its quotes, of MinKey to MaxKey visible characters. Errors are of kind Malformed.
func Parse(values []string, operator string) (*Key, error) {
	if len(values) != 1 {
		return nil, wrong("is given once")
	}
	text := values[0]
	if inner, quoted := strings.CutPrefix(text, `"`); quoted {
		if text, quoted = strings.CutSuffix(inner, `"`); !quoted {
			return nil, wrong(`that begins with " ends with one, and has nothing after it`)
		}
	}
	if len(text) < MinKey || len(text) > MaxKey {
		return nil, wrong("has 16 to 128 characters; a random UUID is a good one")
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' || r == ',' || r == ';' }) {
		return nil, wrong(`has visible ASCII characters other than " \ , ;`)
	}
	return derive(text, operator)
}

func wrong(says string) error {
	return fault.New(fault.Malformed, "bad_idempotency_key", "an "+Header+" "+says)
}

// derive is HKDF (RFC 5869): one key in, an id, a sealing key and a key for fingerprints out.
func derive(text, operator string) (*Key, error) {
	secret, err := hkdf.Extract(sha256.New, []byte(text), []byte("hallmark idempotency key 1"))
	if err != nil {
		return nil, err
	}
	part := func(label string) []byte {
		// 32 bytes of SHA-256 are never too many to ask for (RFC 5869, Section 2.3).
		out, _ := hkdf.Expand(sha256.New, secret, label+"\x00"+operator, 32)
		return out
	}
	block, err := aes.NewCipher(part("answer"))
	if err != nil {
		return nil, err
	}
	seal, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	return &Key{ID: [32]byte(part("id")), seal: seal, mac: part("fingerprint")}, nil
}

// Fingerprint tells one call from another: by its method, its target, the type of its body, and the SHA-256 of that.
func (k *Key) Fingerprint(method, target, kind string, body []byte) []byte {
	m := hmac.New(sha256.New, k.mac)
	for _, part := range []string{method, target, kind} {
		m.Write([]byte(part + "\x00")) // no part has a zero byte in it
	}
	m.Write(body)
	return m.Sum(nil)
}

// Answer is what a call was answered.
type Answer struct {
	Fingerprint []byte            `json:"fingerprint"`
	Status      int               `json:"status"`
	Header      map[string]string `json:"header,omitempty"`
	Body        []byte            `json:"body,omitempty"`
	Lost        bool              `json:"lost,omitempty"` // there was more than could be kept
}

// Seal returns the answer as the store may have it. The body of one that is too large is left out.
func (k *Key) Seal(a Answer) ([]byte, error) {
	if len(a.Body) > MaxAnswer {
		a.Body, a.Lost = nil, true
	}
	text, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	return k.seal.Seal(nil, nil, text, k.ID[:]), nil
}

// Open is the opposite.
func (k *Key) Open(sealed []byte) (Answer, error) {
	var a Answer
	text, err := k.seal.Open(nil, nil, sealed, k.ID[:])
	if err != nil {
		return a, errors.New("once: what is kept of an answer cannot be opened")
	}
	return a, json.Unmarshal(text, &a)
}

// Same reports, in constant time, whether two fingerprints are of the same call.
func Same(a, b []byte) bool { return hmac.Equal(a, b) }

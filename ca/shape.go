package ca

import (
	"bytes"
	"crypto/sha256"
	"sync"
)

// shape stands for all drafts that are alike but for their serial numbers, their
// times, the points of their elliptic-curve keys and the plain ids of their
// devices. No rule looks at these beyond their type and length, and both stay
// in the shape. So what has passed the linter once passes it again, and the
// dearest step of issuing is taken once for each shape, always over the exact
// bytes that are to be signed.
type shape [sha256.Size]byte

// shape returns the draft's shape.
func (f *Draft) shape() shape {
	tbs := bytes.Clone(f.TBS)
	blank(tbs, f.Serial.Bytes())
	for _, t := range []string{f.NotBefore.Format("060102150405Z"), f.NotAfter.Format("060102150405Z")} {
		blank(tbs, []byte(t))
	}
	blank(tbs, keyID(f.CSR.SPKI))
	if f.CSR.KeyType != RSA { // rules look into an RSA key, so each has a shape of its own
		blank(tbs, f.CSR.SPKI[len(f.CSR.SPKI)-rawKeyLength(f.CSR.KeyType):])
	}
	if isPlain(f.device) {
		blank(tbs, []byte(f.device))
	}
	return sha256.Sum256(tbs)
}

// rawKeyLength is the size of a key without its algorithm: an uncompressed
// point, or the key itself (RFC 5480, Section 2.2; RFC 8410, Section 4).
func rawKeyLength(t KeyType) int {
	switch t {
	case P256:
		return 64
	case P384:
		return 96
	}
	return 32 // Ed25519
}

// isPlain reports whether an id is long enough to be told from what stands
// around it, and has only letters that are the same in every kind of name.
func isPlain(id string) bool {
	for _, c := range []byte(id) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-') {
			return false
		}
	}
	return len(id) >= 4
}

// blank overwrites every part of b that equals part.
func blank(b, part []byte) {
	for {
		i := bytes.Index(b, part)
		if i < 0 {
			return
		}
		clear(b[i : i+len(part)])
		b = b[i+len(part):]
	}
}

// maxShapes bounds what is remembered. A fleet has a few: one for each profile,
// key type and length of id.
const maxShapes = 4096

// shapes remembers which shapes have passed.
type shapes struct {
	mu     sync.RWMutex
	passed map[shape]bool
}

func (s *shapes) has(one shape) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.passed[one]
}

func (s *shapes) add(one shape) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.passed == nil || len(s.passed) >= maxShapes {
		s.passed = make(map[shape]bool)
	}
	s.passed[one] = true
}

package store

import (
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/klauspost/compress/s2"
)

// A packed value is one byte that names the packing, and the packed bytes.
// Packings are never changed, only added: the database holds old ones for ever.
const (
	packedRaw         = 0 // as they are
	packedLeaf        = 1 // squeezed (see squeeze), then S2 with leafWords
	packedCertificate = 2 // S2 with certificateParts
	packedPlain       = 3 // S2
)

// The dictionaries hold what leaves and certificates are full of. A single
// changed byte in one would make everything packed with it unreadable.
var (
	//go:embed pack/leaf1
	leafWords []byte // JSON as package policy writes it, the commonest last
	//go:embed pack/certificate1
	certificateParts []byte // DER as package ca writes it, with zeros where it is random
)

// largestUnpacked bounds what unpack will make of a few bytes. Leaves and
// certificates are far below it.
const largestUnpacked = 1 << 20

var errPacked = errors.New("store: unreadable packed value")

// packer shrinks what the database is full of: a leaf, which is JSON of much
// the same words and hashes in hex, to a quarter, and a certificate to half. It
// stands on the way of every enrolment, so it takes a few microseconds; denser
// codings take ten times as long for a tenth less.
type packer struct {
	leaves       *s2.Dict
	certificates *s2.Dict
	scratch      sync.Pool // of *[]byte: what is written on the way, and not kept
}

func newPacker() (*packer, error) {
	p := &packer{leaves: s2.MakeDict(leafWords, nil), certificates: s2.MakeDict(certificateParts, nil)}
	if p.leaves == nil || p.certificates == nil {
		return nil, errors.New("store: a dictionary is too small or too large")
	}
	return p, nil
}

func (p *packer) packLeaf(b []byte) []byte {
	room := p.room()
	defer p.scratch.Put(room)
	squeezed, ok := squeeze((*room)[:0], b)
	if *room = squeezed; !ok {
		return append([]byte{packedRaw}, b...)
	}
	return p.pack(p.leaves, packedLeaf, squeezed, b)
}

// room is some scratch, to be given back.
func (p *packer) room() *[]byte {
	if room, ok := p.scratch.Get().(*[]byte); ok {
		return room
	}
	return new([]byte)
}

func (p *packer) packCertificate(b []byte) []byte {
	return p.pack(p.certificates, packedCertificate, b, b)
}

// pack returns b packed, or plain where that is no longer. b is plain or what stands for it.
func (p *packer) pack(d *s2.Dict, packing byte, b, plain []byte) []byte {
	room := p.room()
	defer p.scratch.Put(room)
	*room = slices.Grow((*room)[:0], 1+s2.MaxEncodedLen(len(b)))
	out := (*room)[:1+s2.MaxEncodedLen(len(b))]
	out[0] = packing
	return slack(out[:1+len(d.Encode(out[1:], b))], plain)
}

// slack returns a copy of out without its spare room, since it waits for its
// commit, or of plain where packing has made nothing shorter.
func slack(out, plain []byte) []byte {
	if len(out) > len(plain) {
		return append(append(make([]byte, 0, 1+len(plain)), packedRaw), plain...)
	}
	return append(make([]byte, 0, len(out)), out...)
}

// packPlain packs what is like nothing else.
func packPlain(b []byte) []byte {
	if len(b) > largestUnpacked {
		return append([]byte{packedRaw}, b...)
	}
	out := make([]byte, 1+s2.MaxEncodedLen(len(b)))
	out[0] = packedPlain
	return slack(out[:1+len(s2.Encode(out[1:], b))], b)
}

// unpack returns what was packed. It keeps nothing of b.
func (p *packer) unpack(b []byte) ([]byte, error) {
	if len(b) == 0 {
		return nil, errPacked
	}
	switch b[0] {
	case packedRaw:
		return append([]byte{}, b[1:]...), nil
	case packedLeaf:
		squeezed, err := decode(p.leaves, b[1:])
		if err != nil {
			return nil, err
		}
		return unsqueeze(squeezed)
	case packedCertificate:
		return decode(p.certificates, b[1:])
	case packedPlain:
		return decode(nil, b[1:])
	}
	return nil, fmt.Errorf("%w: packing %d is not known to this version", errPacked, b[0])
}

// decode takes S2 back; d is nil where no dictionary was used.
func decode(d *s2.Dict, b []byte) ([]byte, error) {
	n, err := s2.DecodedLen(b)
	if err != nil || n > largestUnpacked {
		return nil, errPacked
	}
	var plain []byte
	if d == nil {
		plain, err = s2.Decode(nil, b)
	} else {
		plain, err = d.Decode(nil, b)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errPacked, err)
	}
	return plain, nil
}

// Squeezing writes hex digits as the bytes that they stand for: hashesMark, how
// many bytes, the bytes. JSON has no byte below 0x20, so the mark is free.
const (
	hashesMark  = 0x01
	shortestHex = 16 // digits that are worth it
	longestHex  = 2 * 255
)

// squeeze appends b squeezed to out; ok is false for what is not JSON text.
func squeeze(out, b []byte) (squeezed []byte, ok bool) {
	out = slices.Grow(out, len(b))
	done := 0 // what of b is in out
	for i := 0; i < len(b); {
		kind := letters[b[i]]
		if kind == controlLetter {
			return out, false
		}
		i++
		if kind != hexLetter {
			continue
		}
		start := i - 1
		for i < len(b) && i-start < longestHex && letters[b[i]] == hexLetter {
			i++
		}
		if n := (i - start) &^ 1; n >= shortestHex {
			i = start + n
			out = append(append(out, b[done:start]...), hashesMark, byte(n/2))
			out, _ = hex.AppendDecode(out, b[start:i])
			done = i
		}
	}
	return append(out, b[done:]...), true
}

// unsqueeze takes squeeze back.
func unsqueeze(b []byte) ([]byte, error) {
	out := make([]byte, 0, len(b)+len(b)/4)
	for i := 0; i < len(b); {
		if b[i] != hashesMark {
			out = append(out, b[i])
			i++
			continue
		}
		if i+2 > len(b) || i+2+int(b[i+1]) > len(b) {
			return nil, errPacked
		}
		end := i + 2 + int(b[i+1])
		out = hex.AppendEncode(out, b[i+2:end])
		i = end
	}
	return out, nil
}

// letters says what kind each byte of a text is.
var letters = func() (kinds [256]letter) {
	for c := range byte(0x20) {
		kinds[c] = controlLetter
	}
	for _, c := range "0123456789abcdef" {
		kinds[c] = hexLetter
	}
	return kinds
}()

type letter byte

const (
	controlLetter letter = 1
	hexLetter     letter = 2
)

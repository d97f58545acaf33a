package store

import (
	_ "embed"
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// A packed value is one byte that names the packing, and the packed bytes.
// Packings are never changed, only added: the database holds old ones for ever.
const (
	packedRaw         = 0 // as they are
	packedLeaf        = 1 // zstd with leafWords
	packedCertificate = 2 // zstd with certificateParts
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

// packer squeezes what the database is full of: a leaf, which is JSON of much
// the same words, to a quarter, and a certificate to half.
type packer struct {
	leaves       *zstd.Encoder
	certificates *zstd.Encoder
	decoder      *zstd.Decoder
}

func newPacker() (*packer, error) {
	leaves, err := newEncoder(packedLeaf, leafWords, false)
	if err != nil {
		return nil, err
	}
	// What is left of a certificate is random; coding it by frequency gains nothing.
	certificates, err := newEncoder(packedCertificate, certificateParts, true)
	if err != nil {
		return nil, err
	}
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(largestUnpacked),
		zstd.WithDecoderDictRaw(packedLeaf, leafWords), zstd.WithDecoderDictRaw(packedCertificate, certificateParts))
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	return &packer{leaves: leaves, certificates: certificates, decoder: decoder}, nil
}

func newEncoder(packing uint32, dictionary []byte, random bool) (*zstd.Encoder, error) {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderDictRaw(packing, dictionary), zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithNoEntropyCompression(random), zstd.WithEncoderConcurrency(2), zstd.WithWindowSize(64<<10),
		zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true))
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	return e, nil
}

func (p *packer) packLeaf(b []byte) []byte { return pack(p.leaves, packedLeaf, b) }

func (p *packer) packCertificate(b []byte) []byte { return pack(p.certificates, packedCertificate, b) }

// pack returns b packed, or raw where that is shorter.
func pack(e *zstd.Encoder, packing byte, b []byte) []byte {
	packed := e.EncodeAll(b, append(make([]byte, 0, len(b)/2+16), packing))
	if len(packed) > len(b) {
		packed = append(append(packed[:0], packedRaw), b...)
	}
	return packed
}

// unpack returns what was packed. It keeps nothing of b.
func (p *packer) unpack(b []byte) ([]byte, error) {
	if len(b) == 0 {
		return nil, errPacked
	}
	switch b[0] {
	case packedRaw:
		return append([]byte{}, b[1:]...), nil
	case packedLeaf, packedCertificate:
		plain, err := p.decoder.DecodeAll(b[1:], nil)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errPacked, err)
		}
		return plain, nil
	}
	return nil, fmt.Errorf("%w: packing %d is not known to this version", errPacked, b[0])
}

func (p *packer) close() {
	if p != nil {
		p.leaves.Close()
		p.certificates.Close()
		p.decoder.Close()
	}
}

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
	packedRaw  = 0 // as they are
	packedLeaf = 1 // zstd with leafWords
)

// leafWords is text that leaves are full of: the dictionary of packedLeaf. A
// single changed byte in it would make every stored leaf unreadable.
//
//go:embed pack/leaf1
var leafWords []byte

// largestLeaf bounds what unpack will make of a few packed bytes.
const largestLeaf = 64 << 20

var errPacked = errors.New("store: unreadable packed value")

// packer squeezes leaves, which are JSON of much the same words, to about a third.
type packer struct {
	encoder *zstd.Encoder
	decoder *zstd.Decoder
}

func newPacker() (*packer, error) {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderDictRaw(packedLeaf, leafWords), zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderConcurrency(2), zstd.WithWindowSize(64<<10), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true))
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderDictRaw(packedLeaf, leafWords), zstd.WithDecoderConcurrency(2),
		zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(largestLeaf))
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	return &packer{encoder: encoder, decoder: decoder}, nil
}

// pack returns b packed as a leaf, or raw where that is shorter.
func (p *packer) pack(b []byte) []byte {
	packed := p.encoder.EncodeAll(b, append(make([]byte, 0, len(b)/2+16), packedLeaf))
	if len(packed) > len(b) {
		return raw(b)
	}
	return packed
}

// raw returns b packed as it is.
func raw(b []byte) []byte {
	return append(append(make([]byte, 0, len(b)+1), packedRaw), b...)
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
		leaf, err := p.decoder.DecodeAll(b[1:], nil)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errPacked, err)
		}
		return leaf, nil
	}
	return nil, fmt.Errorf("%w: packing %d is not known to this version", errPacked, b[0])
}

func (p *packer) close() {
	if p != nil {
		p.encoder.Close()
		p.decoder.Close()
	}
}

package decisionlog

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

// letter is an event ready to be sent.
type letter struct {
	index int64
	id    string
	text  []byte
}

// chunk is a stretch of the record, and what is to be sent of it.
type chunk struct {
	first, end int64 // of the record's tree; end is not in it
	letters    []letter
	oddities   []oddity
}

// oddity is an entry of which no event, or not a whole one, is sent.
type oddity struct {
	index int64
	cause error // errDropped, errMask, or why it cannot be read
}

// Bounds of a chunk. The entries of the record have 64 KiB each at most.
const (
	maxStretch = 512     // entries
	maxPlain   = 2 << 20 // bytes of JSON

	// DefaultLimit and LeastLimit are of a chunk's compressed bytes.
	DefaultLimit = 256 << 10
	LeastLimit   = 16 << 10
)

// compose writes the events of leaves, the first of which has the index first, up to a
// limit of bytes. The error says that it may be possible later.
func compose(ctx context.Context, s *Scribe, first int64, leaves [][]byte, most int) (*chunk, error) {
	c := &chunk{first: first, end: first}
	for plain := 0; len(leaves) > int(c.end-first) && plain < most; c.end++ {
		event, err := s.write(ctx, audit.Entry{Index: c.end, Leaf: leaves[c.end-first]})
		switch {
		case errors.Is(err, errNoDecision):
			continue
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case fault.Is(err, fault.Busy):
			return nil, err
		case err != nil:
			c.oddities = append(c.oddities, oddity{c.end, err})
		}
		if event == nil {
			continue
		}
		text, err := json.Marshal(event)
		if err != nil {
			c.oddities = append(c.oddities, oddity{c.end, err})
			continue
		}
		c.letters = append(c.letters, letter{c.end, event.DecisionID, text})
		plain += len(text) + 1
	}
	return c, nil
}

// cut drops the last letters, down to n of them, for another chunk.
func (c *chunk) cut(n int) {
	c.end = c.letters[n].index
	c.letters = c.letters[:n]
	for i, o := range c.oddities {
		if o.index >= c.end {
			c.oddities = c.oddities[:i]
			break
		}
	}
}

// pack makes of letters what OPA uploads: a gzipped JSON array.
func pack(letters []letter) ([]byte, error) {
	var packed bytes.Buffer
	zipped := gzip.NewWriter(&packed)
	before := byte('[')
	for _, l := range letters {
		zipped.Write([]byte{before}) // errors stay until Close
		zipped.Write(l.text)
		before = ','
	}
	zipped.Write([]byte{']'})
	err := zipped.Close()
	return packed.Bytes(), err
}

// measure is how full chunks are made.
type measure struct {
	limit int     // compressed bytes; less than what is configured where the sink has found that too much
	ratio float64 // of compressed to plain, as it was last
}

// plain is how many bytes of JSON are likely to fill a chunk.
func (m *measure) plain() int { return min(int(0.9*float64(m.limit)/m.ratio), maxPlain) }

// fit packs the chunk, cut to what the limit allows; a single letter is never cut.
func (m *measure) fit(c *chunk) ([]byte, error) {
	for {
		packed, err := pack(c.letters)
		if err != nil {
			return nil, err
		}
		plain := 0
		for _, l := range c.letters {
			plain += len(l.text)
		}
		m.ratio = max(0.01, float64(len(packed))/float64(max(1, plain)))
		if len(packed) <= m.limit || len(c.letters) <= 1 {
			return packed, nil
		}
		c.cut(max(1, min(len(c.letters)-1, len(c.letters)*m.limit/len(packed))))
	}
}

// age is how long ago the leaf's event happened.
func age(leaf []byte, now time.Time) time.Duration {
	var l struct {
		At time.Time `json:"at"`
	}
	if json.Unmarshal(leaf, &l) != nil {
		return 0
	}
	return max(0, now.Sub(l.At))
}

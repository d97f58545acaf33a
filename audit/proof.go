package audit

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/hallmark-pki/hallmark/internal/fault"
)

// Proof shows with the log's public key alone that an entry stands in the record.
type Proof struct {
	Index      int64
	Leaf       []byte      // the entry itself
	Hashes     []tlog.Hash // inclusion proof, the leaf's sibling first (RFC 6962, Section 2.1.1)
	Checkpoint []byte      // signed
}

// proofMagic is the first line of a proof as text (C2SP tlog-proof, Format).
const proofMagic = "c2sp.org/tlog-proof@v1"

// maxProof bounds the bytes of a proof that is read: an entry in base64, 63
// hashes and a checkpoint.
const maxProof = 256 << 10

// Check verifies the proof and returns the checkpoint that it rests on.
func (p *Proof) Check(keys note.Verifiers) (Checkpoint, error) {
	c, err := OpenCheckpoint(p.Checkpoint, keys)
	if err != nil {
		return Checkpoint{}, err
	}
	if p.Index < 0 || p.Index >= c.Size {
		return c, fmt.Errorf("entry %d is not in a tree of %d entries", p.Index, c.Size)
	}
	if len(p.Leaf) == 0 {
		return c, errors.New("the proof does not carry the entry")
	}
	if err := tlog.CheckRecord(p.Hashes, c.Size, c.Root, p.Index, tlog.RecordHash(p.Leaf)); err != nil {
		return c, fmt.Errorf("entry %d is not what the signed checkpoint of %d entries covers: the entry or the proof was changed", p.Index, c.Size)
	}
	return c, nil
}

// Text returns the proof in the text form of C2SP tlog-proof, with the leaf as
// its extra data.
func (p *Proof) Text() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\nextra %s\nindex %d\n", proofMagic, base64.StdEncoding.EncodeToString(p.Leaf), p.Index)
	for _, h := range p.Hashes {
		fmt.Fprintf(&b, "%s\n", h)
	}
	b.WriteByte('\n')
	b.Write(p.Checkpoint)
	return b.Bytes()
}

// proofJSON is a proof as JSON.
type proofJSON struct {
	Version    int             `json:"hallmark_proof"` // 1
	Index      int64           `json:"index"`
	Leaf       json.RawMessage `json:"leaf"`
	Hashes     []tlog.Hash     `json:"hashes"`
	Checkpoint string          `json:"checkpoint"`
}

// MarshalJSON implements json.Marshaler.
func (p *Proof) MarshalJSON() ([]byte, error) {
	hashes := p.Hashes
	if hashes == nil {
		hashes = []tlog.Hash{}
	}
	return json.Marshal(proofJSON{1, p.Index, p.Leaf, hashes, string(p.Checkpoint)})
}

// UnmarshalJSON implements json.Unmarshaler. The leaf may have been indented
// or escaped otherwise on the way: its canonical form is what counts.
func (p *Proof) UnmarshalJSON(data []byte) error {
	var j proofJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return fmt.Errorf("not a proof: %w", err)
	}
	if j.Version != 1 {
		return errors.New(`not a proof: want "hallmark_proof": 1`)
	}
	leaf, err := recanonicalize(j.Leaf)
	if err != nil {
		return fmt.Errorf("not a proof: leaf: %w", err)
	}
	*p = Proof{Index: j.Index, Leaf: leaf, Hashes: j.Hashes, Checkpoint: []byte(j.Checkpoint)}
	return nil
}

// recanonicalize returns the canonical form of any JSON whose numbers are integers.
func recanonicalize(data []byte) ([]byte, error) {
	if len(data) == 0 {
		return nil, errors.New("missing")
	}
	if CheckCanonical(data) == nil {
		return bytes.Clone(data), nil
	}
	return reencode(data)
}

// reencode decodes JSON and writes it again.
func reencode(data []byte) ([]byte, error) {
	if !json.Valid(data) {
		return nil, errors.New("not JSON")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	v, err := integers(v)
	if err != nil {
		return nil, err
	}
	return AppendCanonical(nil, v), nil
}

// integers replaces each json.Number in v by an int64.
func integers(v any) (any, error) {
	var err error
	switch v := v.(type) {
	case json.Number:
		n, err := v.Int64()
		switch f, _ := v.Float64(); { // the outermost integers come rounded
		case err != nil && f == 1<<63:
			return int64(math.MaxInt64), nil
		case err != nil && f == -1<<63:
			return int64(math.MinInt64), nil
		}
		return n, err
	case []any:
		for i := range v {
			if v[i], err = integers(v[i]); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		for k := range v {
			if v[k], err = integers(v[k]); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

// ParseProof reads either form of a proof. It checks nothing but the form.
func ParseProof(data []byte) (*Proof, error) {
	if len(data) > maxProof {
		return nil, fmt.Errorf("not a proof: longer than %d bytes", maxProof)
	}
	if bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{")) {
		p := new(Proof)
		return p, p.UnmarshalJSON(data)
	}
	return parseProofText(string(data))
}

// parseProofText reads the text form (C2SP tlog-proof, Format).
func parseProofText(text string) (*Proof, error) {
	head, checkpoint, ok := strings.Cut(text, "\n\n")
	if !ok {
		return nil, errors.New("not a proof: no empty line before the checkpoint")
	}
	lines := strings.Split(head, "\n")
	if lines[0] != proofMagic {
		return nil, fmt.Errorf("not a proof: the first line is not %q", proofMagic)
	}
	p := &Proof{Checkpoint: []byte(checkpoint)}
	lines = lines[1:]
	if len(lines) > 0 && strings.HasPrefix(lines[0], "extra ") {
		leaf, err := base64.StdEncoding.Strict().DecodeString(lines[0][len("extra "):])
		if err != nil {
			return nil, fmt.Errorf("not a proof: extra data: %w", err)
		}
		p.Leaf, lines = leaf, lines[1:]
	}
	if len(lines) == 0 || !strings.HasPrefix(lines[0], "index ") {
		return nil, errors.New("not a proof: no index")
	}
	digits := lines[0][len("index "):]
	index, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || index < 0 || strconv.FormatInt(index, 10) != digits {
		return nil, fmt.Errorf("not a proof: index %.40q", digits)
	}
	p.Index = index
	for _, line := range lines[1:] {
		h, err := parseHash(line)
		if err != nil {
			return nil, fmt.Errorf("not a proof: %w", err)
		}
		p.Hashes = append(p.Hashes, h)
	}
	return p, nil
}

// Proof proves the entry at index within the newest checkpoint. An index past
// it is an error of kind NotFound: Sequence first.
func (l *Log) Proof(ctx context.Context, index int64) (*Proof, error) {
	signed, c, err := l.signedHead(ctx)
	if err != nil {
		return nil, err
	}
	if index < 0 || index >= c.Size {
		return nil, fault.New(fault.NotFound, "no_such_entry",
			fmt.Sprintf("the tree has %d entries, and none at %d", c.Size, index))
	}
	leaves, err := l.Store.Leaves(ctx, index, 1)
	if err != nil {
		return nil, fmt.Errorf("reading entry %d: %w", index, err)
	}
	if len(leaves) != 1 {
		return nil, damaged("entry %d is missing", index)
	}
	hashes, err := tlog.ProveRecord(c.Size, index, l.hashes(ctx, c))
	if err != nil {
		return nil, fmt.Errorf("proving entry %d: %w", index, err)
	}
	p := &Proof{Index: index, Leaf: leaves[0], Hashes: hashes, Checkpoint: signed}
	if _, err := p.Check(note.VerifierList(l.Verifier)); err != nil {
		return nil, damaged("proving entry %d: %w", index, err)
	}
	return p, nil
}

// Consistency proves that the tree of the newest checkpoint, which it returns
// signed, begins with the tree of its first oldSize entries (RFC 6962, Section
// 2.1.2). A size of 0, or past the checkpoint, is an error of kind NotFound.
func (l *Log) Consistency(ctx context.Context, oldSize int64) ([]tlog.Hash, []byte, error) {
	signed, c, err := l.signedHead(ctx)
	if err != nil {
		return nil, nil, err
	}
	if oldSize < 1 || oldSize > c.Size {
		return nil, nil, fault.New(fault.NotFound, "no_such_size",
			fmt.Sprintf("the tree has %d entries; it was never %d long", c.Size, oldSize))
	}
	hashes, err := tlog.ProveTree(c.Size, oldSize, l.hashes(ctx, c))
	if err != nil {
		return nil, nil, fmt.Errorf("proving consistency with %d entries: %w", oldSize, err)
	}
	return hashes, signed, nil
}

// signedHead returns the newest checkpoint, both signed and read.
func (l *Log) signedHead(ctx context.Context) ([]byte, Checkpoint, error) {
	signed, err := l.Checkpoint(ctx)
	if err != nil {
		return nil, Checkpoint{}, err
	}
	c, err := OpenCheckpoint(signed, note.VerifierList(l.Verifier))
	if err != nil {
		return nil, Checkpoint{}, damaged("the stored checkpoint cannot be trusted: %w", err)
	}
	return signed, c, nil
}

// hashes reads the tree under c, each tile authenticated against its root.
func (l *Log) hashes(ctx context.Context, c Checkpoint) tlog.HashReader {
	return tlog.TileHashReader(tlog.Tree{N: c.Size, Hash: c.Root}, &tileReader{ctx, l.Store})
}

// tileReader gives package tlog the tiles of a Store.
type tileReader struct {
	ctx   context.Context // of the one call that this reader serves
	store Store
}

// Height implements tlog.TileReader.
func (r *tileReader) Height() int { return tileHeight }

// ReadTiles implements tlog.TileReader. A tile may have grown since the
// checkpoint was read; its start is what it was.
func (r *tileReader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	for i, t := range tiles {
		hashes, err := r.store.Tile(r.ctx, t.L, t.N)
		if err != nil {
			return nil, err
		}
		if len(hashes) < t.W*tlog.HashSize {
			return nil, damaged("tile %d/%d holds %d bytes of hashes, the tree asks for %d", t.L, t.N, len(hashes), t.W*tlog.HashSize)
		}
		data[i] = hashes[:t.W*tlog.HashSize]
	}
	return data, nil
}

// SaveTiles implements tlog.TileReader. There is nothing to keep.
func (r *tileReader) SaveTiles([]tlog.Tile, [][]byte) {}

package audit

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
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

// WrittenProof is a Proof as it is written in JSON.
type WrittenProof struct {
	Version    int             `json:"hallmark_proof"` // version of the form: 1
	Index      int64           `json:"index"`          // of the entry in the tree, from 0
	Leaf       json.RawMessage `json:"leaf"`           // the entry, canonical
	Hashes     []tlog.Hash     `json:"hashes"`         // the path to the root, lowest first (RFC 6962, Section 2.1.1), base64
	Checkpoint string          `json:"checkpoint"`     // a signed note (C2SP tlog-checkpoint)
}

// MarshalJSON implements json.Marshaler.
func (p *Proof) MarshalJSON() ([]byte, error) {
	hashes := p.Hashes
	if hashes == nil {
		hashes = []tlog.Hash{}
	}
	return json.Marshal(WrittenProof{1, p.Index, p.Leaf, hashes, string(p.Checkpoint)})
}

// UnmarshalJSON implements json.Unmarshaler. The leaf may have been indented
// or escaped otherwise on the way: its canonical form is what counts.
func (p *Proof) UnmarshalJSON(data []byte) error {
	var j WrittenProof
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

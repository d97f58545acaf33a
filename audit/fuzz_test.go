package audit

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/hallmark-pki/hallmark/internal/fault"
)

func TestTilePaths(t *testing.T) {
	for path, want := range map[string]TilePath{
		"tile/0/000":                     {0, 0, 256},
		"tile/1/000.p/17":                {1, 0, 17},
		"tile/0/x001/x234/067":           {0, 1234067, 256}, // the example of C2SP tlog-tiles
		"tile/63/x001/234.p/255":         {63, 1234, 255},
		"tile/entries/000.p/1":           {Entries, 0, 1},
		"tile/entries/x999/x999/999":     {Entries, 999999999, 256},
		"tile/0/x999/x999/x999/x999/999": {0, 999_999_999_999_999, 256},
	} {
		if got, err := ParseTilePath(path); err != nil || got != want || got.String() != path {
			t.Errorf("%s: %+v %v", path, got, err)
		}
	}
	for _, path := range []string{
		"", "tile", "tile/", "tile/0", "tile/0/", "/tile/0/000", "tile/0/000/", "tile//000", "tile/data/000", "tile/8/0/000", "tiles/0/000",
		"tile/-1/000", "tile/64/000", "tile/00/000", "tile/+1/000", "tile/0/0", "tile/0/0000", "tile/0/1000", "tile/0/x000", "tile/0/001/000",
		"tile/0/x000/001", "tile/0/x01/001", "tile/0/-01", "tile/0/+01", "tile/0/000.p", "tile/0/000.p/", "tile/0/000.p/0", "tile/0/000.p/256",
		"tile/0/000.p/01", "tile/0/000.p/+1", "tile/0/000.p/1/2", "tile/0/.p/1", "tile/0/x001.p/000", "tile/0/../000", "tile/0/%30%30%30", "tile/0/000?x",
		"tile/0/x001/x001/x001/x001/x001/x001/001", "tile/Entries/000", "tile/entries/000 ", "TILE/0/000",
	} {
		if got, err := ParseTilePath(path); !fault.Is(err, fault.Malformed) {
			t.Errorf("%q: %+v %v", path, got, err)
		}
	}
}

func FuzzParseTilePath(f *testing.F) {
	f.Add("tile/0/x001/x234/067.p/12")
	f.Add("tile/entries/000")
	f.Add("tile/0/x000/000.p/0")
	f.Fuzz(func(t *testing.T, path string) {
		p, err := ParseTilePath(path)
		if err != nil {
			return
		}
		if p.String() != path || p.Width < 1 || p.Width > 256 || p.Index < 0 || p.Level < Entries || p.Level > 63 {
			t.Fatalf("%q: %+v", path, p)
		}
		if !p.Bundle() { // package tlog writes the same paths, with the height in them
			want := tlog.Tile{H: 8, L: p.Level, N: p.Index, W: p.Width}.Path()
			if want = "tile/" + strings.TrimPrefix(want, "tile/8/"); want != path {
				t.Fatalf("%q, want %q", path, want)
			}
		}
	})
}

func testKey(t testing.TB) (note.Signer, note.Verifiers) {
	skey, vkey, err := note.GenerateKey(rand.Reader, "fuzz.example/log")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	return signer, note.VerifierList(verifier)
}

// FuzzCheckpoint reads what stands before the signature: whatever is accepted
// is written the same again.
func FuzzCheckpoint(f *testing.F) {
	signer, keys := testKey(f)
	f.Add("fuzz.example/log\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n")
	f.Add("fuzz.example/log\n12\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\nextension\n")
	f.Add("fuzz.example/log\n012\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFV=\n")
	f.Fuzz(func(t *testing.T, text string) {
		OpenCheckpoint([]byte(text), keys) // whatever it is, no panic
		signed, err := note.Sign(&note.Note{Text: text}, signer)
		if err != nil {
			return
		}
		c, err := OpenCheckpoint(signed, keys)
		if err != nil {
			return
		}
		again := fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, c.Root)
		if !strings.HasPrefix(text, again) || c.Origin != signer.Name() || c.Size < 0 {
			t.Fatalf("%q: %+v", text, c)
		}
	})
}

// FuzzProof reads either form of a proof: what is accepted comes out the same
// in both forms, and Check never panics on it.
func FuzzProof(f *testing.F) {
	signer, keys := testKey(f)
	leaf := []byte(`{"a":"<\u0000>","b":9223372036854776000}`)
	signed, err := Checkpoint{Origin: signer.Name(), Size: 1, Root: tlog.RecordHash(leaf)}.sign(signer)
	if err != nil {
		f.Fatal(err)
	}
	p := &Proof{Leaf: leaf, Checkpoint: signed}
	if _, err := p.Check(keys); err != nil {
		f.Fatal(err)
	}
	text, _ := json.Marshal(p)
	f.Add(p.Text())
	f.Add(text)
	f.Add([]byte("c2sp.org/tlog-proof@v1\nindex 5\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\nx\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ParseProof(data)
		if err != nil {
			return
		}
		p.Check(keys)
		forms := [][]byte{p.Text()}
		if CheckCanonical(p.Leaf) == nil {
			asJSON, err := json.Marshal(p)
			if err != nil {
				t.Fatal(err)
			}
			forms = append(forms, asJSON)
		}
		for _, form := range forms {
			if len(form) > maxProof {
				continue
			}
			again, err := ParseProof(form)
			if err != nil || again.Index != p.Index || !bytes.Equal(again.Leaf, p.Leaf) || fmt.Sprint(again.Hashes) != fmt.Sprint(p.Hashes) {
				t.Fatalf("%q became %q: %v", data, form, err)
			}
		}
	})
}

// FuzzExport reads hostile exports: no panic, and nothing that is not what the
// checkpoint signs is found to fit it.
func FuzzExport(f *testing.F) {
	var good bytes.Buffer
	var tree edge
	for i := range int64(5) {
		e := event()
		leaf, err := e.Leaf()
		if err != nil {
			f.Fatal(err)
		}
		tree.append(tlog.RecordHash(leaf))
		good.Write(appendEntry(nil, i, tlog.RecordHash(leaf), leaf))
	}
	checkpoint := Checkpoint{Origin: "fuzz.example/log", Size: tree.size, Root: tree.root()}
	f.Add([]byte(nil))
	f.Add([]byte(`{"index":0,"hash":"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=","leaf":{}}` + "\n"))
	f.Add([]byte(`{"tile":0,"root":"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="}` + "\n"))
	f.Add([]byte("{\"index\":99999999999999999999\r\n"))
	f.Add(good.Bytes()[:1000])
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, content := range [][]byte{data, append(bytes.Clone(good.Bytes()), data...), append(bytes.Clone(data), good.Bytes()...)} {
			w := newWalk(&File{Name: "fuzz"})
			w.sizes = []int64{0, 1, tree.size}
			if err := w.read(strings.NewReader("{}\n" + string(content))); err != nil {
				t.Fatal(err)
			}
			if !w.aborted {
				w.finish(checkpoint)
			}
			if len(w.problems) == 0 && !bytes.Equal(content, good.Bytes()) {
				t.Fatalf("accepted %q", content)
			}
		}
	})
}

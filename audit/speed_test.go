package audit

import (
	"bufio"
	"crypto/rand"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// BenchmarkVerify verifies an export of 100,000 entries.
func BenchmarkVerify(b *testing.B) {
	const entries = 100_000
	skey, vkey, err := note.GenerateKey(rand.Reader, "bench.example/log")
	if err != nil {
		b.Fatal(err)
	}
	signer, _ := note.NewSigner(skey)
	verifier, _ := note.NewVerifier(vkey)
	path := filepath.Join(b.TempDir(), "record.ndjson")
	if err := writeExport(path, signer, entries); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		r, err := Verify(note.VerifierList(verifier), path)
		if err != nil || !r.Verified {
			b.Fatalf("%v\n%s", err, r)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/entries, "ns/entry")
}

// writeExport makes an export of n events without a database: the entries go
// to the file, and the header, which needs their root, in front of them.
func writeExport(path string, signer note.Signer, n int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var tree, run edge
	var body []byte
	for i := range n {
		e := event()
		leaf, err := e.Leaf()
		if err != nil {
			return err
		}
		h := tlog.RecordHash(leaf)
		tree.append(h)
		run.append(h)
		body = appendEntry(body, i, h, leaf)
		if run.size == tileWidth {
			body = appendTileRoot(body, i>>tileHeight, run.root())
			run = edge{}
		}
	}
	signed, err := Checkpoint{Origin: signer.Name(), Size: n, Root: tree.root()}.sign(signer)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	if err := writeHeader(w, header{1, signer.Name(), n, "2026-11-23T12:00:00.000Z", string(signed)}); err != nil {
		return err
	}
	if _, err := w.Write(body); err != nil {
		return err
	}
	return w.Flush()
}

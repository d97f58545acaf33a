package audit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/hallmark-pki/hallmark/audit"
)

// file writes a file into a directory of its own.
func (w *world) file(name string, content []byte) string {
	w.Helper()
	path := filepath.Join(w.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		w.Fatal(err)
	}
	return path
}

func (w *world) verify(paths ...string) *audit.Report {
	w.Helper()
	r, err := audit.Verify(w.keys, paths...)
	if err != nil {
		w.Fatal(err)
	}
	return r
}

// export returns the export of the record as it stands.
func (w *world) export() []byte {
	w.Helper()
	var b bytes.Buffer
	if err := w.log.Export(context.Background(), &b); err != nil {
		w.Fatal(err)
	}
	return b.Bytes()
}

// checkpoint returns the newest signed checkpoint.
func (w *world) checkpoint() []byte {
	w.Helper()
	signed, err := w.log.Checkpoint(context.Background())
	if err != nil {
		w.Fatal(err)
	}
	return signed
}

// proof returns the proof of an entry as text.
func (w *world) proof(index int64) []byte {
	w.Helper()
	p, err := w.log.Proof(context.Background(), index)
	if err != nil {
		w.Fatal(err)
	}
	return p.Text()
}

// expect fails unless the report refuses the files and names each of these in
// its problems; with none given it fails unless all is verified.
func (w *world) expect(r *audit.Report, says ...string) {
	w.Helper()
	if r.Verified != (len(says) == 0) || r.Verified != (len(r.Problems) == 0) {
		w.Fatalf("verified: %v\n%s", r.Verified, r)
	}
	text := r.String()
	for _, s := range says {
		if !strings.Contains(text, s) {
			w.Errorf("the report does not say %q:\n%s", s, text)
		}
	}
}

func TestExportVerifies(t *testing.T) {
	for _, n := range []int{1, 2, 255, 256, 257, 511, 512, 600} {
		w := newWorld(t)
		w.happen(n)
		r := w.verify(w.file("record.ndjson", w.export()), w.file("checkpoint", w.checkpoint()), w.file("proof", w.proof(int64(n/2))))
		w.expect(r)
		f := r.Files[0]
		if f.Entries != int64(n) || f.Counts["certificate.issue refused"] != int64(n/10) || f.Origin != origin ||
			!f.From.Equal(start) || !f.Exported.Equal(start.Add(time.Hour)) {
			t.Errorf("%d entries: %+v", n, f)
		}
	}
}

func TestReport(t *testing.T) {
	w := newWorld(t)
	w.happen(20)
	r := w.verify(w.file("record.ndjson", w.export()), w.file("proof", w.proof(3)))
	w.expect(r)
	text := r.String()
	for _, want := range []string{"VERIFIED: ", "export of " + origin, "20 entries, root ", "period      2026-11-23T08:00:00Z to 2026-11-23T08:00:00Z",
		"certificate.issue granted", "18", "certificate.issue refused", "entry       3: 2026-11-23T08:00:00.", ` by device "device-`, "compared with the entries of "} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
	if _, err := json.Marshal(r); err != nil {
		t.Error(err)
	}
}

// lines are those of an export of 600 entries: the header, entries 0-255, a
// tile, entries 256-511, a tile, entries 512-599.
type lines [][]byte

// at returns the number of the line, from 0 on, that holds an entry.
func at(entry int) int { return 1 + entry + entry/256 }

// edit replaces once in the line of an entry.
func (l lines) edit(entry int, old, new string) lines {
	line := l[at(entry)]
	if !bytes.Contains(line, []byte(old)) {
		panic(fmt.Sprintf("%s holds no %s", line, old))
	}
	l[at(entry)] = bytes.Replace(line, []byte(old), []byte(new), 1)
	return l
}

// rehash gives the entry the hash that its leaf now has.
func (l lines) rehash(entry int) lines {
	var e struct{ Leaf json.RawMessage }
	if err := json.Unmarshal(l[at(entry)], &e); err != nil {
		panic(err)
	}
	hash := tlog.RecordHash(e.Leaf).String()
	start := bytes.Index(l[at(entry)], []byte(`"hash":"`)) + len(`"hash":"`)
	copy(l[at(entry)][start:], hash)
	return l
}

// reroot recomputes the tile line behind the 256 entries of a tile.
func (l lines) reroot(tile int) lines {
	var hashes []tlog.Hash
	for i := range 256 {
		var e struct{ Hash tlog.Hash }
		if err := json.Unmarshal(l[at(tile*256+i)], &e); err != nil {
			panic(err)
		}
		hashes = append(hashes, e.Hash)
	}
	for len(hashes) > 1 {
		for i := range len(hashes) / 2 {
			hashes[i] = tlog.NodeHash(hashes[2*i], hashes[2*i+1])
		}
		hashes = hashes[:len(hashes)/2]
	}
	l[at(tile*256+255)+1] = fmt.Appendf(nil, `{"tile":%d,"root":"%s"}`+"\n", tile, hashes[0])
	return l
}

// renumber gives all entries the indexes that their order has.
func (l lines) renumber() lines {
	n := 0
	for i, line := range l {
		if rest, ok := bytes.CutPrefix(line, []byte(`{"index":`)); ok {
			_, rest, _ = bytes.Cut(rest, []byte(","))
			l[i] = append(append([]byte(`{"index":`+strconv.Itoa(n)), ','), rest...)
			n++
		}
	}
	return l
}

// header changes the first line.
func (l lines) header(old, new string) lines {
	if !bytes.Contains(l[0], []byte(old)) {
		panic(fmt.Sprintf("%s holds no %s", l[0], old))
	}
	l[0] = bytes.Replace(l[0], []byte(old), []byte(new), 1)
	return l
}

func TestTamperedExports(t *testing.T) {
	w := newWorld(t)
	w.happen(400)
	w.sequence()
	earlier, _ := json.Marshal(string(w.checkpoint()))
	w.happen(200)
	pristine := w.export()
	now, _ := json.Marshal(string(w.checkpoint()))
	foreign := newWorld(t)
	foreign.happen(600)
	foreign.sequence()
	strange, _ := json.Marshal(string(foreign.checkpoint()))

	const seven, eight = `"source":"192.0.2.7"`, `"source":"192.0.2.8"`
	for name, c := range map[string]struct {
		tamper func(l lines) lines
		says   []string
	}{
		"leaf changed": {func(l lines) lines { return l.edit(17, seven, eight) },
			[]string{": 1 problem", ": entry 17 (line 19): the leaf does not match its hash: it was changed"}},
		"leaf and hash changed": {func(l lines) lines { return l.edit(300, seven, eight).rehash(300) },
			[]string{": 1 problem", "the tree of these entries has root ", "entries 256-511 differ, all others are as signed"}},
		"two tiles changed": {func(l lines) lines {
			return l.edit(3, seven, eight).rehash(3).edit(300, seven, eight).rehash(300)
		}, []string{"entries 0-255, entries 256-511 differ, all others are as signed"}},
		"leaf, hash and tile changed": {func(l lines) lines { return l.edit(300, seven, eight).rehash(300).reroot(1) },
			[]string{": 1 problem", "the tree of these entries has root ", "or other entries together with the roots of their tiles"}},
		"leaf and hash in the last tile": {func(l lines) lines { return l.edit(550, seven, eight).rehash(550) },
			[]string{": 1 problem", "entries 512-599 differ"}},
		"hash changed": {func(l lines) lines {
			c := &l[at(40)][bytes.Index(l[at(40)], []byte(`"hash":"`))+9]
			if *c == 'A' {
				*c = 'B'
			} else {
				*c = 'A'
			}
			return l
		}, []string{"entry 40 (line 42): the leaf does not match its hash", "entries 0-255 differ"}},
		"tile root changed": {func(l lines) lines {
			l.edit(300, seven, eight).rehash(300).reroot(1)
			return l.edit(300, eight, seven).rehash(300)
		},
			[]string{": 1 problem", "the root of tile 1 was changed: the signed checkpoint confirms entries 256-511"}},
		"entry dropped": {func(l lines) lines { return slices.Delete(l, at(18), at(18)+1) },
			[]string{": 1 problem", ": line 20: entry 18 is missing: line 20 holds entry 19"}},
		"entries dropped": {func(l lines) lines { return slices.Delete(l, at(18), at(26)) },
			[]string{": 1 problem", "entries 18-25 are missing: line 20 holds entry 26"}},
		"entry dropped and renumbered": {func(l lines) lines { return slices.Delete(l, at(18), at(18)+1).renumber() },
			[]string{"the root of tile 0 comes after 255 entries", "the checkpoint covers 600 entries, the file holds 599"}},
		"first entry dropped": {func(l lines) lines { return slices.Delete(l, 1, 2) }, []string{"entry 0 is missing: line 2 holds entry 1"}},
		"last entry dropped": {func(l lines) lines { return l[:len(l)-1] },
			[]string{": 1 problem", "covers 600 entries, the file holds 599 (line 602 is the last): entries from 599 on are missing, the file was truncated"}},
		"reordered": {func(l lines) lines { l[at(18)], l[at(19)] = l[at(19)], l[at(18)]; return l },
			[]string{"entry 18 is missing: line 20 holds entry 19", "entry 18 (line 21): out of order: it stands after entry 19"}},
		"reordered and renumbered": {func(l lines) lines { l[at(18)], l[at(19)] = l[at(19)], l[at(18)]; return l.renumber() },
			[]string{": 1 problem", "entries 0-255 differ, all others are as signed"}},
		"duplicated": {func(l lines) lines { return slices.Insert(l, at(19), slices.Clone(l[at(18)])) },
			[]string{": 1 problem", "entry 18 (line 21): stands twice: entry 19 belongs here"}},
		"duplicated and renumbered": {func(l lines) lines { return slices.Insert(l, at(19), slices.Clone(l[at(18)])).renumber() },
			[]string{"entry 19 (line 21): record ", "is in the log twice: it is entry 18 already", "covers 600 entries but the file holds 601"}},
		"inserted": {func(l lines) lines {
			l = slices.Insert(l, at(599)+1, slices.Clone(l[at(599)])).renumber()
			return l.edit(600, `"id":"device-`, `"id":"device_`).rehash(600)
		}, []string{"covers 600 entries but the file holds 601: the checkpoint was rewound, or entries from 600 on were added"}},
		"tile line dropped":    {func(l lines) lines { return slices.Delete(l, at(255)+1, at(255)+2) }, []string{": 1 problem", "the root of tile 0 is missing before entry 256"}},
		"tile line duplicated": {func(l lines) lines { return slices.Insert(l, at(256), slices.Clone(l[at(255)+1])) }, []string{"holds the root of tile 0 where that of tile 1 belongs"}},
		"checkpoint rewound": {func(l lines) lines { return l.header(string(now), string(earlier)).header(`"size":600`, `"size":400`) },
			[]string{": 1 problem", "the checkpoint covers 400 entries but the file holds 600: the checkpoint was rewound"}},
		"checkpoint foreign": {func(l lines) lines { return l.header(string(now), string(strange)) }, []string{"line 1: checkpoint: signed by " + origin + "+", "which is not the key given"}},
		"checkpoint forged":  {func(l lines) lines { return l.header(`\n600\n`, `\n599\n`) }, []string{"does not fit the text: the checkpoint was changed"}},
		"header says more":   {func(l lines) lines { return l.header(`"size":600`, `"size":601`) }, []string{"the header says 601 entries, its signed checkpoint 600"}},
		"header says other":  {func(l lines) lines { return l.header(`"origin":"ca.`, `"origin":"cb.`) }, []string{`the header says log "cb.example.com/log"`}},
		"header version":     {func(l lines) lines { return l.header(`"hallmark_export":1`, `"hallmark_export":2`) }, []string{"version 2"}},
		"no header":          {func(l lines) lines { return l[1:] }, []string{"neither an export nor a proof nor a checkpoint"}},
		"header only":        {func(l lines) lines { return l[:1] }, []string{"the file holds 0"}},
		"cut in a line": {func(l lines) lines { l[at(100)] = l[at(100)][:50]; return l[:at(100)+1] },
			[]string{"line 102: the line has no end: the file was truncated", "the file holds 100"}},
		"cut in the header": {func(l lines) lines { l[0] = l[0][:50]; return l[:1] }, []string{"line 1: the first line has no end"}},
		"CR LF": {func(l lines) lines {
			for i := range l {
				l[i] = append(bytes.TrimSuffix(l[i], []byte("\n")), "\r\n"...)
			}
			return l
		}, []string{"line 1: ends in CR LF"}},
		"byte order mark":  {func(l lines) lines { l[0] = append([]byte("\ufeff"), l[0]...); return l }, []string{"byte order mark"}},
		"trailing garbage": {func(l lines) lines { return append(l, []byte("hello\n")) }, []string{`line 604: neither an entry nor the root of a tile: "hello"`}},
		"empty line":       {func(l lines) lines { return append(l, []byte("\n")) }, []string{`line 604: neither an entry`}},
		"huge line":        {func(l lines) lines { return append(l, bytes.Repeat([]byte("x"), 1<<20)) }, []string{"line 604: longer than"}},
		"large line":       {func(l lines) lines { return append(l, append(bytes.Repeat([]byte("x"), 1<<17), '\n')) }, []string{"line 604: longer than"}},
		"reformatted":      {func(l lines) lines { return l.edit(5, `"leaf":{"action"`, `"leaf": {"action"`) }, []string{"line 7: not an entry as an export writes it", "entry 5 is missing"}},
		"leaf not canonical": {func(l lines) lines { return l.edit(5, `{"action":`, `{ "action":`).rehash(5) },
			[]string{"entry 5 (line 7): the leaf is not canonical JSON: no string at byte 1"}},
		"much changed": {func(l lines) lines {
			for i := range 100 {
				l.edit(i, seven, eight)
			}
			return l
		}, []string{"entry 19 (line 21)", "that makes 20 problems: the rest of the file was not read"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{TB: t, keys: w.keys}
			l := lines(bytes.SplitAfter(bytes.Clone(pristine), []byte("\n")))
			if l = l[:len(l)-1]; len(l) != 603 {
				t.Fatalf("%d lines", len(l))
			}
			for i := range l {
				l[i] = bytes.Clone(l[i])
			}
			content := bytes.Join(c.tamper(l), nil)
			if bytes.Equal(content, pristine) {
				t.Fatal("nothing was changed")
			}
			w.expect(w.verify(w.file("record.ndjson", content)), c.says...)
		})
	}
}

// A log whose history differs from what an auditor kept is found out, whatever was kept.
func TestForkedAndRewoundLogs(t *testing.T) {
	w := newWorld(t)
	w.happen(40)
	old := w.file("old.ndjson", w.export())
	kept := w.file("kept.checkpoint", w.checkpoint())
	proof := w.file("kept.tlog-proof", w.proof(7))
	w.happen(17)
	w.log.Now = func() time.Time { return start.Add(2 * time.Hour) }
	good := w.file("new.ndjson", w.export())
	w.expect(w.verify(old, kept, proof, good))
	w.expect(w.verify(good, kept))
	w.expect(w.verify(kept, proof))
	w.expect(w.verify(old, w.file("later.tlog-proof", w.proof(50))))

	fork := newWorld(t) // the same key signs another history
	fork.log.Signer, fork.log.Verifier, fork.keys = w.log.Signer, w.log.Verifier, w.keys
	fork.happen(40)
	fork.sequence()
	forkedCheckpoint := w.file("forked.checkpoint", fork.checkpoint())
	fork.happen(30)
	fork.log.Now = func() time.Time { return start.Add(3 * time.Hour) }
	forked := w.file("forked.ndjson", fork.export())
	w.expect(fork.verify(forked))
	w.expect(w.verify(kept, forked), "kept.checkpoint: its checkpoint signs 40 entries with root", "the log was forked or rewritten")
	w.expect(w.verify(old, forked), "old.ndjson: its checkpoint signs 40 entries")
	w.expect(w.verify(proof, forked), "kept.tlog-proof: its checkpoint signs 40 entries")
	w.expect(w.verify(kept, forkedCheckpoint), "sign 40 entries each, but different ones: the log was forked")

	rewound := newWorld(t) // the same history, ended earlier
	rewound.log.Signer, rewound.log.Verifier, rewound.keys = w.log.Signer, w.log.Verifier, w.keys
	leaves, err := w.db.Leaves(context.Background(), 0, 30)
	if err != nil {
		t.Fatal(err)
	}
	rewound.happen(30)
	for i, leaf := range leaves {
		rewound.db.setWaiting(int64(i)+1, leaf)
	}
	rewound.log.Now = func() time.Time { return start.Add(3 * time.Hour) }
	short := w.file("short.ndjson", rewound.export())
	w.expect(w.verify(short))
	w.expect(w.verify(kept, short), "kept.checkpoint: it signs 40 entries and the longest export given, ", "has 30: the log was rewound")
	w.expect(w.verify(good, short), "short.ndjson: line 1: exported after ", "and yet shorter, 30 entries instead of 57: the log was rewound")
}

// What is changed in the database itself shows in the export, with its place.
func TestTamperedDatabaseShowsInTheExport(t *testing.T) {
	w := newWorld(t)
	w.happen(300)
	w.sequence()
	leaves, err := w.db.Leaves(context.Background(), 17, 1)
	if err != nil {
		t.Fatal(err)
	}
	w.db.setLeaf(17, bytes.Replace(leaves[0], []byte("192.0.2.7"), []byte("192.0.2.8"), 1))
	w.expect(w.verify(w.file("record.ndjson", w.export())), ": 1 problem", "entry 17 (line 19): the leaf does not match its hash")
	if _, err := w.log.Proof(context.Background(), 17); err == nil {
		t.Error("a proof of the changed entry")
	}
	w.db.dropLeaf(17)
	w.expect(w.verify(w.file("record.ndjson", w.export())), ": 1 problem", "entry 17 is missing: line 19 holds entry 18")
}

func TestProofFiles(t *testing.T) {
	w := newWorld(t)
	w.happen(300)
	w.sequence()
	text := w.proof(42)
	p, err := audit.ParseProof(text)
	if err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	w.expect(w.verify(w.file("p.tlog-proof", text), w.file("p.json", asJSON)))
	replace := func(old, new string) []byte { return bytes.Replace(text, []byte(old), []byte(new), 1) }
	first := p.Hashes[0].String()
	for name, c := range map[string]struct {
		content []byte
		says    string
	}{
		"other index":    {replace("index 42", "index 43"), "entry 43 is not what the signed checkpoint of 300 entries covers"},
		"index too far":  {replace("index 42", "index 300"), "entry 300 is not in a tree of 300 entries"},
		"odd index":      {replace("index 42", "index 042"), "index \"042\""},
		"no index":       {replace("index 42\n", ""), "no index"},
		"hash dropped":   {replace(first+"\n", ""), "the entry or the proof was changed"},
		"hash repeated":  {replace(first, first+"\n"+first), "the entry or the proof was changed"},
		"hash malformed": {replace(first, first[1:]), "is not the base64 of 32 bytes"},
		"no entry":       {slices.Concat([]byte("c2sp.org/tlog-proof@v1\n"), text[bytes.Index(text, []byte("index")):]), "does not carry the entry"},
		"no checkpoint":  {text[:bytes.Index(text, []byte("\n\n"))], "no empty line"},
		"cut":            {text[:len(text)-10], "checkpoint"},
		"version":        {replace("proof@v1", "proof@v2"), "neither an export"},
		"JSON changed":   {bytes.Replace(asJSON, []byte("192.0.2.7"), []byte("192.0.2.8"), 1), "the entry or the proof was changed"},
		"JSON cut":       {asJSON[:len(asJSON)/2], "not a proof"},
		"JSON version":   {bytes.Replace(asJSON, []byte(`"hallmark_proof": 1`), []byte(`"hallmark_proof": 2`), 1), "not a proof"},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{TB: t, keys: w.keys}
			w.expect(w.verify(w.file("proof", c.content)), c.says)
		})
	}
}

func TestVerifyOfOddFiles(t *testing.T) {
	w := newWorld(t)
	w.happen(1)
	export := w.export()
	w.expect(w.verify(w.file("empty", nil)), "the file is empty")
	w.expect(w.verify(w.file("noise", []byte("\x00\xff\x17"))), "neither an export")
	w.expect(w.verify(w.file("words", []byte("hello\n\nworld\n"))), "neither an export")
	other := newWorld(t)
	w.expect(other.verify(w.file("record.ndjson", export)), "line 1: checkpoint: signed by "+origin+"+", "which is not the key given")
	if _, err := audit.Verify(w.keys, filepath.Join(t.TempDir(), "missing")); err == nil {
		t.Error("a missing file was verified")
	}
	if _, err := audit.Verify(w.keys, t.TempDir()); err == nil {
		t.Error("a directory was verified")
	}
	if r, err := audit.Verify(w.keys); err != nil || r.Verified {
		t.Errorf("nothing at all: %+v, %v", r, err)
	}
}

func TestForeignOrigin(t *testing.T) {
	skey, vkey, err := audit.NewKey("other.example/log")
	if err != nil {
		t.Fatal(err)
	}
	signer, _ := note.NewSigner(skey)
	verifier, _ := note.NewVerifier(vkey)
	signed, err := note.Sign(&note.Note{Text: origin + "\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"}, signer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := audit.OpenCheckpoint(signed, note.VerifierList(verifier)); err == nil || !strings.Contains(err.Error(), "foreign") {
		t.Errorf("a key speaks for another log: %v", err)
	}
}

func TestNewKey(t *testing.T) {
	for _, bad := range []string{"", "a b", "a+b", "a\n"} {
		if _, _, err := audit.NewKey(bad); err == nil {
			t.Errorf("origin %q was accepted", bad)
		}
	}
	_, vkey, err := audit.NewKey("a.example/log")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{vkey, vkey + "\n", "\ufeff" + vkey + "\r\n"} {
		if v, err := audit.ReadKey([]byte(text)); err != nil || v.Name() != "a.example/log" {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := audit.ReadKey([]byte("hello")); err == nil {
		t.Error("not a key was read")
	}
}

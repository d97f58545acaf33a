package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Verify checks files on their own, with nothing but the log's public key:
// exports, signed checkpoints and proofs, alone and against each other. It
// reads exports as a stream and keeps about 40 bytes in memory for each
// entry. What is wrong with the files is in the Report; the error is for files
// that cannot be read at all.
func Verify(keys note.Verifiers, paths ...string) (*Report, error) {
	v := &verifier{keys: keys, report: &Report{Problems: []Problem{}}}
	for _, path := range paths {
		if err := v.open(path); err != nil {
			return nil, err
		}
	}
	for _, s := range v.sources {
		if s.file.Kind != KindExport {
			continue
		}
		if err := v.export(s); err != nil {
			return nil, err
		}
	}
	v.compare()
	for _, s := range v.sources {
		v.report.Files = append(v.report.Files, *s.file)
	}
	v.report.Verified = len(v.sources) > 0 && len(v.report.Problems) == 0
	return v.report, nil
}

// verifier is one run of Verify.
type verifier struct {
	keys    note.Verifiers
	sources []*source
	report  *Report
}

// source is one file, and the checkpoint in it if that can be trusted.
type source struct {
	file       *File
	checkpoint *Checkpoint
	vouched    string // name of an export that the checkpoint was compared with and fits
}

// problem notes what is wrong with a file as a whole or with one of its lines.
func (v *verifier) problem(file string, line int, format string, a ...any) {
	v.report.Problems = append(v.report.Problems, Problem{File: file, Line: line, Says: fmt.Sprintf(format, a...)})
}

// open looks at the beginning of a file, tells what it is and checks the
// checkpoint in it. Entries are left for later.
func (v *verifier) open(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, maxProof+1)
	start, err := r.Peek(maxProof + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	s := &source{file: &File{Name: path}}
	v.sources = append(v.sources, s)
	v.classify(s, start)
	return nil
}

// byteOrderMark is what some editors put in front of UTF-8.
const byteOrderMark = "\ufeff"

func (v *verifier) classify(s *source, start []byte) {
	name := s.file.Name
	switch {
	case len(start) == 0:
		v.problem(name, 0, "the file is empty")
	case bytes.HasPrefix(start, []byte(byteOrderMark)):
		v.problem(name, 1, "the file starts with a byte order mark: an editor has changed it; fetch it again")
	case bytes.HasPrefix(start, []byte(`{"hallmark_export"`)):
		s.file.Kind = KindExport
		v.header(s, start)
	case bytes.HasPrefix(start, []byte(proofMagic)), looksLikeProof(start):
		s.file.Kind = KindProof
		v.proof(s, start)
	default:
		c, err := OpenCheckpoint(start, v.keys)
		if err != nil {
			v.problem(name, 0, "neither an export nor a proof nor a checkpoint of this log: %v", err)
			return
		}
		s.file.Kind = KindCheckpoint
		s.trust(c)
	}
}

func looksLikeProof(start []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(start, " \t\r\n"), []byte("{")) && bytes.Contains(start, []byte(`"hallmark_proof"`))
}

func (s *source) trust(c Checkpoint) {
	s.checkpoint = &c
	s.file.Origin, s.file.Size, s.file.Root = c.Origin, c.Size, c.Root.String()
}

// header checks the first line of an export.
func (v *verifier) header(s *source, start []byte) {
	name := s.file.Name
	line, _, whole := bytes.Cut(start, []byte("\n"))
	if !whole {
		v.problem(name, 1, "the first line has no end: the file was truncated, or is not an export")
		return
	}
	var h header
	if err := json.Unmarshal(line, &h); err != nil {
		v.problem(name, 1, "the header of the export cannot be read: %v", err)
		return
	}
	if h.Version != 1 {
		v.problem(name, 1, "an export of version %d; this program knows version 1", h.Version)
	}
	exported, err := time.Parse(TimeFormat, h.Exported)
	if err != nil {
		v.problem(name, 1, "the header does not say when the export was made")
	}
	s.file.Exported = exported
	c, err := OpenCheckpoint([]byte(h.Checkpoint), v.keys)
	if err != nil {
		v.problem(name, 1, "checkpoint: %v", err)
		return
	}
	if h.Origin != c.Origin {
		v.problem(name, 1, "the header says log %q, its signed checkpoint %q", printable(h.Origin), printable(c.Origin))
	}
	if h.Size != c.Size {
		v.problem(name, 1, "the header says %d entries, its signed checkpoint %d", h.Size, c.Size)
	}
	s.trust(c)
}

// proof checks a whole proof file.
func (v *verifier) proof(s *source, data []byte) {
	p, err := ParseProof(data)
	if err != nil {
		v.problem(s.file.Name, 0, "%v", err)
		return
	}
	c, err := p.Check(v.keys)
	if err != nil {
		v.problem(s.file.Name, 0, "%v", err)
		return
	}
	s.trust(c)
	var leaf leafFields
	if err := leaf.read(p.Leaf); err != nil {
		v.problem(s.file.Name, 0, "entry %d: %v", p.Index, err)
		return
	}
	s.file.Entry = fmt.Sprintf("%d: %s %s, %s, record %s", p.Index, leaf.at.Format(TimeFormat), leaf.action, leaf.outcome, leaf.id)
	var parties struct{ Actor, Object Party }
	if json.Unmarshal(p.Leaf, &parties) == nil {
		s.file.Entry += fmt.Sprintf(", %s %q by %s %q", parties.Object.Type, parties.Object.ID, parties.Actor.Type, parties.Actor.ID)
	}
}

// marks returns the trusted checkpoints of the log called origin, smallest first.
func (v *verifier) marks(origin string) []*source {
	var marks []*source
	for _, s := range v.sources {
		if s.checkpoint != nil && s.checkpoint.Origin == origin {
			marks = append(marks, s)
		}
	}
	slices.SortStableFunc(marks, func(a, b *source) int { return int(a.checkpoint.Size - b.checkpoint.Size) })
	return marks
}

// export reads the entries of an export and holds them against every
// checkpoint that covers them.
func (v *verifier) export(s *source) error {
	f, err := os.Open(s.file.Name)
	if err != nil {
		return err
	}
	defer f.Close()
	w := newWalk(s.file)
	if s.checkpoint != nil {
		for _, m := range v.marks(s.checkpoint.Origin) {
			w.sizes = append(w.sizes, m.checkpoint.Size)
		}
	}
	if err := w.read(f); err != nil {
		return fmt.Errorf("reading %s: %w", s.file.Name, err)
	}
	if s.checkpoint != nil && !w.aborted {
		w.finish(*s.checkpoint)
		if len(w.problems) == 0 || w.genuine {
			v.crosscheck(s, w.roots)
		}
	}
	v.report.Problems = append(v.report.Problems, w.problems...)
	return nil
}

// crosscheck holds the other checkpoints against the entries of an export that
// fits its own. For two checkpoints of one log the smaller tree must be the
// beginning of the larger (C2SP tlog-checkpoint, Signatures).
func (v *verifier) crosscheck(s *source, roots map[int64]tlog.Hash) {
	for _, m := range v.marks(s.checkpoint.Origin) {
		root, covered := roots[m.checkpoint.Size]
		switch {
		case m == s || !covered:
		case root == m.checkpoint.Root:
			m.vouched = s.file.Name
		default:
			v.problem(m.file.Name, 0, "its checkpoint signs %s with root %s, but those in %s have root %s: "+
				"the log was forked or rewritten, and both versions are signed",
				counted(m.checkpoint.Size, "entry", "entries"), m.checkpoint.Root, s.file.Name, root)
			m.vouched = s.file.Name
		}
	}
}

// compare looks at what needs no entries, and says how each file stands to the others.
func (v *verifier) compare() {
	for i, a := range v.sources {
		for _, b := range v.sources[i+1:] {
			if a.checkpoint != nil && b.checkpoint != nil && a.checkpoint.Origin == b.checkpoint.Origin {
				v.comparePair(a, b)
			}
		}
	}
	for _, s := range v.sources {
		v.stand(s)
	}
}

// stand says how a file stands to the exports given.
func (v *verifier) stand(s *source) {
	if s.checkpoint == nil || s.file.Kind == KindExport && s.vouched == "" {
		return
	}
	var longest *source // export of the same log
	for _, e := range v.sources {
		if e.file.Kind == KindExport && e.checkpoint != nil && e.checkpoint.Origin == s.checkpoint.Origin &&
			(longest == nil || e.checkpoint.Size > longest.checkpoint.Size) {
			longest = e
		}
	}
	switch {
	case s.vouched != "":
		s.file.Standing = "compared with the entries of " + s.vouched
	case longest == nil:
	case longest.checkpoint.Size >= s.checkpoint.Size:
		s.file.Standing = "not compared: " + longest.file.Name + " does not fit its own checkpoint"
	case s.file.Kind == KindProof:
		s.file.Standing = "newer than every export given; it stands on its own"
	default: // kept from before, most likely: what it covers must still be there
		v.problem(s.file.Name, 0, "it signs %s and the longest export given, %s, has %d: the log was rewound, or the export is older than this checkpoint and has to be made again",
			counted(s.checkpoint.Size, "entry", "entries"), longest.file.Name, longest.checkpoint.Size)
	}
}

func (v *verifier) comparePair(a, b *source) {
	if a.checkpoint.Size == b.checkpoint.Size && a.checkpoint.Root != b.checkpoint.Root && a.vouched == "" && b.vouched == "" {
		v.problem(b.file.Name, 0, "its checkpoint and that of %s sign %d entries each, but different ones: the log was forked",
			a.file.Name, a.checkpoint.Size)
	}
	if a.file.Exported.IsZero() || b.file.Exported.IsZero() {
		return
	}
	if a.file.Exported.After(b.file.Exported) {
		a, b = b, a
	}
	if a.file.Exported.Before(b.file.Exported) && b.checkpoint.Size < a.checkpoint.Size {
		v.problem(b.file.Name, 1, "exported after %s and yet shorter, %d entries instead of %d: the log was rewound",
			a.file.Name, b.checkpoint.Size, a.checkpoint.Size)
	}
}

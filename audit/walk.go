package audit

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// maxLine bounds a line of an export after the header: a leaf, its hash and
// the words around them.
const maxLine = MaxLeaf + 256

// walk reads the lines of one export.
type walk struct {
	file     *File
	problems []Problem
	aborted  bool // the file was not read to its end
	line     int

	next    int64  // index that the next entry should have
	missing []span // indexes skipped so far
	gapless bool   // tree is that of the entries 0 to next-1

	tree    edge  // of all the entries
	claimed edge  // of the roots that the tile lines claim
	run     edge  // of the entries since the last tile line
	ragged  bool  // the run has a gap that was reported
	tiles   int64 // tile lines so far
	bad     []span

	sizes   []int64 // tree sizes whose root is wanted, ascending
	roots   map[int64]tlog.Hash
	genuine bool // the tree fits the file's own checkpoint

	ids    map[uint64]int64 // the random half of each record id → entry
	leaf   leafFields
	key    []byte
	counts map[string]*int64
}

// span is a run of indexes, both ends included.
type span struct{ first, last int64 }

func (s span) String() string {
	if s.first == s.last {
		return fmt.Sprintf("entry %d", s.first)
	}
	return fmt.Sprintf("entries %d-%d", s.first, s.last)
}

func newWalk(f *File) *walk {
	return &walk{file: f, gapless: true, roots: make(map[int64]tlog.Hash),
		ids: make(map[uint64]int64), counts: make(map[string]*int64)}
}

// problem notes what is wrong with the current line.
func (w *walk) problem(format string, a ...any) {
	w.problems = append(w.problems, Problem{File: w.file.Name, Line: w.line, Says: fmt.Sprintf(format, a...)})
}

// entryProblem notes what is wrong with the entry on the current line.
func (w *walk) entryProblem(index int64, format string, a ...any) {
	w.problems = append(w.problems, Problem{File: w.file.Name, Line: w.line, Entry: index, HasEntry: true, Says: fmt.Sprintf(format, a...)})
}

// read walks over all lines. The error is one of reading; what is wrong with
// the content becomes problems.
func (w *walk) read(r io.Reader) error {
	lines := bufio.NewReaderSize(r, maxProof)
	w.mark()
	for !w.aborted {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			break
		}
		w.line++
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
		w.takeLine(line, err)
		if len(w.problems) >= mostProblems {
			w.problem("that makes %d problems: the rest of the file was not read", mostProblems)
			w.aborted = true
		}
	}
	w.file.Entries = w.next
	w.file.Counts = make(map[string]int64, len(w.counts))
	for k, n := range w.counts {
		w.file.Counts[k] = *n
	}
	return nil
}

// takeLine judges the form of a line and hands it on. err is that of reading it.
func (w *walk) takeLine(line []byte, err error) {
	body, ended := bytes.CutSuffix(line, []byte("\n"))
	switch {
	case errors.Is(err, bufio.ErrBufferFull) || w.line > 1 && len(body) > maxLine:
		w.problem("longer than %d bytes: not a line of an export", maxLine)
		w.aborted = true
	case !ended:
		w.problem("the line has no end: the file was truncated")
	case bytes.HasSuffix(body, []byte("\r")):
		w.problem("ends in CR LF: the file was converted on its way; fetch it again as it is")
		w.aborted = true
	case w.line == 1: // the header, checked before
	case bytes.HasPrefix(body, []byte(entryStart)):
		w.entry(body)
	case bytes.HasPrefix(body, []byte(tileStart)):
		w.tile(body)
	default:
		w.problem("neither an entry nor the root of a tile: %.40q", body)
	}
}

// entry checks one entry and adds it to the tree.
func (w *walk) entry(line []byte) {
	index, hash, leaf, ok := parseEntry(line)
	if !ok {
		w.problem("not an entry as an export writes it: %.60q", line)
		w.gapless, w.ragged = false, true
		return
	}
	if w.run.size == tileWidth {
		w.problem("the root of tile %d is missing before entry %d", w.tiles, index)
		w.closeRun(w.run.root())
	}
	if !w.inOrder(index) {
		return
	}
	w.next = index + 1
	w.content(index, hash, leaf)
	w.tree.append(hash)
	w.tree.full = w.tree.full[:0]
	w.run.append(hash)
	w.mark()
}

// inOrder reports whether the entry may stand here, and says so if not.
func (w *walk) inOrder(index int64) bool {
	if index == w.next {
		return true
	}
	w.gapless, w.ragged = false, true
	if index > w.next {
		gap := span{w.next, index - 1}
		w.missing = append(w.missing, gap)
		verb := "is"
		if gap.first != gap.last {
			verb = "are"
		}
		w.problem("%s %s missing: line %d holds entry %d", gap, verb, w.line, index)
		return true
	}
	for _, gap := range w.missing {
		if gap.first <= index && index <= gap.last {
			w.entryProblem(index, "out of order: it stands after entry %d", w.next-1)
			return false
		}
	}
	w.entryProblem(index, "stands twice: entry %d belongs here", w.next)
	return false
}

// content checks what an entry says.
func (w *walk) content(index int64, hash tlog.Hash, leaf []byte) {
	if h := tlog.RecordHash(leaf); h != hash {
		w.entryProblem(index, "the leaf does not match its hash: it was changed (its hash is %s, recorded is %s)", h, hash)
		return
	}
	if err := w.leaf.read(leaf); err != nil {
		w.entryProblem(index, "%v", err)
		return
	}
	key := binary.BigEndian.Uint64(w.leaf.id[8:])
	if first, twice := w.ids[key]; twice {
		w.entryProblem(index, "record %s is in the log twice: it is entry %d already", w.leaf.id, first)
	} else {
		w.ids[key] = index
	}
	w.count()
}

// mostCounts bounds how many kinds of events are counted apart.
const mostCounts = 1000

// count adds the entry to the file's statistics.
func (w *walk) count() {
	if f, at := w.file, w.leaf.at; f.From.IsZero() || at.Before(f.From) {
		f.From = at
	}
	if f, at := w.file, w.leaf.at; at.After(f.To) {
		f.To = at
	}
	w.key = append(append(append(w.key[:0], w.leaf.action...), ' '), w.leaf.outcome...)
	n := w.counts[string(w.key)]
	if n == nil {
		if len(w.counts) == mostCounts {
			return
		}
		n = new(int64)
		w.counts[string(w.key)] = n
	}
	*n++
}

// mark keeps the root if the tree has a size that somebody asks about.
func (w *walk) mark() {
	for len(w.sizes) > 0 && w.sizes[0] <= w.tree.size {
		if w.sizes[0] == w.tree.size && w.gapless {
			w.roots[w.tree.size] = w.tree.root()
		}
		w.sizes = w.sizes[1:]
	}
}

// tile checks the line that closes each 256 entries.
func (w *walk) tile(line []byte) {
	index, root, ok := parseTileRoot(line)
	switch {
	case !ok:
		w.problem("not the root of a tile as an export writes it: %.60q", line)
		return
	case index != w.tiles:
		w.problem("holds the root of tile %d where that of tile %d belongs", index, w.tiles)
		return
	case w.ragged: // said already
	case w.run.size != tileWidth:
		w.problem("the root of tile %d comes after %d entries, not %d", index, w.run.size, tileWidth)
	case w.run.root() != root:
		w.bad = append(w.bad, span{index << tileHeight, index<<tileHeight + tileWidth - 1})
	}
	w.closeRun(root)
}

func (w *walk) closeRun(root tlog.Hash) {
	w.claimed.push(1, root)
	w.claimed.full = w.claimed.full[:0]
	w.run, w.ragged = edge{}, false
	w.tiles++
}

// finish holds what was read against the file's own checkpoint.
func (w *walk) finish(c Checkpoint) {
	if w.run.size == tileWidth {
		w.problem("the root of tile %d is missing at the end: the file was truncated", w.tiles)
		w.closeRun(w.run.root())
	}
	lastLine := w.line
	w.line = 0
	switch {
	case w.next < c.Size:
		w.problem("the checkpoint covers %d entries, the file holds %d (line %d is the last): entries from %d on are missing, the file was truncated",
			c.Size, w.next, lastLine, w.next)
	case w.next > c.Size:
		w.problem("the checkpoint covers %d entries but the file holds %d: the checkpoint was rewound, or entries from %d on were added",
			c.Size, w.next, c.Size)
	}
	root, whole := w.roots[c.Size]
	if !whole {
		return // a gap, said already
	}
	if w.genuine = root == c.Root; !w.genuine {
		w.problem("the tree of these entries has root %s, the signed checkpoint says %s: %s", root, c.Root, w.narrow(c))
		return
	}
	for _, s := range w.bad {
		w.problem("the root of tile %d was changed: the signed checkpoint confirms %s as they are", s.first>>tileHeight, s)
	}
}

// narrow says which entries make the tree differ from the checkpoint, as far
// as the roots of the tiles tell.
func (w *walk) narrow(c Checkpoint) string {
	w.run.full = nil
	claimed := w.claimed
	claimed.levels = slices.Clone(claimed.levels)
	if len(claimed.levels) > 0 && len(w.run.levels) > 0 {
		claimed.levels[0] = w.run.levels[0]
	} else if len(w.run.levels) > 0 {
		claimed.levels = w.run.levels
	}
	claimed.size += w.run.size
	var said []string
	for _, s := range w.bad[:min(len(w.bad), 5)] {
		said = append(said, s.String())
	}
	if len(w.bad) > len(said) {
		said = append(said, fmt.Sprintf("and %d more tiles", len(w.bad)-len(said)))
	}
	where := strings.Join(said, ", ")
	last := span{w.tiles << tileHeight, w.next - 1}
	switch {
	case where != "" && claimed.size == c.Size && claimed.root() == c.Root:
		return where + " differ, all others are as signed"
	case where != "":
		return where + " differ from the roots of their tiles, and perhaps others"
	case w.run.size > 0 && w.tiles > 0:
		return fmt.Sprintf("%s differ, or other entries together with the roots of their tiles", last)
	}
	return fmt.Sprintf("something among %s differs", span{0, w.next - 1})
}

package audit

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Report is what Verify found. The zero Report verifies nothing.
type Report struct {
	Verified bool      `json:"verified"` // there was something to check, and nothing is wrong with it
	Files    []File    `json:"files"`
	Problems []Problem `json:"problems"`
}

// FileKind says what a file turned out to be.
type FileKind string

// What Verify can read.
const (
	KindExport     FileKind = "export"
	KindCheckpoint FileKind = "checkpoint"
	KindProof      FileKind = "proof"
)

// File tells of one file that was checked.
type File struct {
	Name     string           `json:"name"`
	Kind     FileKind         `json:"kind,omitempty"`     // empty if that could not be told
	Origin   string           `json:"origin,omitempty"`   // of the checkpoint in it, if its signature holds
	Size     int64            `json:"size"`               // entries under that checkpoint
	Root     string           `json:"root,omitempty"`     // base64
	Exported time.Time        `json:"exported,omitzero"`  // as the export says itself; not signed
	Entries  int64            `json:"entries,omitempty"`  // read from an export
	From     time.Time        `json:"from,omitzero"`      // time of the earliest entry
	To       time.Time        `json:"to,omitzero"`        // and of the latest
	Counts   map[string]int64 `json:"counts,omitempty"`   // entries by "action outcome"
	Entry    string           `json:"entry,omitempty"`    // what a proof proves, in a few words
	Standing string           `json:"standing,omitempty"` // how it compares with the other files
}

// Problem is one thing that is wrong, and where.
type Problem struct {
	File  string `json:"file"`
	Line  int    `json:"line,omitempty"`  // from 1 on; 0 where no one line is to blame
	Entry int64  `json:"entry,omitempty"` // index; meaningful where HasEntry
	Says  string `json:"says"`

	HasEntry bool `json:"-"`
}

// String returns the problem on one line.
func (p Problem) String() string {
	where := p.File
	switch {
	case p.HasEntry:
		where += fmt.Sprintf(": entry %d (line %d)", p.Entry, p.Line)
	case p.Line > 0:
		where += fmt.Sprintf(": line %d", p.Line)
	}
	return where + ": " + p.Says
}

// mostProblems is how many are collected per file before the rest of it is skipped.
const mostProblems = 20

// String returns the report for people to read and to file.
func (r *Report) String() string {
	var b strings.Builder
	for i := range r.Files {
		r.Files[i].write(&b)
	}
	if r.Verified {
		fmt.Fprintf(&b, "VERIFIED: %s.\n", r.conclusion())
		return b.String()
	}
	fmt.Fprintf(&b, "NOT VERIFIED: %s.\n", counted(int64(len(r.Problems)), "problem", "problems"))
	for _, p := range r.Problems {
		fmt.Fprintf(&b, "  %s\n", p)
	}
	return b.String()
}

// conclusion says what has been shown.
func (r *Report) conclusion() string {
	var said []string
	for _, f := range r.Files {
		switch f.Kind {
		case KindExport:
			said = append(said, fmt.Sprintf("%s holds all %s that its checkpoint signs, unchanged and in order",
				f.Name, counted(f.Entries, "entry", "entries")))
		case KindProof:
			said = append(said, f.Name+" proves its entry")
		}
	}
	if len(said) == 0 {
		return "every signature holds"
	}
	return strings.Join(said, "; ")
}

func (f *File) write(b *strings.Builder) {
	kind := string(f.Kind)
	if kind == "" {
		kind = "cannot be read"
	}
	fmt.Fprintf(b, "%s: %s", f.Name, kind)
	if f.Origin != "" {
		fmt.Fprintf(b, " of %s\n  checkpoint  %s, root %s\n", printable(f.Origin), counted(f.Size, "entry", "entries"), f.Root)
	} else {
		b.WriteString("\n")
	}
	if f.Entry != "" {
		fmt.Fprintf(b, "  entry       %s\n", printable(f.Entry))
	}
	if !f.Exported.IsZero() {
		fmt.Fprintf(b, "  exported    %s by the server's clock\n", f.Exported.Format(time.RFC3339))
	}
	if !f.From.IsZero() {
		fmt.Fprintf(b, "  period      %s to %s\n", f.From.Format(time.RFC3339), f.To.Format(time.RFC3339))
	}
	if f.Standing != "" {
		fmt.Fprintf(b, "  standing    %s\n", f.Standing)
	}
	f.writeCounts(b)
	b.WriteString("\n")
}

// writeCounts lists how often each action ended how.
func (f *File) writeCounts(b *strings.Builder) {
	keys := make([]string, 0, len(f.Counts))
	widest := 0
	for k := range f.Counts {
		keys = append(keys, k)
		widest = max(widest, len(k))
	}
	slices.Sort(keys)
	for i, k := range keys {
		title := "entries"
		if i > 0 {
			title = ""
		}
		fmt.Fprintf(b, "  %-10s  %-*s  %10d\n", title, min(widest, 40), printable(k), f.Counts[k])
	}
}

// counted returns a number with its noun.
func counted(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// printable returns text from a file with everything replaced that could play
// tricks on a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

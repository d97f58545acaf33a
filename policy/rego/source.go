package rego

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/util"
)

// Bounds of a policy directory. The default policy is 10 KiB in three files.
const (
	maxFiles   = 256     // rules, tests and data together
	maxEntries = 4096    // directory entries looked at
	maxDepth   = 8       // folders below the directory
	maxBytes   = 4 << 20 // of all files together
)

// sources are the files of one policy directory, in memory.
type sources struct {
	rules []file // *.rego
	tests []file // *_test.rego
	data  *file  // data.json or data.yaml; may be nil
	files int    // counted against the bounds
	bytes int64
}

// file is one file by its slash-separated path below the directory.
type file struct {
	name string
	text []byte
}

// readDir reads the policy files below dir and nothing outside it: a symbolic
// link that leads elsewhere is an error. Names that begin with a dot are not looked at.
func readDir(dir string) (*sources, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the policy directory: %w", err)
	}
	defer root.Close()
	return readFS(root.FS())
}

// readFS is readDir for any file system.
func readFS(fsys fs.FS) (*sources, error) {
	s := &sources{}
	entries := 0
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entries++; entries > maxEntries {
			return Problems{{File: ".", Says: fmt.Sprintf("more than %d files and folders; is this the policy directory?", maxEntries)}}
		}
		hidden := name != "." && strings.HasPrefix(d.Name(), ".")
		switch {
		case d.IsDir() && hidden:
			return fs.SkipDir
		case d.IsDir() && strings.Count(name, "/") >= maxDepth:
			return Problems{{File: name, Says: fmt.Sprintf("more than %d folders deep", maxDepth)}}
		case d.IsDir() || hidden:
			return nil
		}
		return s.add(fsys, name)
	})
	if err != nil {
		return nil, err
	}
	s.sort()
	return s, nil
}

func (s *sources) sort() {
	slices.SortFunc(s.rules, byName)
	slices.SortFunc(s.tests, byName)
}

// all returns every file, sorted by name.
func (s *sources) all() []file {
	all := slices.Concat(s.rules, s.tests)
	if s.data != nil {
		all = append(all, *s.data)
	}
	slices.SortFunc(all, byName)
	return all
}

func byName(a, b file) int { return strings.Compare(a.name, b.name) }

// add takes the file in if it belongs to a policy.
func (s *sources) add(fsys fs.FS, name string) error {
	if !belongs(name) {
		return nil
	}
	if problem := s.misplaced(name); problem != "" {
		return Problems{{File: name, Says: problem}}
	}
	text, err := s.read(fsys, name)
	if err != nil {
		return err
	}
	s.sortIn(file{name, text})
	return nil
}

// take is add for a file that is in memory already.
func (s *sources) take(name string, text []byte) error {
	if !belongs(name) {
		return nil
	}
	if problem := s.misplaced(name); problem != "" {
		return Problems{{File: name, Says: problem}}
	}
	if s.bytes += int64(len(text)); s.bytes > maxBytes {
		return tooLarge(name)
	}
	s.sortIn(file{name, text})
	return nil
}

func (s *sources) sortIn(f file) {
	switch {
	case isData(f.name):
		s.data = &f
	case strings.HasSuffix(f.name, "_test.rego"):
		s.tests = append(s.tests, f)
	default:
		s.rules = append(s.rules, f)
	}
}

// belongs reports whether a file of that name belongs to a policy.
func belongs(name string) bool { return isData(name) || path.Ext(name) == ".rego" }

func isData(name string) bool {
	base := path.Base(name)
	return base == "data.json" || base == "data.yaml" || base == "data.yml"
}

// misplaced says what is wrong with a file's name or place.
func (s *sources) misplaced(name string) string {
	s.files++
	data := isData(name)
	switch {
	case s.files > maxFiles:
		return fmt.Sprintf("more than %d policy files", maxFiles)
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == '\\' || r == 0x7f }):
		return "control characters and backslashes have no place in a file name"
	case data && strings.Contains(name, "/"):
		return "data belongs at the top of the policy directory"
	case data && s.data != nil:
		return "there is " + s.data.name + " already; one data file is enough"
	}
	return ""
}

// read returns the file's text while the bound on the whole lasts.
func (s *sources) read(fsys fs.FS, name string) ([]byte, error) {
	info, err := fs.Stat(fsys, name) // follows links
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, Problems{{File: name, Says: "not a regular file"}}
	}
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxBytes-s.bytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	if s.bytes += int64(len(text)); s.bytes > maxBytes {
		return nil, tooLarge(name)
	}
	return text, nil
}

func tooLarge(name string) Problems {
	return Problems{{File: name, Says: fmt.Sprintf("the policy files are larger than %d KiB together", maxBytes>>10)}}
}

// digest names the rules and data that decide, tests left out. It is what
// coreutils would say of the same files:
//
//	find . -name data.json -o -name '*.rego' ! -name '*_test.rego' | sed 's|^\./||' | LC_ALL=C sort | xargs sha256sum | sha256sum
func (s *sources) digest() string {
	files := slices.Clone(s.rules)
	if s.data != nil {
		files = append(files, *s.data)
	}
	slices.SortFunc(files, byName)
	whole := sha256.New()
	for _, f := range files {
		fmt.Fprintf(whole, "%x  %s\n", sha256.Sum256(f.text), f.name)
	}
	return "sha256:" + hex.EncodeToString(whole.Sum(nil))
}

// document decodes the data file; without one it is empty.
func (s *sources) document() (map[string]any, error) {
	document := map[string]any{}
	if s.data == nil || len(bytes.TrimSpace(s.data.text)) == 0 {
		return document, nil
	}
	var err error
	if path.Ext(s.data.name) == ".json" {
		err = decodeJSON(s.data.text, &document)
	} else {
		err = util.Unmarshal(s.data.text, &document) // YAML, numbers kept as they are written
	}
	if err != nil {
		return nil, Problems{dataProblem(s.data, err)}
	}
	if document == nil {
		return map[string]any{}, nil // the document is null
	}
	return document, nil
}

// decodeJSON reads exactly one JSON object.
func decodeJSON(text []byte, into *map[string]any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON document")
	}
	return nil
}

// dataProblem points at the line and column, where the decoder tells an offset.
func dataProblem(f *file, err error) Problem {
	p := Problem{File: f.name, Says: err.Error()}
	if n, _ := fmt.Sscanf(p.Says, "yaml: line %d:", &p.Line); n == 1 {
		p.Column = 1 // that is all the YAML decoder tells
	}
	offset := int64(-1)
	if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
		offset = syntax.Offset
	}
	if mismatch := (*json.UnmarshalTypeError)(nil); errors.As(err, &mismatch) {
		offset, p.Says = mismatch.Offset, "the top of the data must be an object"
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		offset, p.Says = int64(len(f.text)), "the file ends in the middle"
	}
	if offset >= 0 && offset <= int64(len(f.text)) {
		before := f.text[:offset]
		p.Line = bytes.Count(before, []byte("\n")) + 1
		p.Column = max(1, len(before)-bytes.LastIndexByte(before, '\n')-1)
	}
	return p
}

package archtest

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// forbidden are words that no file of the project holds. Each pattern is put
// together from pieces so that this file does not hold it either.
var forbidden = map[string]*regexp.Regexp{
	"a loose end":            regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`),
	"a path of one machine":  regexp.MustCompile(`(^|[\s"'=(:` + "`" + `])/(wo` + `rk|root|home/[a-z]+)(/|\b)`),
	"the number of an issue": regexp.MustCompile(`(?i)\biss` + `ue #?[0-9]`),
	"a private key":          regexp.MustCompile(`-----BEGIN [A-Z ]*PRIV` + `ATE KEY-----\n[A-Za-z0-9+/=]{40}`),
}

// TestWords looks through every text file that is not ignored by git.
func TestWords(t *testing.T) {
	dir := root(t)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); name == ".git" || name == "bin" || name == "fuzz" {
				return fs.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if err != nil || !info.Mode().IsRegular() || info.Size() > 1<<20 {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil || !utf8.Valid(text) {
			return err
		}
		for what, pattern := range forbidden {
			if at := pattern.FindIndex(text); at != nil {
				line := 1 + strings.Count(string(text[:at[0]]), "\n")
				t.Errorf("%s:%d holds %s: %q", strings.TrimPrefix(path, dir+"/"), line, what, text[at[0]:at[1]])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

package console

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

const (
	codesDoc   = "../docs/api.md"
	codesBegin = "<!-- made by go generate ./console -->\n"
	codesEnd   = "<!-- end -->\n"
)

// TestTheDocumentationHasEveryCode holds the table of codes in docs/api.md against the source.
func TestTheDocumentationHasEveryCode(t *testing.T) {
	text, err := os.ReadFile(codesDoc)
	check(t, err)
	before, rest, found := strings.Cut(string(text), codesBegin)
	_, after, ended := strings.Cut(rest, codesEnd)
	if !found || !ended {
		t.Fatalf("%s has no place for the codes", codesDoc)
	}
	made := before + codesBegin + codesTable() + codesEnd + after
	if *update {
		check(t, os.WriteFile(codesDoc, []byte(made), 0o644))
		return
	}
	if made != string(text) {
		t.Errorf("the codes in the source have changed: run go generate ./console, and commit %s", codesDoc)
	}
}

func codesTable() string {
	var b strings.Builder
	b.WriteString("| status | code | says |\n|---|---|---|\n")
	codes := newDraft().codes
	for _, status := range slices.Sorted(maps.Keys(codes)) {
		for _, c := range codes[status] {
			fmt.Fprintf(&b, "| %d | `%s` | %s |\n", status, c.name, strings.NewReplacer("|", "\\|", "\n", " ").Replace(c.says))
		}
	}
	return b.String()
}

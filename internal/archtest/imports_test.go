package archtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/hallmark-pki/hallmark"

// A listing is what `go list -json` tells of one package.
type listing struct {
	ImportPath, Dir, Name              string
	GoFiles, TestGoFiles, XTestGoFiles []string
	IgnoredGoFiles                     []string
	Imports, TestImports, XTestImports []string
}

// room is the package's place in the house: its path below the module.
func (l *listing) room() string {
	return strings.TrimPrefix(strings.TrimPrefix(l.ImportPath, module), "/")
}

// list returns every package of the module.
func list(t *testing.T) []*listing {
	t.Helper()
	cmd := exec.Command("go", "list", "-pgo=off", "-e", "-json", module+"/...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []*listing
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		l := new(listing)
		if err := d.Decode(l); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, l)
	}
	if len(all) < 10 {
		t.Fatalf("go list found only %d packages", len(all))
	}
	return all
}

// TestPlan holds every import in the module against the plan.
func TestPlan(t *testing.T) {
	used := map[string]bool{}
	for _, l := range list(t) {
		if _, ok := plan[l.room()]; !ok {
			t.Errorf("%s is not in the plan", l.room())
			continue
		}
		for _, path := range l.Imports {
			used[l.room()+" → "+strings.TrimPrefix(path, module+"/")] = true
			if says := judge(l.room(), path, false); says != "" {
				t.Error(says)
			}
		}
		for _, path := range slices.Concat(l.TestImports, l.XTestImports) {
			if says := judge(l.room(), path, true); says != "" {
				t.Error(says)
			}
		}
	}
	for name, r := range plan {
		for to := range r.imports {
			if !used[name+" → "+to] {
				t.Errorf("the plan allows %s → %s, which nobody uses: remove it", name, to)
			}
		}
	}
}

// TestLevels holds the plan against itself: every edge goes down, has a reason
// and leads somewhere.
func TestLevels(t *testing.T) {
	for name, r := range plan {
		for to, reason := range r.imports {
			if down := plan[to].level < r.level || ground[to] && !ground[name]; !down {
				t.Errorf("%s (level %d) → %s (level %d) does not go down", name, r.level, to, plan[to].level)
			}
			if _, ok := plan[to]; !ok || reason == "" {
				t.Errorf("%s → %s leads nowhere or has no reason", name, to)
			}
		}
	}
	for path, g := range guests {
		if g.why == "" {
			t.Errorf("%s is a guest for no reason", path)
		}
	}
}

// judge says what is wrong with one import of a room, or of its tests; "" if nothing is.
func judge(name, path string, test bool) string {
	r := plan[name]
	if to, ours := strings.CutPrefix(path, module+"/"); ours {
		_, ok := r.imports[to]
		if ok || to == name || test && (everybodysTests[to] || slices.Contains(r.tests, to)) {
			return ""
		}
		return fmt.Sprintf("%s imports %s, which the plan does not allow: a new edge is a row in the plan with its reason", name, to)
	}
	if first, _, _ := strings.Cut(path, "/"); !strings.Contains(first, ".") {
		return "" // the standard library
	}
	g, ok := host(path)
	if !ok {
		return fmt.Sprintf("%s imports %s, a module without a room", name, path)
	}
	if g.rooms == nil || slices.Contains(g.rooms, name) || test && slices.Contains(g.tests, name) {
		return ""
	}
	return fmt.Sprintf("%s imports %s, which is a guest of %v only", name, path, g.rooms)
}

// host finds the guest row with the longest prefix of path.
func host(path string) (guest, bool) {
	for p := path; p != "." && p != "/"; p = filepath.Dir(p) {
		if g, ok := guests[p]; ok {
			return g, true
		}
	}
	return guest{}, false
}

// TestJudge shows that forbidden imports are seen.
func TestJudge(t *testing.T) {
	for _, c := range []struct {
		room, path string
		test, ok   bool
	}{
		{"ca", module + "/policy", false, true},
		{"policy", module + "/ca", false, false},
		{"enroll/est", module + "/console", false, false},
		{"enroll", module + "/store", false, false},
		{"enroll", module + "/store", true, true},
		{"policy/rego", "github.com/open-policy-agent/opa/v1/rego", false, true},
		{"console", "github.com/open-policy-agent/opa/v1/rego", false, false},
		{"store", "modernc.org/sqlite", false, true},
		{"ca", "github.com/rogpeppe/go-internal/testscript", true, false},
		{"ca", "example.org/unknown", false, false},
		{"ca", "crypto/x509", false, true},
	} {
		if says := judge(c.room, c.path, c.test); (says == "") != c.ok {
			t.Errorf("%s importing %s (test %v): %q, want ok %v", c.room, c.path, c.test, says, c.ok)
		}
	}
}

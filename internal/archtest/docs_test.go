package archtest

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// root is the module's directory.
func root(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-pgo=off", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestOperationsPage wants every field of the configuration and every metric
// on the page that operators read, and no metric there that does not exist.
func TestOperationsPage(t *testing.T) {
	dir := root(t)
	page := read(t, dir, "docs", "operations.md")
	decisionLog := read(t, dir, "cmd", "hallmark", "decisionlog.go")
	for _, field := range regexp.MustCompile("`yaml:\"([a-z_]+)\"`").FindAllStringSubmatch(read(t, dir, "cmd", "hallmark", "config.go")+decisionLog, -1) {
		if !regexp.MustCompile("[`.]" + field[1] + "\\b").MatchString(page) {
			t.Errorf("docs/operations.md does not explain the field %s of config.yaml", field[1])
		}
	}
	metrics := read(t, dir, "cmd", "hallmark", "metrics.go") + read(t, dir, "cmd", "hallmark", "revocation.go") + decisionLog
	name := regexp.MustCompile(`hallmark_[a-z_]+`)
	for _, m := range name.FindAllString(metrics, -1) {
		if !strings.Contains(page, m) {
			t.Errorf("docs/operations.md does not list the metric %s", m)
		}
	}
	for _, m := range name.FindAllString(page, -1) {
		if !strings.Contains(metrics, `"`+m+`"`) {
			t.Errorf("docs/operations.md lists %s, which is no metric", m)
		}
	}
}

// TestAttestationPage wants every reason for refusing evidence on the page that
// says what to do about it.
func TestAttestationPage(t *testing.T) {
	dir := root(t)
	page := read(t, dir, "docs", "attestation.md")
	reasons := regexp.MustCompile(`Reason += "([a-z_]+)"`).FindAllStringSubmatch(read(t, dir, "attest", "attest.go"), -1)
	if len(reasons) < 30 {
		t.Fatalf("found only %d reasons", len(reasons))
	}
	for _, reason := range reasons {
		if !strings.Contains(page, "`"+reason[1]+"`") {
			t.Errorf("docs/attestation.md does not explain %s", reason[1])
		}
	}
}

// TestLinks follows every relative link of the pages.
func TestLinks(t *testing.T) {
	dir := root(t)
	link := regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "bin") {
			return fs.SkipDir
		}
		if filepath.Ext(path) != ".md" {
			return nil
		}
		for _, to := range link.FindAllStringSubmatch(read(t, path), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), to[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", strings.TrimPrefix(path, dir+"/"), to[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

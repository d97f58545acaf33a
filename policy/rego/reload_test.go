package rego

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/hallmark-pki/hallmark/policy"
)

func put(t testing.TB, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

const (
	yes = "package hallmark\n\ndecision := {\"verdict\": \"allow\", \"profile\": \"yes\"}\n"
	no  = "package hallmark\n\ndecision := {\"verdict\": \"deny\", \"reasons\": [{\"code\": \"no\", \"detail\": \"\"}]}\n"
)

func TestReloadSwapsTheRules(t *testing.T) {
	dir := write(t, map[string]string{"p.rego": yes})
	e := mustLoad(t, dir)
	before := e.Digest()
	put(t, dir, "p.rego", no)
	if a, _ := e.Evaluate(context.Background(), nil); a.Verdict != policy.Allow || a.Policy != before {
		t.Errorf("an edit took effect before the reload: %+v", a)
	}
	if err := e.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	if a, _ := e.Evaluate(context.Background(), nil); a.Verdict != policy.Deny || a.Policy != e.Digest() || e.Digest() == before {
		t.Errorf("got %+v", a)
	}
}

func TestBrokenEditIsRefusedWithItsPlaceAndTheOldRulesStay(t *testing.T) {
	tests := map[string]struct {
		file, text string
		want       []string
	}{
		"syntax":          {"p.rego", "package hallmark\n\ndecision := {\"verdict\": }\n", []string{"p.rego:3:25: unexpected } token"}},
		"two mistakes":    {"p.rego", "package hallmark\n\ndecision := time.now_ns()\n\nother := http.send({})\n", []string{"p.rego:3:13: undefined function time.now_ns", "p.rego:5:10: undefined function http.send"}},
		"two files":       {"q.rego", "package hallmark\n\nallow if {\n\tx := 1\n}\n", []string{"q.rego:4:2: assigned var x unused"}},
		"other value":     {"q.rego", "package hallmark\n\ndefault decision := 1\ndefault decision := 2\n", []string{"q.rego:1:1: multiple default rules"}},
		"empty file":      {"p.rego", "", []string{"p.rego: empty module"}},
		"only a comment":  {"p.rego", "# nothing\n", []string{"p.rego: empty module"}},
		"data syntax":     {"data.json", "{\n  \"settings\": {\n    \"a\": [1,],\n  }\n}\n", []string{"data.json:3:13: invalid character"}},
		"data cut off":    {"data.json", "{\n  \"a\": [1", []string{"data.json:2:9: the file ends in the middle"}},
		"data no map":     {"data.json", "[1]", []string{"data.json:1:1: the top of the data must be an object"}},
		"data twice":      {"data.json", "{} {}", []string{"data.json: something follows the JSON document"}},
		"data numbers":    {"data.json", `{"x": 1e1000000000}`, []string{"data.json: "}},
		"data in the way": {"data.json", `{"hallmark": {"decision": {"verdict": "allow"}}}`, []string{"p.rego:3:1: conflicting rule for data path hallmark/decision"}},
		"data yaml":       {"data.yaml", "settings:\n  - a\n b: c\n", []string{"data.yaml:2:1: yaml: line 2: did not find"}},
		"data inside":     {"sub/data.json", "{}", []string{"sub/data.json: data belongs at the top"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			dir := write(t, map[string]string{"p.rego": yes, "sub/readme.txt": ""})
			e := mustLoad(t, dir)
			before := e.Digest()
			put(t, dir, test.file, test.text)
			err := e.Reload(context.Background())
			var problems Problems
			if !errors.As(err, &problems) || len(problems) == 0 {
				t.Fatalf("got %v, want problems", err)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got\n%v\nwant %q in it", err, want)
				}
			}
			if a, err := e.Evaluate(context.Background(), nil); err != nil || a.Verdict != policy.Allow || a.Policy != before {
				t.Errorf("the old rules are gone: %+v, %v", a, err)
			}
			if err := Check(context.Background(), dir); !errors.As(err, &problems) {
				t.Errorf("check says %v", err)
			}
		})
	}
}

// Under load each answer is that of the old or of the new rules, and names them.
func TestReloadUnderLoad(t *testing.T) {
	dir := write(t, map[string]string{"p.rego": yes})
	e := mustLoad(t, dir)
	digests := map[policy.Verdict]string{policy.Allow: e.Digest()}
	put(t, dir, "p.rego", no)
	if err := e.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	digests[policy.Deny] = e.Digest()

	done := make(chan struct{})
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				a, err := e.Evaluate(context.Background(), enrolment())
				if err != nil || a.Policy != digests[a.Verdict] {
					t.Errorf("got %+v, %v", a, err)
					return
				}
			}
		})
	}
	for i := range 60 {
		put(t, dir, "p.rego", []string{yes, no, "package hallmark\ndecision := "}[i%3])
		if err := e.Reload(context.Background()); (err != nil) != (i%3 == 2) {
			t.Errorf("reload %d: %v", i, err)
		}
	}
	close(done)
	clients.Wait()
}

func TestDirectoryIsBounded(t *testing.T) {
	big := fstest.MapFS{"p.rego": {Data: []byte(yes)}, "data.json": {Data: make([]byte, 50<<20)}}
	many := fstest.MapFS{}
	crowd := fstest.MapFS{"p.rego": {Data: []byte(yes)}}
	for i := range maxEntries + 1 {
		name := strings.Repeat("x", 1+i%100) + string(rune('a'+i/100))
		if i <= maxFiles {
			many[name+".rego"] = &fstest.MapFile{Data: []byte(yes)}
		}
		crowd[name+".txt"] = &fstest.MapFile{}
	}
	for name, test := range map[string]struct {
		fsys fs.FS
		says string
	}{
		"50 MiB of data":   {big, "larger than 4096 KiB together"},
		"too many files":   {many, "more than 256 policy files"},
		"not a policy":     {crowd, "is this the policy directory?"},
		"too deep":         {fstest.MapFS{strings.Repeat("d/", maxDepth+1) + "p.rego": {Data: []byte(yes)}}, "folders deep"},
		"odd name":         {fstest.MapFS{"a\nb.rego": {Data: []byte(yes)}}, "control characters"},
		"two data files":   {fstest.MapFS{"data.json": {}, "data.yaml": {}}, "one data file is enough"},
		"a device as file": {fstest.MapFS{"p.rego": {Mode: fs.ModeNamedPipe}}, "not a regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			var problems Problems
			if _, err := readFS(test.fsys); !errors.As(err, &problems) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %.200v, want %q", err, test.says)
			}
		})
	}
}

func TestDirectoryIsNotLeft(t *testing.T) {
	outside := write(t, map[string]string{"secret.rego": yes})
	dir := write(t, map[string]string{"p.rego": yes})
	if err := os.Symlink(filepath.Join(outside, "secret.rego"), filepath.Join(dir, "q.rego")); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(context.Background(), Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), "q.rego") {
		t.Errorf("a link out of the directory was followed: %v", err)
	}
	if _, err := Load(context.Background(), Config{Dir: filepath.Join(dir, "nowhere")}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that is not there: %v", err)
	}
}

// A mounted Kubernetes ConfigMap is files that are links through a hidden folder.
func TestConfigMapIsReadOnce(t *testing.T) {
	dir := write(t, map[string]string{"..2026/p.rego": yes})
	for link, target := range map[string]string{"..data": "..2026", "p.rego": "..data/p.rego"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := mustLoad(t, dir).Digest(), mustLoad(t, write(t, map[string]string{"p.rego": yes})).Digest(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestDigestIsOfRulesAndDataAlone(t *testing.T) {
	files := map[string]string{"p.rego": yes, "sub/q.rego": "package other\n\nx := 1\n", "data.json": `{"a": 1}`}
	digest := mustLoad(t, write(t, files)).Digest()
	files["p_test.rego"], files["README.md"] = "package t\n\ntest_x if true\n", "hello"
	if mustLoad(t, write(t, files)).Digest() != digest {
		t.Error("tests and other files count")
	}
	for name, text := range map[string]string{"data.json": `{"a": 2}`, "sub/q.rego": "package other\n\nx := 2\n", "r.rego": "package r\n\nx := 1\n"} {
		changed := map[string]string{"p.rego": yes, "sub/q.rego": files["sub/q.rego"], "data.json": files["data.json"]}
		changed[name] = text
		if mustLoad(t, write(t, changed)).Digest() == digest {
			t.Errorf("%s does not count", name)
		}
	}
}

// The comment of digest promises that coreutils agree.
func TestDigestIsWhatCoreutilsSay(t *testing.T) {
	dir := writeDefault(t)
	command := exec.Command("sh", "-c", `find . -name data.json -o -name '*.rego' ! -name '*_test.rego' | sed 's|^\./||' | LC_ALL=C sort | xargs sha256sum | sha256sum`)
	command.Dir = dir
	out, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	if want := "sha256:" + strings.Fields(string(out))[0]; mustLoad(t, dir).Digest() != want {
		t.Errorf("got %s, want %s", mustLoad(t, dir).Digest(), want)
	}
}

func TestDataMayBeYAML(t *testing.T) {
	dir := write(t, map[string]string{"data.yaml": "answer: allow\n", "p.rego": "package hallmark\n\ndecision := {\"verdict\": data.answer}\n"})
	if a, err := mustLoad(t, dir).Evaluate(context.Background(), nil); err != nil || a.Verdict != policy.Allow {
		t.Errorf("got %v, %v", a, err)
	}
}

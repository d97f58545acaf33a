package rego_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hallmark-pki/hallmark/policy/rego"
)

// recipe is one task of the policy guide: files to add, data to merge.
type recipe struct {
	files map[string]string
	data  []string
}

// recipes reads the guide. A block of Rego begins with a comment that names its file.
func recipes(t *testing.T) map[string]recipe {
	t.Helper()
	guide, err := os.ReadFile("../../docs/policy-guide.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(guide), "\n## Ten tasks\n")
	section, _, _ = strings.Cut(section, "\n## ")
	block := regexp.MustCompile("(?s)```(rego|json)\n(.*?)```")
	found := map[string]recipe{}
	for _, part := range strings.Split(section, "\n### ")[1:] {
		title, body, _ := strings.Cut(part, "\n")
		r := recipe{files: map[string]string{}}
		for _, match := range block.FindAllStringSubmatch(body, -1) {
			if match[1] == "json" {
				r.data = append(r.data, match[2])
				continue
			}
			name, _, _ := strings.Cut(strings.TrimPrefix(match[2], "# "), "\n")
			r.files[name] = match[2]
		}
		found[title] = r
	}
	return found
}

// apply adds the recipe to the default policy.
func (r recipe) apply(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, rego.Default()); err != nil {
		t.Fatal(err)
	}
	for name, text := range r.files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "data.json")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var data, added struct {
		Settings map[string]any `json:"settings"`
	}
	for _, text := range append([]string{string(text)}, r.data...) {
		if err := json.Unmarshal([]byte(text), &added); err != nil {
			t.Fatal(err)
		}
		if data.Settings == nil {
			data.Settings = map[string]any{}
		}
		for name, value := range added.Settings { // roles come beside those that are there
			was, merges := data.Settings[name].(map[string]any)
			if is, ok := value.(map[string]any); ok && merges {
				maps.Copy(was, is)
				continue
			}
			data.Settings[name] = value
		}
	}
	if text, err = json.Marshal(data); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestTasksOfTheGuideWork(t *testing.T) {
	all := recipes(t)
	if len(all) != 10 {
		t.Fatalf("the guide has %d tasks", len(all))
	}
	for title, r := range all {
		t.Run(title, func(t *testing.T) {
			results, err := rego.Test(t.Context(), r.apply(t))
			if err != nil {
				t.Fatal(err)
			}
			own := 0
			for _, c := range results.Cases {
				if _, ok := r.files[c.File]; ok {
					own++
					if !c.Passed {
						t.Errorf("%s:%d: %s failed %s\n%s", c.File, c.Line, c.Name, c.Error, c.Output)
					}
				}
			}
			if own == 0 {
				t.Error("the recipe has no test")
			}
		})
	}
}

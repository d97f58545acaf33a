package rego

import (
	"context"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
)

// vet vets the default policy with files added, changed, or (if empty) removed.
func vet(t *testing.T, changed map[string]string) Report {
	t.Helper()
	files := fstest.MapFS{}
	s, err := readFS(Default())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range s.all() {
		files[f.name] = &fstest.MapFile{Data: f.text}
	}
	for name, text := range changed {
		if files[name] = (&fstest.MapFile{Data: []byte(text)}); text == "" {
			delete(files, name)
		}
	}
	if s, err = readFS(files); err != nil {
		t.Fatal(err)
	}
	report, err := Vet(context.Background(), &Bundle{sources: s}, Gate{})
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// untested leaves out the tests of the default policy, and changes its first file where it is told to.
func untested(hallmark string) map[string]string {
	files := map[string]string{}
	tests, _ := fs.Glob(Default(), "*_test.rego")
	for _, name := range tests {
		files[name] = ""
	}
	if hallmark != "" {
		files["hallmark.rego"] = hallmark
	}
	return files
}

func TestDefaultPolicyPassesVet(t *testing.T) {
	if report := vet(t, nil); !report.Passed() || len(report.Tests.Cases) == 0 {
		t.Errorf("%d tests cover %.1f %%:\n%v", len(report.Tests.Cases), report.Tests.Coverage, report.Problems)
	}
}

func TestVetFindsWhatIsWrong(t *testing.T) {
	own := "package hallmark\n\n"
	for name, test := range map[string]struct {
		files map[string]string
		says  string
	}{
		"network":          {map[string]string{"a.rego": own + "x := http.send({})\n"}, "a.rego:3:6: undefined function http.send"},
		"unused import":    {map[string]string{"a.rego": own + "import data.other\n\ndeny contains 1 if false\n"}, "a.rego:3:1: import data.other unused"},
		"not formatted":    {map[string]string{"a.rego": own + "deny contains {\"code\": \"a\"} if { input.action.name==\"x\" }\n"}, "a.rego:3:1: not formatted"},
		"never true":       {map[string]string{"a.rego": own + "deny contains 1 if false\n"}, "a.rego:3:20: this is never true"},
		"nobody asks":      {map[string]string{"a.rego": own + "denny contains 1 if input.action.name\n"}, "a.rego:3:1: no entrypoint leads to the rule denny"},
		"test among rules": {map[string]string{"a.rego": "package x_test\n\ntest_x if data.hallmark.allow\n"}, "a.rego:3:1: test_x is a test"},
		"failing test":     {map[string]string{"a_test.rego": "package a_test\n\ntest_x if data.hallmark.decision.verdict == \"allow\" with input as {}\n"}, "a_test.rego:3:1: the test data.a_test.test_x fails"},
		"no tests":         {untested(""), "there are no tests"},
		"not total": {untested(own + "decision := {\"verdict\": \"allow\"} if allow\n"),
			"decision is undefined for some input"},
		"not declared":   {untested(own + "decision := {\"verdict\": \"allow\"} if allow\n"), "hallmark.rego:3:1: a public rule needs METADATA"},
		"memory in test": {map[string]string{"a_test.rego": "package a_test\n\ntest_x if {\n\ta := replace(\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\", \"a\", \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\")\n\tb := replace(a, \"a\", a)\n\tc := replace(b, \"a\", b)\n\tcount(c) > 0\n}\n"}, "too large a value"},
	} {
		t.Run(name, func(t *testing.T) {
			report := vet(t, test.files)
			if report.Passed() || !strings.Contains(report.Problems.Error(), test.says) {
				t.Errorf("got\n%v\nwant %q", report.Problems, test.says)
			}
		})
	}
}

package rego

import (
	"context"
	"testing"
)

func TestDefaultPolicyPassesItsTests(t *testing.T) {
	r, err := Test(context.Background(), writeDefault(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range r.Cases {
		if !c.Passed {
			t.Errorf("%s:%d: %s failed %s\n%s", c.File, c.Line, c.Name, c.Error, c.Output)
		}
	}
	if !r.Passed() || r.Coverage < 90 {
		t.Errorf("%d tests, %.1f %% of the rules covered, want at least 90 %%\n%v", len(r.Cases), r.Coverage, r.Missed)
	}
}

func TestFailedTestsAreReported(t *testing.T) {
	dir := write(t, map[string]string{
		"p.rego": "package hallmark\n\ndecision := {\"verdict\": \"allow\"} if input.subject\n\nunused if {\n\tinput.action.name == \"x\"\n}\n",
		"p_test.rego": `package hallmark_test

test_holds if data.hallmark.decision with input as {"subject": {}}

test_fails if {
	print("looking")
	data.hallmark.decision
}

test_breaks if 1 / 0 == 1

todo_test_later if false
`,
	})
	r, err := Test(context.Background(), dir)
	if err != nil || r.Passed() || len(r.Cases) != 4 {
		t.Fatalf("got %+v, %v", r, err)
	}
	holds, fails, breaks, later := r.Cases[0], r.Cases[1], r.Cases[2], r.Cases[3]
	if !holds.Passed || holds.Name != "data.hallmark_test.test_holds" || holds.File != "p_test.rego" || holds.Line != 3 {
		t.Errorf("got %+v", holds)
	}
	if fails.Passed || fails.Output != "looking\n" || fails.Error != "" {
		t.Errorf("got %+v", fails)
	}
	if breaks.Passed || breaks.Error == "" || !later.Skipped {
		t.Errorf("got %+v and %+v", breaks, later)
	}
	if r.Coverage < 20 || r.Coverage > 80 || len(r.Missed) == 0 || r.Missed[0].Line != 5 {
		t.Errorf("coverage is %.0f %%, missed %v", r.Coverage, r.Missed)
	}
}

func TestCheckLooksAtTestsToo(t *testing.T) {
	dir := write(t, map[string]string{"p.rego": yes, "p_test.rego": "package hallmark_test\n\ntest_x if data.hallmark.decison.verdict == \"allow\" with input as {}\n\ntest_y if undefined_function(1)\n"})
	if err := Check(context.Background(), dir); err == nil {
		t.Error("a broken test passes")
	}
	if _, err := Load(context.Background(), Config{Dir: dir}); err != nil {
		t.Errorf("a broken test keeps the rules from being loaded: %v", err)
	}
	if err := Check(context.Background(), writeDefault(t)); err != nil {
		t.Errorf("the default policy: %v", err)
	}
	if r, err := Test(context.Background(), write(t, map[string]string{"p.rego": yes})); err != nil || r.Passed() {
		t.Errorf("no tests at all pass: %+v, %v", r, err)
	}
}

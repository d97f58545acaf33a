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

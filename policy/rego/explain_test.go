package rego

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/policy"
)

func explain(t *testing.T, e *Engine, input map[string]any) Explanation {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	x, err := e.Explain(ctx, input)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestExplanationNamesTheRuleAndTheSmallestChange(t *testing.T) {
	e := mustLoad(t, writeDefault(t))
	quarantined := enrolment()
	quarantined["resource"].(map[string]any)["properties"].(map[string]any)["state"] = "quarantined"
	x := explain(t, e, quarantined)
	gave := slices.IndexFunc(x.Fired, func(f Fired) bool { return len(f.Gave) > 0 })
	if x.Verdict != "deny" || gave < 0 || x.Fired[gave].Rule != "data.hallmark.deny" || x.Fired[gave].File != "enrolment.rego" ||
		x.Fired[gave].Line == 0 || x.Fired[gave].Gave[0].Code != "device_quarantined" {
		t.Errorf("got %+v", x)
	}
	if len(x.Changes) != 1 || !slices.Equal(x.Changes[0].Path, []string{"resource", "properties", "state"}) || x.Changes[0].Was != "quarantined" {
		t.Fatalf("got the changes %+v after %d", x.Changes, x.Tried)
	}
	changed := with(quarantined, x.Changes[0].Path, x.Changes[0].To)
	if a, err := e.Evaluate(context.Background(), changed); err != nil || a.Verdict != policy.Allow {
		t.Errorf("with the change: %v, %v", a.Verdict, err)
	}
	if quarantined["resource"].(map[string]any)["properties"].(map[string]any)["state"] != "quarantined" {
		t.Error("the search changed what was asked")
	}
}

func TestExplanationFindsPairs(t *testing.T) {
	e := mustLoad(t, writeDefault(t))
	twice := enrolment()
	twice["resource"].(map[string]any)["properties"].(map[string]any)["state"] = "retired"
	twice["subject"].(map[string]any)["properties"] = map[string]any{"auth": map[string]any{"method": "password"}}
	if x := explain(t, e, twice); len(x.Changes) != 2 {
		t.Errorf("got the changes %+v after %d", x.Changes, x.Tried)
	}
}

func TestWhatIsAllowedNeedsNoChange(t *testing.T) {
	x := explain(t, mustLoad(t, writeDefault(t)), enrolment())
	if x.Verdict != "allow" || x.Tried != 0 || len(x.Changes) != 0 || len(x.Fired) == 0 {
		t.Errorf("got %+v", x)
	}
}

func TestLabelsOfTheRulesThatSucceed(t *testing.T) {
	e := mustLoad(t, write(t, map[string]string{"p.rego": `package hallmark

decision := {"verdict": "allow"} if mine

# METADATA
# labels:
#   control: ["NIST800-53:AC-3"]
mine if input.subject.id == "a"
`}))
	for id, want := range map[string]int{"a": 1, "b": 0} {
		labels, _ := e.Labels(context.Background(), map[string]any{"subject": map[string]any{"id": id}})
		if len(labels) != want {
			t.Errorf("%s: got %v", id, labels)
		}
	}
}

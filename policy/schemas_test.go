package policy

import (
	"encoding/json"
	"strings"
	"testing"
)

// Every action of the closed list has a schema, and none has that is not on it.
func TestEveryActionHasASchema(t *testing.T) {
	var s shapes
	if err := json.Unmarshal(schemas, &s); err != nil {
		t.Fatal(err)
	}
	for a := range s.ActionMembers {
		if !a.Known() {
			t.Errorf("there is no action %s", a)
		}
	}
	for _, a := range Actions() {
		var schema struct {
			Title      string
			Properties map[string]struct{ Properties map[string]any }
		}
		if err := json.Unmarshal(Schema(a), &schema); err != nil || schema.Title != string(a) {
			t.Errorf("%s: %v, %q", a, err, schema.Title)
			continue
		}
		if s.Things[resourceOf(a)] == nil {
			t.Errorf("%s: nothing is said of a %s", a, resourceOf(a))
		}
		for _, part := range []string{"subject", "action", "resource", "context"} {
			if len(schema.Properties[part].Properties) == 0 {
				t.Errorf("%s: nothing is said of its %s", a, part)
			}
		}
	}
	if Schema("certificate.forge") != nil {
		t.Error("an unknown action has a schema")
	}
	for _, want := range []string{`"const":"token.create"`, `"uses":{"type":"integer"}`, `"additionalProperties":false`} {
		if !strings.Contains(string(Schema(CreateToken)), want) {
			t.Errorf("the schema of token.create has no %s", want)
		}
	}
}

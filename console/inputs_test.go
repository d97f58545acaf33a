package console

import (
	"bytes"
	"context"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/policy"
)

// fitting is an engine that holds every question of a test against the schema of its action.
type fitting struct {
	policy.Engine
	t testing.TB
}

func (f fitting) Evaluate(ctx context.Context, input map[string]any) (policy.Answer, error) {
	action, _ := input["action"].(map[string]any)["name"].(string)
	if err := fits(policy.Action(action), audit.AppendCanonical(nil, input)); err != nil {
		f.t.Errorf("the schema of %s does not tell this: %v", action, err)
	}
	return f.Engine.Evaluate(ctx, input)
}

// fits holds an input against the schema of that action.
func fits(a policy.Action, input []byte) error {
	schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(policy.Schema(a)))
	if err != nil {
		return err
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("input.json", schema); err != nil {
		return err
	}
	compiled, err := compiler.Compile("input.json")
	if err != nil {
		return err
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(input))
	if err != nil {
		return err
	}
	return compiled.Validate(document)
}

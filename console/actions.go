package console

import (
	"context"
	"encoding/json"

	"github.com/hallmark-pki/hallmark/policy"
)

// knownAction is one thing that can be asked, and what rules are asked with.
type knownAction struct {
	Action policy.Action   `json:"action"`
	Reads  bool            `json:"reads"`        // it changes nothing
	Holds  bool            `json:"holds"`        // rules may have it wait for a person
	Schema json.RawMessage `json:"input_schema"` // JSON schema (draft 2020-12) of the whole input
}

// knownActions is the closed list.
type knownActions struct {
	Items []knownAction `json:"items"`
}

func (c *Console) listActions(*call) (deed, error) {
	return deed{
		resource: policyThing(""),
		do: func(context.Context, policy.Permit) (answer, error) {
			var all knownActions
			for _, a := range policy.Actions() {
				all.Items = append(all.Items, knownAction{a, a.Reads(), a.Holds(), policy.Schema(a)})
			}
			return ok(all), nil
		},
	}, nil
}

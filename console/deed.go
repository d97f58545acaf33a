package console

import (
	"context"
	"maps"

	"github.com/hallmark-pki/hallmark/policy"
)

// deed is what a call asks for: understood and checked, but not yet decided.
type deed struct {
	resource   policy.Entity // properties that are left out are filled in by characterise
	made       bool          // the resource's id is made by this call: the next call for the same has another
	parameters policy.Properties
	change     policy.Properties // of the rules: who proposed it, who approved; nil: none
	do         func(ctx context.Context, p policy.Permit) (answer, error)
}

// around adds the change of the rules that the deed is about to what is known of its caller.
func (d *deed) around(caller policy.Properties) policy.Properties {
	if d.change == nil {
		return caller
	}
	context := policy.Properties{"change": map[string]any(d.change)}
	maps.Copy(context, caller)
	return context
}

// about is a deed that the path says all of: one thing, by its name.
func (call *call) about(kind, parameter string, do func(ctx context.Context, p policy.Permit, id string) (answer, error)) (deed, error) {
	id, err := call.name(parameter)
	return deed{
		resource: policy.Entity{Type: kind, ID: id},
		do:       func(ctx context.Context, p policy.Permit) (answer, error) { return do(ctx, p, id) },
	}, err
}

// reasoned is the body of the calls that want to know why.
type reasoned struct {
	Reason string `json:"reason,omitempty"`
}

// withReason is a deed upon one thing, with the operator's reason for it.
// Whether there has to be one is the verb's to say.
func (call *call) withReason(kind string, do func(ctx context.Context, p policy.Permit, id, reason string) error) (deed, error) {
	id, err := call.name("id")
	if err != nil {
		return deed{}, err
	}
	var body reasoned
	if err := call.decode(&body, true); err != nil {
		return deed{}, err
	}
	return deed{
		resource:   policy.Entity{Type: kind, ID: id},
		parameters: policy.Properties{"reason": body.Reason},
		do: func(ctx context.Context, p policy.Permit) (answer, error) {
			return done(), do(ctx, p, id, body.Reason)
		},
	}, checkText("reason", body.Reason, maxReason)
}

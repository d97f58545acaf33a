package console

import (
	"cmp"
	"context"
	"maps"
	"time"

	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// mostCounted is how far the deeds of an hour are counted.
const mostCounted = 10_000

// remember adds to a question what it takes to decide on what came before:
// how often this operator was allowed this very action in the last hour, and whether another one has
// agreed to this errand. A denial by another operator is put on the record and returned.
func (c *Console) remember(ctx context.Context, call *call, q *policy.Request, d *deed) error {
	done, err := c.Record.CountDecisions(ctx, q.Subject.ID, string(q.Action), q.At.Add(-time.Hour), mostCounted)
	if err != nil {
		return err
	}
	known := maps.Clone(q.Context)
	if known == nil {
		known = policy.Properties{}
	}
	known["last_hour"] = done
	q.Context = known
	if !q.Action.Holds() {
		return nil
	}
	agreed, err := c.Requests.Recall(ctx, q, d.made, call.content.known())
	if q.Approval != "" && !call.content.whole {
		call.content.agreed = cmp.Or(agreed, nothing)
	}
	if refusal := fault.Of(err); err != nil && refusal.Kind == fault.Denied {
		return policy.Refuse(ctx, c.Policy, *q, refusal)
	}
	return err
}

// decide asks policy. What it holds waits for another operator.
func (c *Console) decide(call *call, action policy.Action, d *deed) (policy.Permit, error) {
	ctx, q := call.Context(), call.question(action, *d)
	if err := c.remember(ctx, call, &q, d); err != nil {
		return policy.Permit{}, err
	}
	decision, err := policy.Decide(ctx, c.Policy, q)
	if err != nil {
		return policy.Permit{}, err
	}
	if decision.Verdict() == policy.Hold {
		known := call.content.known()
		whole, err := call.content.rest(call)
		if err != nil {
			return policy.Permit{}, err
		}
		return policy.Permit{}, c.Requests.Defer(ctx, decision, &q, d.made, known, whole)
	}
	return decision.Permit()
}

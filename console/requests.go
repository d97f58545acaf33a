package console

import (
	"context"

	"github.com/hallmark-pki/hallmark/enroll"
	"github.com/hallmark-pki/hallmark/policy"
)

func (c *Console) listRequests(call *call) (deed, error) {
	page, err := call.page()
	if err != nil {
		return deed{}, err
	}
	state := call.query("state")
	filter := enroll.HeldFilter{State: enroll.HeldState(state), Device: call.query("device"), Before: page.cursor, Limit: page.ask()}
	return deed{
		resource:   policy.Entity{Type: "request"},
		parameters: policy.Properties{"state": state, "device": filter.Device},
		do: func(ctx context.Context, p policy.Permit) (answer, error) {
			held, err := c.Requests.List(ctx, p, filter)
			if err != nil {
				return answer{}, err
			}
			return listOf(page, held, func(h enroll.Held) string { return h.ID }, same), nil
		},
	}, nil
}

func (c *Console) showRequest(call *call) (deed, error) {
	return call.about("request", "id", func(ctx context.Context, p policy.Permit, id string) (answer, error) {
		held, err := c.Requests.Show(ctx, p, id)
		return ok(held), err
	})
}

func (c *Console) approveRequest(call *call) (deed, error) {
	return call.withReason("request", c.Requests.Approve)
}

func (c *Console) denyRequest(call *call) (deed, error) {
	return call.withReason("request", c.Requests.Deny)
}

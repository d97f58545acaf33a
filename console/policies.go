package console

import (
	"context"
	"net/http"
	"strconv"

	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
	"github.com/hallmark-pki/hallmark/policy/release"
)

// policyThing is a policy as what a call is about. What is known of a proposal
// stands in the properties; of rules that are in force or were, nothing else is.
func policyThing(id string) policy.Entity {
	return policy.Entity{Type: "policy", ID: id, Properties: policy.Properties{}}
}

func (c *Console) showPolicy(call *call) (deed, error) {
	return deed{
		resource: policyThing(""),
		do: func(ctx context.Context, p policy.Permit) (answer, error) {
			force, err := c.Releases.InForce(ctx, p)
			return ok(force), err
		},
	}, nil
}

func (c *Console) policyHistory(call *call) (deed, error) {
	page, err := call.page()
	if err != nil {
		return deed{}, err
	}
	before, err := page.position()
	if err != nil {
		return deed{}, err
	}
	filter := release.RevisionFilter{Before: before, Limit: page.ask()}
	return deed{
		resource: policyThing(""),
		do: func(ctx context.Context, p policy.Permit) (answer, error) {
			found, err := c.Releases.History(ctx, p, filter)
			if err != nil {
				return answer{}, err
			}
			return listOf(page, found, func(r release.Revision) string { return strconv.FormatInt(r.Number, 10) }, same), nil
		},
	}, nil
}

func (c *Console) fetchRevision(call *call) (deed, error) {
	text, err := call.name("revision")
	if err != nil {
		return deed{}, err
	}
	if text == current {
		return c.fetchCurrent(call)
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 || strconv.FormatInt(n, 10) != text {
		return deed{}, fault.New(fault.Malformed, "bad_parameter", "a revision is a number from 1, or "+current)
	}
	return deed{
		resource: policyThing(text),
		do: func(ctx context.Context, p policy.Permit) (answer, error) {
			found, err := c.Releases.Revision(ctx, p, n)
			return bundled(found.Bundle), err
		},
	}, nil
}

// current stands for the number of the revision in force: there is none while the policy directory is the source.
const current = "current"

func (c *Console) fetchCurrent(call *call) (deed, error) {
	return deed{
		resource: policyThing(""),
		do: func(ctx context.Context, p policy.Permit) (answer, error) {
			force, err := c.Releases.InForce(ctx, p)
			return bundled(force.Bundle), err
		},
	}, nil
}

// wayBack is the body of POST /policy/rollback. All of it is optional.
type wayBack struct {
	To     int64  `json:"to,omitempty"` // revision; 0: the one before that in force
	Reason string `json:"reason,omitempty"`
}

func (c *Console) rollbackPolicy(call *call) (deed, error) {
	var body wayBack
	if err := call.decode(&body, true); err != nil {
		return deed{}, err
	}
	id := ""
	if body.To != 0 {
		id = strconv.FormatInt(body.To, 10)
	}
	if body.To < 0 {
		return deed{}, fault.New(fault.Malformed, "bad_field", "a revision is a number from 1")
	}
	return deed{
		resource:   policyThing(id),
		parameters: policy.Properties{"reason": body.Reason},
		do: func(ctx context.Context, p policy.Permit) (answer, error) {
			made, err := c.Releases.Rollback(ctx, p, release.Return{To: body.To, Reason: body.Reason})
			return ok(made), err
		},
	}, checkText("reason", body.Reason, maxReason)
}

// bundleType is what a bundle is sent as: a tar.gz.
const bundleType = "application/gzip"

// bundled answers with an OPA bundle.
func bundled(packed []byte) answer {
	return answer{status: http.StatusOK, raw: packed, header: map[string]string{
		"Content-Type": bundleType, "Content-Disposition": `attachment; filename="policy.tar.gz"`}}
}

package console

import (
	"context"
	"encoding/json"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
	"github.com/hallmark-pki/hallmark/policy/release"
)

// explanation answers GET /decisions/{id}/explanation.
type explanation struct {
	Decision    shownDecision     `json:"decision"` // as it is on record, with its input
	Explanation release.Explained `json:"explanation"`
}

// inForce is the value of the parameter rules that asks the rules in force.
const inForce = "active"

func (c *Console) explainDecision(call *call) (deed, error) {
	active := call.query("rules") == inForce
	d, err := call.about("decision", "id", func(ctx context.Context, p policy.Permit, id string) (answer, error) {
		found, err := c.decision(ctx, id)
		if err != nil {
			return answer{}, err
		}
		shown, err := showDecision(found, true)
		if err != nil {
			return answer{}, err
		}
		taken, err := shown.taken()
		if err != nil {
			return answer{}, err
		}
		select { // it takes a processor for up to seconds, and devices want some
		case c.explaining <- struct{}{}:
			defer func() { <-c.explaining }()
		case <-ctx.Done():
			return answer{}, ctx.Err()
		}
		explained, err := c.Releases.Explain(ctx, p, taken, active)
		return ok(explanation{shown, explained}), err
	})
	d.parameters = policy.Properties{"rules": call.query("rules")}
	return d, err
}

// taken is the decision as it is to be explained.
func (d *shownDecision) taken() (release.Taken, error) {
	t := release.Taken{ID: d.ID, Policy: d.Policy, Input: d.Input, Verdict: d.Verdict, Reasons: d.Reasons, Profile: d.Profile, Lifetime: d.Lifetime}
	if len(d.Obligations) == 0 {
		return t, nil
	}
	return t, json.Unmarshal(d.Obligations, &t.Obligations)
}

// decision returns the entry of the record with that id, which may be that of no decision.
func (c *Console) decision(ctx context.Context, id string) (audit.Entry, error) {
	unknown := fault.New(fault.NotFound, "decision_unknown", "no decision has this id")
	parsed, err := audit.ParseID(id)
	if err != nil {
		return audit.Entry{}, unknown
	}
	found, err := c.Record.Entry(ctx, parsed)
	if fault.Is(err, fault.NotFound) {
		return audit.Entry{}, unknown
	}
	return found, err
}

// describeDecision describes a decision by the device that it was about, so
// that who is in charge of that device may look at it.
func (c *Console) describeDecision(ctx context.Context, id string) (policy.Properties, error) {
	found, err := c.decision(ctx, id)
	if err != nil {
		return nil, err
	}
	l, err := readLeaf(found)
	if err != nil || l.Object.Type != "device" {
		return nil, err
	}
	return c.belonging(ctx, l.Object.ID, "")
}

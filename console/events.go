package console

import (
	"context"
	"slices"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// listEvents lists decisions as a sink of the decision log gets them. Those that
// the rules keep out of it are not there, so a page may hold fewer than its limit.
func (c *Console) listEvents(call *call) (deed, error) {
	page, err := call.page()
	if err != nil {
		return deed{}, err
	}
	scribe := c.Events()
	d, err := c.listRecord(call, page, call.decisions(page), "record", func(e audit.Entry) (any, error) {
		event, err := scribe.Event(call.Context(), e)
		if event == nil {
			return nil, err
		}
		return event, err
	})
	all := d.do
	d.do = func(ctx context.Context, p policy.Permit) (answer, error) {
		a, err := all(ctx, p)
		if events, ok := a.value.(list[any]); ok {
			events.Items = slices.DeleteFunc(events.Items, func(event any) bool { return event == nil })
			a.value = events
		}
		return a, err
	}
	return d, err
}

// showEvent answers with one decision as a sink of the decision log gets it.
func (c *Console) showEvent(call *call) (deed, error) {
	return call.about("decision", "id", func(ctx context.Context, _ policy.Permit, id string) (answer, error) {
		e, err := c.decision(ctx, id)
		if err != nil {
			return answer{}, err
		}
		if _, err := showDecision(e, false); err != nil { // something else than a decision
			return answer{}, err
		}
		event, err := c.Events().Event(ctx, e)
		if err == nil && event == nil {
			err = fault.New(fault.NotFound, "decision_not_logged", "the rules of package system.log keep this decision out of the decision log")
		}
		return ok(event), err
	})
}

package policy

import (
	"context"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

// Document lays the request out as the input that rules see.
func (r *Request) Document() map[string]any { return r.input() }

// Rehearse returns what Decide would make of the engine's answer to a question
// that was laid out before. Nothing is recorded, and nothing comes of it: no Grant and no Permit.
// A deadline of 0 means DefaultDeadline.
func Rehearse(ctx context.Context, e Engine, a Action, document map[string]any, deadline time.Duration) Answer {
	p := Point{Engine: e, Deadline: deadline}
	return Settle(a, p.evaluate(ctx, a, document), nil)
}

// Settle is what Decide makes of an engine's answer: a deny, unless it is a
// clear allow, or a hold of what can wait.
func Settle(a Action, answer Answer, err error) Answer {
	answer = orDeny(answer, err)
	if answer.Verdict == Hold && !a.Holds() {
		answer.Verdict = Deny
	}
	return answer
}

// upheld returns the answer, or an allow where a guard rail stands above a deny.
func (p *Point) upheld(r *Request, answer Answer) Answer {
	if p.Uphold == nil || answer.Verdict == Allow || !r.Action.Known() {
		return answer
	}
	why, allowed := p.Uphold(r)
	if !allowed {
		return answer
	}
	return Answer{Verdict: Allow, Reasons: []Reason{why}, Policy: Builtin}
}

// Overrule uses the permit up and returns the event of its refusal: for a verb
// that holds to a guard rail where the rules had allowed it. The event is to be recorded before
// the cause, to which its reference is added, is answered.
func (p Permit) Overrule(cause *fault.Error) (audit.Event, *fault.Error) {
	if p.d == nil {
		return audit.Event{}, cause // an event that no record takes
	}
	d := &Decision{id: audit.NewID(p.d.request.At), request: p.d.request, input: p.d.input,
		answer: denial(Builtin, cause.Code, cause.Says)}
	p.d.spent.Store(true)
	refused := *cause
	refused.Ref = d.id.String()
	return d.event(audit.Refused, nil), &refused
}

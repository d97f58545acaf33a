package policy

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

// Point is an enforcement point: where questions are put, bounded and recorded.
type Point struct {
	Engine   Engine
	Journal  audit.Journal
	Warden   Warden                               // carries out quarantines; nil: none can be, and an answer that asks for one is a plain deny
	Deadline time.Duration                        // longest evaluation; 0 means DefaultDeadline
	Observe  func(Action, Verdict, time.Duration) // told of each decision, for metrics; may be nil

	// Uphold is asked when rules deny, and says why this request is allowed all the same: a guard
	// rail that keeps bad rules from locking everybody out. It may be nil.
	Uphold func(*Request) (why Reason, allowed bool)
}

// DefaultDeadline bounds one evaluation.
const DefaultDeadline = time.Second

// Decision is one answered question. Only Decide and Refuse make them.
type Decision struct {
	id      audit.ID
	request Request
	input   []byte // canonical JSON
	answer  Answer
	spent   atomic.Bool // a Grant or Permit of it has been used
}

// usualInput is room for the input of an ordinary enrolment, in bytes of JSON.
const usualInput = 1024

// Decide asks the engine and returns its decision, whatever it is. A refusal
// is in the record before Decide returns, and so is an allowed read; an allowed
// change is recorded with the change, by whoever redeems the Grant or Permit.
// So is a hold of what Holds, with the request that waits. The error is one
// of our own: the record could not be written, and nothing may be answered.
func Decide(ctx context.Context, p *Point, r Request) (*Decision, error) {
	document := r.input()
	d := &Decision{id: audit.NewID(r.At), request: r, input: audit.AppendCanonical(make([]byte, 0, usualInput), document)}
	start := time.Now()
	d.answer = p.upheld(&r, p.evaluate(ctx, r.Action, document))
	if p.Observe != nil {
		p.Observe(r.Action, d.answer.Verdict, time.Since(start))
	}
	switch v := d.answer.Verdict; {
	case v == Allow && r.Action.Reads():
		return p.recorded(ctx, d, audit.Granted)
	case v == Allow, v == Hold && r.Action.Holds():
		return d, nil
	}
	d.answer.Verdict = Deny
	if err := p.refused(ctx, d); err != nil {
		return nil, err
	}
	return d, nil
}

// recorded returns d once it is in the record, and nothing if it cannot be.
func (p *Point) recorded(ctx context.Context, d *Decision, outcome audit.Outcome) (*Decision, error) {
	if err := p.append(ctx, d.event(outcome, nil)); err != nil {
		return nil, err
	}
	return d, nil
}

// refused writes the refusal into the record, and stops the device in the same
// transaction where the answer asks for that and the device itself has asked.
func (p *Point) refused(ctx context.Context, d *Decision) error {
	e := d.event(audit.Refused, nil)
	if p.Warden == nil || !d.answer.obliges(Quarantine) || !d.request.byItsDevice() {
		return p.append(ctx, e)
	}
	reason := "refused"
	if len(d.answer.Reasons) > 0 {
		reason = d.answer.Reasons[0].Code + ": " + d.answer.Reasons[0].Detail
	}
	return unrecorded(p.Warden.Quarantine(ctx, d.request.Resource.ID, reason, e))
}

// byItsDevice reports whether the device that the question is about has asked
// it, and has proven to be that device.
func (r *Request) byItsDevice() bool {
	return r.Subject.Type == "device" && r.Resource.Type == "device" && r.Subject.ID != "" && r.Subject.ID == r.Resource.ID
}

// enrols reports whether a is asked for a certificate.
func (a Action) enrols() bool { return a == IssueCertificate || a == RenewCertificate }

// Holds reports whether a hold of a is kept for a person to decide. For other
// actions a hold is a deny: for reads, for what devices do between enrolments, for what
// people do to their own credentials, and for the very approving, which would wait for itself.
func (a Action) Holds() bool {
	switch a {
	case CreateBackup:
		return true
	case AttestDevice, CertifyAK, ApproveRequest, DenyRequest, RenewOperator, CreateSession, EndSession, OpenBreakglass:
		return false
	}
	return a.Known() && !a.Reads()
}

// evaluate asks the engine within the deadline.
func (p *Point) evaluate(ctx context.Context, a Action, document map[string]any) Answer {
	if !a.Known() {
		return denial("", "unknown_action", fmt.Sprintf("no action is called %q", a))
	}
	limit := p.Deadline
	if limit == 0 {
		limit = DefaultDeadline
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return orDeny(p.Engine.Evaluate(ctx, document))
}

// orDeny turns everything but a clear answer into a deny.
func orDeny(answer Answer, err error) Answer {
	if err != nil {
		return denial(answer.Policy, "policy_error", "the policy gave no answer: "+err.Error())
	}
	for _, o := range answer.Obligations {
		if !knownObligations[o.Type] {
			return denial(answer.Policy, "unknown_obligation", fmt.Sprintf("the policy asks for %q, which this server cannot do", o.Type))
		}
	}
	if answer.Verdict != Deny && answer.obliges(Quarantine) { // a rule that says both has not made up its mind
		return denial(answer.Policy, "misplaced_obligation", "the policy asks for a quarantine and does not deny")
	}
	return answer
}

func denial(digest, code, detail string) Answer {
	return Answer{Reasons: []Reason{{Code: code, Detail: detail}}, Policy: digest}
}

func (p *Point) append(ctx context.Context, e audit.Event) error {
	return unrecorded(p.Journal.Append(ctx, e))
}

// unrecorded is what the caller is told where the record could not be written.
func unrecorded(err error) error {
	if err == nil {
		return nil
	}
	return fault.Wrap(fault.Busy, "record_unavailable", "the record cannot be written; nothing was done", err)
}

// Builtin stands where a record names the policy's digest if the refusal needed
// no rules: the server itself holds to it, whatever the rules say.
const Builtin = "builtin"

// Refuse records a refusal that needed no rules, such as a proof that does
// not hold, and returns cause with the reference that finds it. A cause that
// already carries a reference is recorded already and comes back as it is.
func Refuse(ctx context.Context, p *Point, r Request, cause *fault.Error) error {
	return refuse(ctx, p, r, cause)
}

// Confine is Refuse for a device that is not what it should be: it is also
// stopped until an operator releases it, in the refusal's transaction. Only a device that has
// asked for itself is; a refusal of anybody else is only that.
func Confine(ctx context.Context, p *Point, r Request, cause *fault.Error) error {
	return refuse(ctx, p, r, cause, Obligation{Type: Quarantine})
}

func refuse(ctx context.Context, p *Point, r Request, cause *fault.Error, obligations ...Obligation) error {
	if cause.Ref != "" {
		return cause
	}
	d := &Decision{id: audit.NewID(r.At), request: r, input: audit.AppendCanonical(nil, r.input()),
		answer: denial(Builtin, cause.Code, cause.Says)}
	if p.Warden != nil && r.byItsDevice() {
		d.answer.Obligations = obligations
	}
	if err := p.refused(ctx, d); err != nil {
		return err
	}
	refused := *cause
	refused.Ref = d.id.String()
	return &refused
}

// ID is the decision's id, under which the record holds it.
func (d *Decision) ID() audit.ID { return d.id }

// Verdict is what was decided.
func (d *Decision) Verdict() Verdict { return d.answer.Verdict }

// Reasons says why.
func (d *Decision) Reasons() []Reason { return d.answer.Reasons }

// Held returns the event of what has to wait, to be recorded together with the
// waiting request.
func (d *Decision) Held(fact Properties) (audit.Event, error) {
	if d.answer.Verdict != Hold || !d.spent.CompareAndSwap(false, true) {
		return audit.Event{}, fmt.Errorf("decision %s is not a hold, or was used already", d.id)
	}
	return d.event(audit.Held, fact), nil
}

// refusal is the decision as an error for the caller.
func (d *Decision) refusal() error {
	e := &fault.Error{Kind: fault.Denied, Code: "denied", Says: "policy does not allow this", Ref: d.id.String()}
	if d.answer.Verdict == Hold {
		e.Kind, e.Code, e.Says = fault.Held, "held", "waiting for an operator's approval"
	}
	if len(d.answer.Reasons) > 0 {
		e.Code, e.Says = d.answer.Reasons[0].Code, d.answer.Reasons[0].Detail
	}
	if e.Code == "policy_error" { // the engine's words are for the record, not for the caller
		e.Says = "the policy gave no answer; see the recorded decision"
	}
	return e
}

// event is the decision as it stands in the record.
func (d *Decision) event(outcome audit.Outcome, fact Properties) audit.Event {
	r := &d.request
	e := audit.Event{
		ID: d.id, At: r.At, Action: string(r.Action),
		Actor:   audit.Party{Type: r.Subject.Type, ID: r.Subject.ID},
		Object:  audit.Party{Type: r.Resource.Type, ID: r.Resource.ID},
		Outcome: outcome, Source: r.Source, Request: r.RequestID,
		Decision: d.document(),
	}
	if outcome == audit.Granted {
		e.Approval = r.Approval
	}
	if fact != nil {
		e.Fact = audit.AppendCanonical(make([]byte, 0, 512), fact)
	}
	return e
}

// document is the decision as canonical JSON: what was asked, of which rules, and the answer.
func (d *Decision) document() json.RawMessage {
	a := &d.answer
	doc := map[string]any{
		"input":   json.RawMessage(d.input),
		"policy":  a.Policy,
		"verdict": a.Verdict.String(),
	}
	if len(a.Reasons) > 0 {
		reasons := make([]any, len(a.Reasons))
		for i, r := range a.Reasons {
			reasons[i] = map[string]any{"code": r.Code, "detail": r.Detail}
		}
		doc["reasons"] = reasons
	}
	if a.Profile != "" {
		doc["profile"] = a.Profile
	}
	if a.Lifetime > 0 {
		doc["lifetime"] = a.Lifetime.String()
	}
	if len(a.Obligations) > 0 {
		kinds := make([]any, len(a.Obligations))
		for i, o := range a.Obligations {
			kinds[i] = map[string]any{"type": o.Type}
		}
		doc["obligations"] = kinds
	}
	return audit.AppendCanonical(make([]byte, 0, len(d.input)+256), doc)
}

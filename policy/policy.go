// Package policy decides. It is the only maker of Grants, which the
// certificate authority signs on, and of Permits, which every management verb
// demands; so code that skips the decision does not compile.
//
// The rules themselves live behind the Engine, in Rego. This room knows only
// the shape of a question and of an answer (AuthZEN: subject, action,
// resource, context), and that everything which is not a clear yes is a no.
package policy

import (
	"context"
	"slices"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
)

// Properties are open JSON members. Values are limited to what
// audit.AppendCanonical writes: nil, bool, string, int, int64, []string,
// []any and map[string]any.
type Properties = map[string]any

// Entity is a subject or a resource.
type Entity struct {
	Type       string // device, user, service; certificate, token, anchor, request, decision, record …
	ID         string
	Properties Properties
}

// Request is one question: may this subject do this to that?
type Request struct {
	Subject    Entity
	Action     Action
	Parameters Properties // what is asked for exactly: profile, lifetime, key …
	Resource   Entity
	Context    Properties // what else rules may want to know; time, ip and request_id are filled in from below
	At         time.Time  // when it was asked; becomes input.context.time, so that a replay is exact
	Source     string     // the caller's IP address
	RequestID  string     // finds the log lines
	Approval   string     // id of the held request that is used up if this is allowed and done; empty: none
}

// input lays the request out as the document that rules see.
func (r *Request) input() map[string]any {
	c := make(map[string]any, len(r.Context)+3)
	for k, v := range r.Context {
		c[k] = v
	}
	c["time"] = r.At.UTC().Format("2006-01-02T15:04:05.000Z")
	c["ip"] = r.Source
	c["request_id"] = r.RequestID
	return map[string]any{
		"subject":  r.Subject.input(),
		"action":   map[string]any{"name": string(r.Action), "properties": orEmpty(r.Parameters)},
		"resource": r.Resource.input(),
		"context":  c,
	}
}

func (e *Entity) input() map[string]any {
	return map[string]any{"type": e.Type, "id": e.ID, "properties": orEmpty(e.Properties)}
}

func orEmpty(p Properties) map[string]any {
	if p == nil {
		return map[string]any{}
	}
	return p
}

// Verdict is what was decided. The zero Verdict denies.
type Verdict int

// The verdicts.
const (
	Deny Verdict = iota
	Hold         // a person has to look first
	Allow
)

// String returns the word that rules and records use.
func (v Verdict) String() string {
	switch v {
	case Allow:
		return "allow"
	case Hold:
		return "hold"
	}
	return "deny"
}

// Reason says why, in a code for machines and a sentence for people.
type Reason struct {
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

// Obligation is a condition that the enforcement point must meet. One it does
// not know turns the verdict to deny.
type Obligation struct {
	Type string `json:"type"`
}

// The obligations that this server can meet.
const (
	Admit      = "admit"      // of an allow: take the unknown device into the register
	Quarantine = "quarantine" // of a deny: stop the device until an operator releases it
)

// Warden quarantines the device that a refusal is about, in one transaction
// with the refusal's event. A device that is not in service keeps its state, and
// the event is still written.
type Warden interface {
	Quarantine(ctx context.Context, device, reason string, e audit.Event) error
}

// knownObligations are those that the enforcement points of this server meet.
var knownObligations = map[string]bool{Admit: true, Quarantine: true}

// Answer is what an Engine makes of an input. Its zero value denies.
type Answer struct {
	Verdict     Verdict
	Reasons     []Reason
	Profile     string        // issue by this profile instead of the one asked for; empty leaves it
	Lifetime    time.Duration // issue for this long at most; 0 leaves it to the profile
	Obligations []Obligation
	Policy      string // digest of the rules that answered, as "sha256:<hex>"
}

// obliges reports whether the answer carries that obligation.
func (a *Answer) obliges(kind string) bool {
	return slices.Contains(a.Obligations, Obligation{Type: kind})
}

// Engine evaluates the active rules. An error is a deny; so is running past ctx.
type Engine interface {
	Evaluate(ctx context.Context, input map[string]any) (Answer, error)
}

package console

import (
	"context"
	"encoding/json"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// shownDecision is one decision as callers see it.
type shownDecision struct {
	ID          string          `json:"id"`
	Index       *int64          `json:"index"`
	At          string          `json:"at"`
	Action      string          `json:"action"`
	Actor       audit.Party     `json:"actor"`
	Object      audit.Party     `json:"object"`
	Verdict     string          `json:"verdict"` // what the rules said: allow, hold or deny
	Outcome     audit.Outcome   `json:"outcome"` // what became of it: granted, held or refused
	Reasons     []policy.Reason `json:"reasons,omitempty"`
	Policy      string          `json:"policy"` // digest of the rules that answered; empty where none were asked
	Profile     string          `json:"profile,omitempty"`
	Lifetime    string          `json:"lifetime,omitempty"`
	Obligations json.RawMessage `json:"obligations,omitempty"`
	Source      string          `json:"source,omitempty"`
	Request     string          `json:"request,omitempty"`
	Input       json.RawMessage `json:"input,omitempty"` // what the rules saw; only when one decision is shown
	Fact        json.RawMessage `json:"fact,omitempty"`  // what changed; likewise
}

func showDecision(e audit.Entry, whole bool) (shownDecision, error) {
	l, err := readLeaf(e)
	if err != nil {
		return shownDecision{}, err
	}
	if l.Decision == nil {
		return shownDecision{}, fault.New(fault.NotFound, "decision_unknown", "no decision has this id")
	}
	d := shownDecision{
		ID: l.ID.String(), Index: place(e), At: l.At, Action: l.Action, Actor: l.Actor, Object: l.Object,
		Verdict: l.Decision.Verdict, Outcome: l.Outcome, Reasons: l.Decision.Reasons, Policy: l.Decision.Policy,
		Profile: l.Decision.Profile, Lifetime: l.Decision.Lifetime, Obligations: l.Decision.Obligations,
		Source: l.Source, Request: l.Request,
	}
	if whole {
		d.Input, d.Fact = l.Decision.Input, l.Fact
	}
	return d, nil
}

// verdicts are the words for an outcome that decisions are filtered by.
var verdicts = map[string]audit.Outcome{
	"": "", policy.Allow.String(): audit.Granted, policy.Hold.String(): audit.Held, policy.Deny.String(): audit.Refused,
}

func (c *Console) listDecisions(call *call) (deed, error) {
	page, err := call.page()
	if err != nil {
		return deed{}, err
	}
	return c.listRecord(call, page, call.decisions(page), "decision", func(e audit.Entry) (any, error) { return showDecision(e, false) })
}

// decisions are those that the call's filters select.
func (call *call) decisions(page page) audit.Query {
	return audit.Query{
		Action: call.query("action"), Actor: call.query("actor"), Object: call.query("device"),
		Outcome: verdicts[call.query("verdict")], Decided: true, Limit: page.ask(),
	}
}

func (c *Console) showDecision(call *call) (deed, error) {
	return call.about("decision", "id", func(ctx context.Context, _ policy.Permit, id string) (answer, error) {
		e, err := c.decision(ctx, id)
		if err != nil {
			return answer{}, err
		}
		shown, err := showDecision(e, true)
		return ok(shown), err
	})
}

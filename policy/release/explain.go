package release

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
	"github.com/hallmark-pki/hallmark/policy/rego"
)

// Explained is a decision of the record, asked once more.
type Explained struct {
	Rules  string `json:"rules"`  // digest of the rules that were asked now; "builtin" where the server itself had decided, and none were
	Source string `json:"source"` // where they come from: "in force", "on trial: ID", "revision N", "proposal ID"; empty for builtin
	Same   bool   `json:"same"`   // they are the rules that decided
	Agrees bool   `json:"agrees"` // the answer is the one that is on record

	Verdict     string          `json:"verdict"` // of the rules that were asked now
	Reasons     []policy.Reason `json:"reasons"`
	Profile     string          `json:"profile,omitempty"`
	Lifetime    string          `json:"lifetime,omitempty"`
	Obligations []string        `json:"obligations,omitempty"`

	rego.Explanation
}

// Taken is a decision as the record tells of it.
type Taken struct {
	ID          string
	Policy      string // digest of the rules that took it; policy.Builtin or empty where none were asked
	Input       []byte // JSON, as the rules saw it
	Verdict     string
	Reasons     []policy.Reason
	Profile     string
	Lifetime    string
	Obligations []policy.Obligation
}

// Explain asks the rules that took a decision once more, and says which of them
// fired, which came near, and what would have been allowed. With active it asks the rules
// in force instead. The permit is for the decision's id. Where the rules are no longer
// kept, as they came from the policy directory, it is a Conflict with the code rules_gone. It takes
// seconds at most.
func (r *Releases) Explain(ctx context.Context, p policy.Permit, d Taken, active bool) (Explained, error) {
	if err := p.Covers(policy.ExplainPolicy, d.ID); err != nil {
		return Explained{}, err
	}
	if (d.Policy == policy.Builtin || d.Policy == "") && !active {
		return d.builtin(), nil
	}
	input, err := inputOf(d.Input)
	if err != nil {
		return Explained{}, fmt.Errorf("the input of decision %s cannot be read: %w", d.ID, err)
	}
	rules, source, err := r.rulesOf(ctx, d.Policy, active)
	if err != nil {
		return Explained{}, err
	}
	found, err := rules.Explain(ctx, input)
	if err != nil {
		return Explained{}, fmt.Errorf("explaining decision %s: %w", d.ID, err)
	}
	x := Explained{Explanation: found, Rules: rules.Digest(), Source: source, Same: rules.Digest() == d.Policy}
	x.tell(&found.Answer)
	x.Agrees = d.agrees(&x)
	return x, nil
}

// inputOf reads a recorded input as rules saw it. Numbers are integers there.
func inputOf(text []byte) (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var input map[string]any
	if err := d.Decode(&input); err != nil {
		return nil, err
	}
	whole, err := wholeNumbers(input)
	input, _ = whole.(map[string]any)
	return input, err
}

// wholeNumbers turns the numbers in v into those that policy.Properties allows.
func wholeNumbers(v any) (_ any, err error) {
	switch v := v.(type) {
	case json.Number:
		return v.Int64()
	case map[string]any:
		for name := range v {
			if v[name], err = wholeNumbers(v[name]); err != nil {
				return nil, err
			}
		}
	case []any:
		for i := range v {
			if v[i], err = wholeNumbers(v[i]); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

// tell fills in the answer.
func (x *Explained) tell(a *policy.Answer) {
	x.Verdict, x.Reasons, x.Profile = a.Verdict.String(), a.Reasons, a.Profile
	if x.Reasons == nil {
		x.Reasons = []policy.Reason{}
	}
	if a.Lifetime > 0 {
		x.Lifetime = a.Lifetime.String()
	}
	for _, o := range a.Obligations {
		x.Obligations = append(x.Obligations, o.Type)
	}
}

// builtin is what there is to say where the server itself decided: no rules were asked.
func (d *Taken) builtin() Explained {
	x := Explained{Rules: policy.Builtin, Same: true, Agrees: true,
		Explanation: rego.Explanation{Fired: []rego.Fired{}, Near: []rego.Near{}, Ways: [][]rego.Change{}, Labels: []map[string]any{}}}
	x.tell(&policy.Answer{Reasons: d.Reasons, Obligations: d.Obligations})
	x.Verdict = d.Verdict
	return x
}

// agrees reports whether the answer is the one that the record tells of.
func (d *Taken) agrees(x *Explained) bool {
	return d.Verdict == x.Verdict && d.Profile == x.Profile && d.Lifetime == x.Lifetime && slices.Equal(d.Reasons, x.Reasons) &&
		slices.EqualFunc(d.Obligations, x.Obligations, func(a policy.Obligation, b string) bool { return a.Type == b })
}

// How far back rules are looked for by their digest.
const (
	mostRevisions = 1000
	mostProposals = 300
)

// rulesOf returns the rules with that digest, or those in force, and where they come from.
func (r *Releases) rulesOf(ctx context.Context, digest string, active bool) (Rules, string, error) {
	l := r.Running.lineup.Load()
	switch {
	case active || l.active.Digest() == digest:
		return l.active, "in force", nil
	case l.trial != nil && l.trial.rules.Digest() == digest:
		return l.trial.rules, "on trial: " + l.trial.proposal, nil
	}
	bundle, source, err := r.kept(ctx, digest)
	if err != nil {
		return nil, "", err
	}
	rules, err := r.Language.Load(ctx, bundle)
	if err != nil {
		return nil, "", fault.Wrap(fault.Conflict, "rules_unusable", "the rules of "+source+" cannot be loaded by this version", err)
	}
	return rules, source, nil
}

// kept returns the bundle with that digest, of a revision or else of a proposal that was on trial.
func (r *Releases) kept(ctx context.Context, digest string) (bundle []byte, source string, err error) {
	for before, seen := int64(0), 0; seen < mostRevisions; {
		found, err := r.Revisions.Revisions(ctx, RevisionFilter{Before: before})
		if err != nil {
			return nil, "", err
		}
		if len(found) == 0 {
			break
		}
		for _, v := range found {
			if v.Digest == digest {
				whole, err := r.Running.revision(ctx, v.Number)
				return whole.Bundle, "revision " + number(v.Number), err
			}
		}
		before, seen = found[len(found)-1].Number, seen+len(found)
	}
	return r.keptProposal(ctx, digest)
}

func (r *Releases) keptProposal(ctx context.Context, digest string) (bundle []byte, source string, err error) {
	for before, seen := "", 0; seen < mostProposals; {
		found, err := r.Proposals.Proposals(ctx, ProposalFilter{Before: before})
		if err != nil {
			return nil, "", err
		}
		if len(found) == 0 {
			break
		}
		for _, v := range found {
			if v.Digest == digest {
				whole, err := find(ctx, r.Proposals, v.ID)
				return whole.Bundle, "proposal " + v.ID, err
			}
		}
		before, seen = found[len(found)-1].ID, seen+len(found)
	}
	return nil, "", fault.New(fault.Conflict, "rules_gone", "the rules "+digest+
		" are not kept here: they came from the policy directory, which holds others by now; the rules in force can be asked instead")
}

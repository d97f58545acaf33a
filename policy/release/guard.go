package release

import (
	"context"
	"time"

	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// Rules may have hours of work: an operator counts as able to do what is allowed
// at any of these times of the coming week.
const (
	ahead  = 7 * 24 * time.Hour
	stride = 3 * time.Hour
)

// mostPeople bounds how many operators are asked about other times than now.
const mostPeople = 100

// somebodyLeft refuses rules under which nobody could change the rules any more.
// Two different operators have to remain, of whom one may propose and as many others
// approve as the rules ask for, and somebody who may activate. Where the
// register has one operator only, that one has to be able to roll back.
func (r *Releases) somebodyLeft(ctx context.Context, rules Rules) (*fault.Error, error) {
	people, err := r.Operators(ctx)
	if err != nil {
		return nil, err
	}
	if left, err := r.able(ctx, rules, people); left || err != nil {
		return nil, err
	}
	says := "under these rules no two different operators would be left who can propose, approve and activate a policy"
	if len(people) < 2 {
		says = "under these rules nobody would be left who can roll the policy back"
	}
	return fault.New(fault.Denied, "nobody_left", says), nil
}

// able reports whether the people can change the rules under these rules.
func (r *Releases) able(ctx context.Context, rules Rules, people []policy.Entity) (bool, error) {
	now := r.Now()
	if c := (census{rules: rules, people: people}); c.able(ctx, now) {
		return true, nil
	}
	c := census{rules: rules, people: people[:min(len(people), mostPeople)]}
	for at := now; at.Before(now.Add(ahead)); at = at.Add(stride) {
		if c.able(ctx, at) {
			return true, nil
		}
		if err := ctx.Err(); err != nil {
			return false, err
		}
	}
	return false, nil
}

// census asks rules what people may do. What somebody may do at one time counts for all.
type census struct {
	rules  Rules
	people []policy.Entity

	proposes, approves, activates, returns map[string]bool
}

// able asks everybody anew at the time given, and reports whether they can change the rules between them.
func (c *census) able(ctx context.Context, at time.Time) bool {
	for _, q := range []struct {
		action policy.Action
		able   *map[string]bool
	}{{policy.ProposePolicy, &c.proposes}, {policy.ApprovePolicy, &c.approves}, {policy.ActivatePolicy, &c.activates}, {policy.RollbackPolicy, &c.returns}} {
		if *q.able == nil {
			*q.able = map[string]bool{}
		}
		for _, person := range c.people {
			if !(*q.able)[person.ID] && mayChange(ctx, c.rules, person, q.action, at) {
				(*q.able)[person.ID] = true
			}
		}
	}
	if len(c.people) < 2 {
		return len(c.returns) > 0
	}
	needed := approvalsNeeded(c.rules.Settings())
	for proposer := range c.proposes {
		others := len(c.approves)
		if c.approves[proposer] {
			others--
		}
		if others >= needed && len(c.activates) > 0 {
			return true
		}
	}
	return false
}

// mayChange asks the rules whether the person may do that to a policy that another has proposed.
func mayChange(ctx context.Context, rules Rules, person policy.Entity, a policy.Action, at time.Time) bool {
	proposal := Proposal{ID: "rehearsal", State: Approved, Author: "somebody else"}
	resource, change := proposal.Question()
	q := policy.Request{Subject: person, Action: a, Resource: resource, Context: policy.Properties{"change": change}, At: at, RequestID: "rehearsal"}
	return policy.Rehearse(ctx, rules, a, q.Document(), 0).Verdict == policy.Allow
}

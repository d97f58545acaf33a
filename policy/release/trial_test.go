package release_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/policy"
	"github.com/hallmark-pki/hallmark/policy/release"
)

// TestExpiry: a proposal that nobody puts in force in time is none any more; one on trial stays.
func TestExpiry(t *testing.T) {
	w := newWorld(t, rules(t, "false", "true", "{}"))
	tried, idle := w.approved(rules(t, "false", "true", `{"n": 1}`)), w.proposed(rules(t, "false", "true", `{"n": 2}`))
	_, err := w.activate(tried.ID, release.Stage{Kind: release.ToShadow})
	must(t, err)
	w.pass(release.Lifetime + time.Minute)
	p, err := w.Find(t.Context(), idle.ID)
	if must(t, err); p.State != release.Expired {
		t.Errorf("it is %s", p.State)
	}
	_, err = w.Approve(t.Context(), w.permit("eve", policy.ApprovePolicy, idle.ID), release.Vote{ID: idle.ID})
	wants(t, err, "proposal_expired")
	_, err = w.activate(tried.ID, all)
	must(t, err)
}

// TestEndsDuringTrial: who rejects or withdraws what is on trial ends the trial.
func TestEndsDuringTrial(t *testing.T) {
	w := newWorld(t, rules(t, "false", "true", "{}"))
	w.devices = []string{"gw-1", "gw-2"}
	_, err := w.Withdraw(t.Context(), w.permit("eve", policy.WithdrawPolicy, w.proposed(rules(t, "false", "true", `{"n": 0}`)).ID), "", "")
	if err == nil {
		t.Error("a permit for one proposal ends another")
	}
	for n, end := range []func(id string) (release.Proposal, error){
		func(id string) (release.Proposal, error) {
			return w.Reject(t.Context(), w.permit("eve", policy.RejectPolicy, id), id, "no")
		},
		func(id string) (release.Proposal, error) {
			_, err := w.Withdraw(t.Context(), w.permit("eve", policy.WithdrawPolicy, id), id, "not mine")
			wants(t, err, "not_author")
			return w.Withdraw(t.Context(), w.permit("ada", policy.WithdrawPolicy, id), id, "mine")
		}} {
		for _, stage := range []release.Stage{{Kind: release.ToShadow}, {Kind: release.ToPercent, Percent: 99}} {
			p := w.approved(rules(t, `input.resource.id == "gw-2"`, "true", fmt.Sprintf(`{"n": %d, "k": %d}`, n+1, stage.Percent)))
			_, err := w.activate(p.ID, stage)
			must(t, err)
			other := w.approved(rules(t, "false", "true", fmt.Sprintf(`{"o": %d, "k": %d}`, n, stage.Percent)))
			_, err = w.activate(other.ID, stage)
			wants(t, err, "trial_on")
			p, err = end(p.ID)
			must(t, err)
			if p.State != release.Rejected && p.State != release.Withdrawn || w.Running.Course().Trial != "" {
				t.Errorf("it is %s, and on trial is %q", p.State, w.Running.Course().Trial)
			}
			if d := w.renews("gw-2"); d.Verdict() != policy.Allow {
				t.Errorf("the trial goes on: %v", d.Reasons())
			}
		}
	}
}

// TestReloadSupersedes: a proposal changes the rules that it was made for, and no others.
func TestReloadSupersedes(t *testing.T) {
	w := newWorld(t, rules(t, "false", "true", "{}"))
	p := w.approved(rules(t, "false", "true", `{"n": 1}`))
	next := rules(t, "false", "true", `{"n": 2}`)
	w.Running.Directory = func(context.Context) ([]byte, error) { return next, nil }
	must(t, w.Running.Reload(t.Context()))
	_, err := w.activate(p.ID, all)
	wants(t, err, "proposal_superseded")
	if p, err = w.Find(t.Context(), p.ID); err != nil || p.State != release.Superseded || !strings.Contains(p.Why, "propose it anew") {
		t.Errorf("it is %s, %s, %v", p.State, p.Why, err)
	}
}

// TestShadowIsCounted: what a proposal in shadow would have answered otherwise is kept, listed, and changes nothing.
func TestShadowIsCounted(t *testing.T) {
	w := newWorld(t, rules(t, "false", "true", "{}"))
	w.devices = []string{"gw-1", "gw-2"}
	p := w.approved(rules(t, `input.resource.id == "gw-2"`, "true", "{}"))
	_, err := w.activate(p.ID, release.Stage{Kind: release.ToShadow})
	must(t, err)
	w.working()
	for range 10 {
		for _, d := range w.devices {
			if got := w.renews(d); got.Verdict() != policy.Allow {
				t.Fatalf("rules in shadow refuse: %v", got.Reasons())
			}
		}
	}
	for p.Trial == nil || p.Trial.Asked < 20 {
		w.pass(5 * time.Second) // what was counted is kept every ten
		time.Sleep(20 * time.Millisecond)
		p, err = w.Find(t.Context(), p.ID)
		must(t, err)
	}
	if p.Trial.Refused != 10 || p.Trial.WasRefused != 0 || p.Trial.Total(release.AllowToDeny) != 10 {
		t.Errorf("the trial came to %+v", p.Trial)
	}
	found, err := w.FindDifferences(t.Context(), w.permit("lin", policy.ShowPolicy, p.ID), p.ID, release.DifferenceFilter{Part: release.OnTrial, Resource: "gw-2"})
	if must(t, err); len(found) != 1 || found[0].Count != 10 || found[0].Is.Code != "refused" {
		t.Errorf("listed are %+v", found)
	}
}

// TestStages: a device stays on its side, the share only grows, and profiles choose who enrols under them.
func TestStages(t *testing.T) {
	w := newWorld(t, rules(t, "false", "true", "{}"))
	for i := range 500 {
		w.devices = append(w.devices, fmt.Sprintf("gw-%d", i))
	}
	p := w.approved(rules(t, `input.resource.id == "gw-0"`, "true", "{}"))
	side := func() (staged []string) {
		for _, d := range w.devices {
			if policy.Rehearse(t.Context(), w.Running, policy.RenewCertificate, asks(d, w.clock()), 0).Policy == p.Digest {
				staged = append(staged, d)
			}
		}
		return staged
	}
	var before []string
	for _, percent := range []int{5, 20, 50, 80, 99} {
		_, err := w.activate(p.ID, release.Stage{Kind: release.ToPercent, Percent: percent})
		must(t, err)
		now := side()
		for _, d := range before {
			if !slices.Contains(now, d) {
				t.Fatalf("%s has left when the share grew to %d %%", d, percent)
			}
		}
		if n := len(now) / 5; n < percent-8 || n > percent+8 || !slices.Equal(now, side()) {
			t.Errorf("%d %% of the devices are on the side of %d %%, or they move", n, percent)
		}
		other := w.replica(rules(t, "true", "true", "{}")) // every replica chooses the same ones
		if got := policy.Rehearse(t.Context(), other.Running, policy.RenewCertificate, asks(now[0], w.clock()), 0); got.Policy != p.Digest {
			t.Errorf("another replica answers %s by %s", now[0], got.Policy)
		}
		before = now
	}
	_, err := w.activate(p.ID, release.Stage{Kind: release.ToProfiles, Profiles: []string{"sensor"}})
	must(t, err)
	if n := len(side()); n != 0 {
		t.Errorf("%d devices of another profile are on the staged side", n)
	}
	_, err = w.activate(p.ID, release.Stage{Kind: release.ToProfiles, Profiles: []string{"sensor", "default"}})
	must(t, err)
	if n := len(side()); n != 500 {
		t.Errorf("%d of 500 devices of the profile are on the staged side", n)
	}
	operator := policy.Request{Subject: policy.Entity{Type: "user", ID: "eve"}, Action: policy.ListPolicies, Resource: policy.Entity{Type: "policy"}, At: w.clock()}
	if got := policy.Rehearse(t.Context(), w.Running, operator.Action, operator.Document(), 0); got.Policy == p.Digest {
		t.Error("an operator's question went to the rules on trial")
	}
}

// TestFallbackDoesNotFlap: a few refusals, and as many as the rules in force have, take no trial back.
func TestFallbackDoesNotFlap(t *testing.T) {
	for name, c := range map[string]struct {
		active, trial string
		asked         int
	}{
		"too few to say":      {"false", "true", 20},
		"as many as before":   {`endswith(input.resource.id, "7")`, `endswith(input.resource.id, "8")`, 300},
		"three of a hundred":  {`input.resource.id == "gw-1"`, `input.resource.id in {"gw-1", "gw-2", "gw-3"}`, 100},
		"nobody was refused":  {"false", "false", 200},
		"fewer than in force": {`endswith(input.resource.id, "7")`, "false", 200},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, rules(t, c.active, "true", "{}"))
			w.devices = []string{"gw-x"}
			p := w.approved(rules(t, c.trial, "true", `{"n": 1}`))
			a := release.Activation{ID: p.ID, Stage: release.Stage{Kind: release.ToPercent, Percent: 99}, AcceptRefusals: p.Replay.Fleet.Refused}
			ask := func() {
				for i := range c.asked {
					policy.Rehearse(t.Context(), w.Running, policy.RenewCertificate, asks(fmt.Sprintf("gw-%d", i), w.clock()), 0)
				}
			}
			ask() // what is usual
			_, err := w.Activate(t.Context(), w.permit("lin", policy.ActivatePolicy, p.ID), a)
			must(t, err)
			ask()
			w.working()
			time.Sleep(1200 * time.Millisecond) // one look
			if p, err = w.Find(t.Context(), p.ID); err != nil || p.State != release.Staged {
				t.Errorf("it is %s: %s, %v", p.State, p.Why, err)
			}
		})
	}
}

// TestRollbackToAnyRevision: one call, to whichever was ever in force.
func TestRollbackToAnyRevision(t *testing.T) {
	w := newWorld(t, rules(t, "false", "true", "{}"))
	digests := []string{"", w.Running.Digest()}
	for n := range 4 {
		p := w.approved(rules(t, "false", "true", fmt.Sprintf(`{"n": %d}`, n)))
		_, err := w.activate(p.ID, all)
		must(t, err)
		digests = append(digests, p.Digest)
	}
	for _, to := range []int64{1, 4, 2, 5, 3} {
		made, err := w.Rollback(t.Context(), w.permit("lin", policy.RollbackPolicy, fmt.Sprint(to)), release.Return{To: to})
		must(t, err)
		if w.Running.Digest() != digests[to] || made.Of != to || made.Digest != digests[to] {
			t.Errorf("back to %d came to %+v", to, made)
		}
	}
	_, err := w.Rollback(t.Context(), w.permit("lin", policy.RollbackPolicy, "99"), release.Return{To: 99})
	wants(t, err, "revision_unknown")
}

// failing is a language that cannot load some rules any more, as an older version may not.
type failing struct {
	release.Language
	digest string
}

func (f failing) Load(ctx context.Context, bundle []byte) (release.Rules, error) {
	r, err := f.Language.Load(ctx, bundle)
	if err == nil && r.Digest() == f.digest {
		return nil, errors.New("an unknown builtin")
	}
	return r, err
}

// TestReplicaThatCannotFollow keeps the rules from before, says so, and follows again when it can.
func TestReplicaThatCannotFollow(t *testing.T) {
	w := newWorld(t, rules(t, `input.resource.id == "gw-9"`, "true", "{}"))
	w.devices = []string{"gw-1"}
	base := w.Running.Digest()
	p := w.approved(rules(t, "false", "true", "{}"))
	old := w.replica(rules(t, `input.resource.id == "gw-9"`, "true", "{}"))
	old.Running.Language = failing{language{}, p.Digest}
	_, err := w.activate(p.ID, all)
	must(t, err)
	if err := old.Running.Follow(t.Context()); err == nil || old.Running.Behind() == nil {
		t.Error("nobody is told")
	}
	if got := policy.Rehearse(t.Context(), old.Running, policy.RenewCertificate, asks("gw-9", w.clock()), 0); old.Running.Digest() != base || got.Verdict != policy.Deny || got.Policy != base {
		t.Errorf("it answers %v by %s", got.Verdict, got.Policy)
	}
	_, err = w.Rollback(t.Context(), w.permit("lin", policy.RollbackPolicy, ""), release.Return{})
	must(t, err)
	if err := old.Running.Follow(t.Context()); err != nil || old.Running.Behind() != nil || old.Running.Course() != w.Running.Course() {
		t.Errorf("it does not follow again: %v", err)
	}
}

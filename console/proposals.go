package console

import (
	"context"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
	"github.com/hallmark-pki/hallmark/policy/release"
)

// proposePolicy takes a bundle in; its body is an OPA bundle, and what else there is to say stands in the query.
func (c *Console) proposePolicy(call *call) (deed, error) {
	if err := call.mediaType(bundleType); err != nil {
		return deed{}, err
	}
	id, base, note := audit.NewID(call.at).String(), call.query("base"), call.query("note")
	return deed{
		made:       true,
		resource:   policyThing(id),
		parameters: policy.Properties{"base": base, "note": note},
		// The body is read only after policy has permitted it: it is large.
		do: func(ctx context.Context, p policy.Permit) (answer, error) {
			packed, err := call.all(release.MaxBundle)
			if err != nil {
				return answer{}, err
			}
			if !c.rehearsal.TryLock() {
				return answer{}, errRehearsing
			}
			defer c.rehearsal.Unlock()
			made, err := c.Releases.Propose(ctx, p, release.Draft{ID: id, Bundle: packed, Base: base, Note: note})
			if err != nil {
				return answer{}, withReport(err, &made.Report)
			}
			return created("/api/v1/policy/proposals/"+id, made), nil
		},
	}, nil
}

// errRehearsing answers who would have rules checked while others are:
// it takes all the processors that there are, and devices want some of them.
var errRehearsing = &fault.Error{Kind: fault.Busy, Code: "rehearsal_running", Says: "other rules are being checked", After: 5 * time.Second}

// reported is an error about rules, with what is wrong with them one by one.
type reported struct {
	cause    error
	problems []string
}

// Error returns the cause's text.
func (r *reported) Error() string { return r.cause.Error() }

// Unwrap returns the cause.
func (r *reported) Unwrap() error { return r.cause }

// withReport adds what a report has found to the error.
func withReport(err error, report *release.Report) error {
	problems := report.Problems
	for _, name := range report.Failed {
		problems = append(problems, "the test "+name+" fails")
	}
	if len(problems) == 0 {
		return err
	}
	return &reported{err, problems}
}

func (c *Console) listProposals(call *call) (deed, error) {
	page, err := call.page()
	if err != nil {
		return deed{}, err
	}
	state := call.query("state")
	filter := release.ProposalFilter{State: release.State(state), Author: call.query("author"), Before: page.cursor, Limit: page.ask()}
	return deed{
		resource:   policyThing(""),
		parameters: policy.Properties{"state": state, "author": filter.Author},
		do: func(ctx context.Context, p policy.Permit) (answer, error) {
			found, err := c.Releases.List(ctx, p, filter)
			if err != nil {
				return answer{}, err
			}
			return listOf(page, found, func(p release.Proposal) string { return p.ID }, same), nil
		},
	}, nil
}

func (c *Console) showProposal(call *call) (deed, error) {
	return call.about("policy", "id", func(ctx context.Context, p policy.Permit, id string) (answer, error) {
		found, err := c.Releases.Show(ctx, p, id)
		return ok(found), err
	})
}

func (c *Console) fetchProposal(call *call) (deed, error) {
	return call.about("policy", "id", func(ctx context.Context, p policy.Permit, id string) (answer, error) {
		found, err := c.Releases.Show(ctx, p, id)
		return bundled(found.Bundle), err
	})
}

// rehearsal is the body of POST /policy/proposals/{id}/replay. All of it is optional.
type rehearsal struct {
	Last string `json:"last,omitempty"` // how far back, such as 7d
}

func (c *Console) replayProposal(call *call) (deed, error) {
	var body rehearsal
	if err := call.decode(&body, true); err != nil {
		return deed{}, err
	}
	var over release.Period
	if body.Last != "" {
		span, err := parseSpan("last", body.Last)
		if err != nil {
			return deed{}, err
		}
		over = release.Period{Since: call.at.Add(-span), Until: call.at}
	}
	id, err := call.name("id")
	return deed{
		resource:   policy.Entity{Type: "policy", ID: id},
		parameters: policy.Properties{"last": body.Last},
		do: func(ctx context.Context, p policy.Permit) (answer, error) {
			run, err := c.Releases.StartReplay(ctx, p, id, over)
			return created("/api/v1/policy/proposals/"+id+"/replay", run), err
		},
	}, err
}

func (c *Console) showReplay(call *call) (deed, error) {
	return call.about("policy", "id", func(ctx context.Context, p policy.Permit, id string) (answer, error) {
		run, err := c.Releases.Rehearsal(ctx, p, id)
		return ok(run), err
	})
}

func (c *Console) cancelReplay(call *call) (deed, error) {
	return call.about("policy", "id", func(ctx context.Context, p policy.Permit, id string) (answer, error) {
		run, err := c.Releases.CancelReplay(ctx, p, id)
		return ok(run), err
	})
}

func (c *Console) listDifferences(call *call) (deed, error) {
	page, err := call.page()
	if err != nil {
		return deed{}, err
	}
	filter := release.DifferenceFilter{Part: release.Part(call.query("of")), Class: release.Class(call.query("class")), Action: call.query("action"),
		Code: call.query("code"), Resource: call.query("resource"), Limit: page.ask()}
	if page.cursor != "" {
		if filter.After, err = base64.RawURLEncoding.DecodeString(page.cursor); err != nil {
			return deed{}, errCursor
		}
	}
	return call.about("policy", "id", func(ctx context.Context, p policy.Permit, id string) (answer, error) {
		found, err := c.Releases.FindDifferences(ctx, p, id, filter)
		if err != nil {
			return answer{}, err
		}
		return listOf(page, found, func(d release.Listed) string { return base64.RawURLEncoding.EncodeToString(d.Place) }, same), nil
	})
}

// vote is the body of POST /policy/proposals/{id}/approve. All of it is optional.
type vote struct {
	Digest string `json:"digest,omitempty"` // of the rules that were looked at; others are not approved
	Note   string `json:"note,omitempty"`
}

func (c *Console) approveProposal(call *call) (deed, error) {
	var body vote
	if err := call.decode(&body, true); err != nil {
		return deed{}, err
	}
	for field, value := range map[string]string{"digest": body.Digest, "note": body.Note} {
		if err := checkText(field, value, maxReason); err != nil {
			return deed{}, err
		}
	}
	return call.uponProposal(policy.Properties{"digest": body.Digest, "note": body.Note}, func(ctx context.Context, p policy.Permit, id string) (release.Proposal, error) {
		return c.Releases.Approve(ctx, p, release.Vote{ID: id, Digest: body.Digest, Note: body.Note})
	})
}

func (c *Console) rejectProposal(call *call) (deed, error) {
	return call.endProposal(c.Releases.Reject)
}

func (c *Console) withdrawProposal(call *call) (deed, error) {
	return call.endProposal(c.Releases.Withdraw)
}

// endProposal is a deed that ends a proposal, with a reason for it.
func (call *call) endProposal(do func(ctx context.Context, p policy.Permit, id, reason string) (release.Proposal, error)) (deed, error) {
	var body reasoned
	if err := call.decode(&body, true); err != nil {
		return deed{}, err
	}
	if err := checkText("reason", body.Reason, maxReason); err != nil {
		return deed{}, err
	}
	return call.uponProposal(policy.Properties{"reason": body.Reason}, func(ctx context.Context, p policy.Permit, id string) (release.Proposal, error) {
		return do(ctx, p, id, body.Reason)
	})
}

// enactment is the body of POST /policy/proposals/{id}/activate.
type enactment struct {
	Stage          string   `json:"stage,omitempty"`    // shadow, percent, profiles or all; empty: all
	Percent        int      `json:"percent,omitempty"`  // of the devices; with the stage percent
	Profiles       []string `json:"profiles,omitempty"` // with the stage profiles
	AcceptRefusals int      `json:"accept_refusals,omitempty"`
	Reason         string   `json:"reason,omitempty"`
}

func (c *Console) activateProposal(call *call) (deed, error) {
	var body enactment
	if err := call.decode(&body, true); err != nil {
		return deed{}, err
	}
	if body.Stage == "" {
		body.Stage = string(release.ToAll)
	}
	if err := body.check(); err != nil {
		return deed{}, err
	}
	asked := policy.Properties{"stage": body.Stage, "percent": body.Percent, "profiles": body.Profiles,
		"accept_refusals": body.AcceptRefusals, "reason": body.Reason}
	return call.uponProposal(asked, func(ctx context.Context, p policy.Permit, id string) (release.Proposal, error) {
		return c.Releases.Activate(ctx, p, release.Activation{ID: id, AcceptRefusals: body.AcceptRefusals, Reason: body.Reason,
			Stage: release.Stage{Kind: release.StageKind(body.Stage), Percent: body.Percent, Profiles: body.Profiles}})
	})
}

// maxProfiles bounds the profiles of a stage.
const maxProfiles = 100

func (e *enactment) check() error {
	if len(e.Profiles) > maxProfiles {
		return fault.New(fault.Malformed, "bad_field", fmt.Sprintf("a stage names at most %d profiles", maxProfiles))
	}
	for _, name := range e.Profiles {
		if err := checkText("profiles", name, maxName); err != nil {
			return err
		}
	}
	if err := checkText("stage", e.Stage, maxName); err != nil {
		return err
	}
	return checkText("reason", e.Reason, maxReason)
}

// uponProposal is a deed upon the proposal that the path names, and answers with what became of it.
func (call *call) uponProposal(asked policy.Properties, do func(ctx context.Context, p policy.Permit, id string) (release.Proposal, error)) (deed, error) {
	id, err := call.name("id")
	return deed{
		resource:   policy.Entity{Type: "policy", ID: id},
		parameters: asked,
		do: func(ctx context.Context, p policy.Permit) (answer, error) {
			found, err := do(ctx, p, id)
			return ok(found), err
		},
	}, err
}

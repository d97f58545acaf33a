package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"iter"
	"time"

	"github.com/hallmark-pki/hallmark/enroll"
	"github.com/hallmark-pki/hallmark/policy"
	"github.com/hallmark-pki/hallmark/policy/rego"
	"github.com/hallmark-pki/hallmark/policy/release"
)

// openRunning loads the rules in force: those of the store, or of the policy
// directory as long as no proposal was ever put on trial or in force.
func (h *house) openRunning(ctx context.Context) error {
	h.rules = &release.Running{Proposals: h.db, Revisions: h.db, Language: h.language(), Directory: h.packPolicy, Now: time.Now, Log: h.log}
	if err := h.rules.Start(ctx); err != nil {
		return fmt.Errorf("loading the policy:\n%w", err)
	}
	return h.recordLoad(ctx)
}

// packPolicy reads the policy directory into a bundle.
func (h *house) packPolicy(context.Context) ([]byte, error) {
	b, err := rego.ReadDir(h.path(h.config.Policy.Dir))
	if err != nil {
		return nil, err
	}
	return b.Pack(nil)
}

// recordLoad writes into the record which rules of the policy directory this process answers with.
func (h *house) recordLoad(ctx context.Context) error {
	event, fromDirectory := h.rules.Loaded()
	if !fromDirectory {
		return nil
	}
	return h.db.Append(ctx, event)
}

// openReleases makes the life of the policy available to operators.
func (h *house) openReleases(enroller *enroll.Enroller) error {
	h.releases = &release.Releases{
		Proposals: h.db, Revisions: h.db, Trials: h.db, Replays: h.db, Differences: h.db, Record: h.db, Journal: h.db,
		Running: h.rules, Language: h.language(), Now: time.Now, Log: h.log, Pulled: h.puller.status, Process: rand.Text(),
		Operators: h.people.Subjects,
		Renewals:  func(ctx context.Context) iter.Seq2[policy.Request, error] { return enroller.Renewals(ctx, h.db) },
	}
	h.outlet = &release.Outlet{Running: h.rules, Seal: h.seal}
	h.metrics.released(h.rules)
	h.metrics.pulled(&h.puller)
	pulled, err := h.openSource(&h.config.Policy, h.puller.trust.Load())
	if err != nil {
		return err
	}
	h.puller.current.Store(pulled)
	return nil
}

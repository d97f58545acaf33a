// Package source pulls rules from an OPA bundle server, for teams that keep them
// in git: what is new there becomes a proposal.
//
// A proposal is all that it becomes. The source is its author, under the name of the
// bundle; people replay, approve and activate it as they do any other. A signature that holds says
// that the rules come from where they should, and is nobody's approval. Every replica
// may pull: a bundle is proposed once, by whoever is first.
package source

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
	"github.com/hallmark-pki/hallmark/policy/rego"
	"github.com/hallmark-pki/hallmark/policy/release"
)

// Source is one bundle on a bundle server.
type Source struct {
	Name   string                      // of the bundle; the author of its proposals is "bundle:" and this
	URL    string                      // of the bundle
	Client *http.Client                // with whom to trust and what to show, see NewClient
	Header func() (http.Header, error) // what each request carries, asked each time; may be nil
	Trust  *rego.Trust                 // whose signatures count
	Least  time.Duration               // between two looks, at least
	Most   time.Duration               // and at most; also the longest pause after failures
	Wait   time.Duration               // how long the server may wait for news before it answers; 0: it need not know how

	Policy    *policy.Point
	Releases  *release.Releases
	Proposals release.ProposalStore
	Now       func() time.Time
	Log       *slog.Logger
	Observe   func(outcome string) // told how each look ended, for metrics; may be nil

	status atomic.Pointer[Status]
	etag   string // of the bundle that was looked at last; empty: none
	base   string // digest of the rules in force at that time
	long   bool   // the server lets its callers wait

	refused time.Time // when a bundle was, last
}

// How a look at the bundle server ended.
const (
	Unreachable = "unreachable" // no bundle came
	Refused     = "refused"     // a bundle came that is no good: unsigned, tampered, broken, failing its tests, not permitted
	Proposed    = "proposed"    // it is a proposal now
	Known       = "known"       // it was proposed before
	InForce     = "in_force"    // its rules are those in force
	Unchanged   = "unchanged"   // since the last look
)

// Outcomes are all of them, for metrics.
func Outcomes() []string {
	return []string{Unreachable, Refused, Proposed, Known, InForce, Unchanged}
}

// Status is what is known of a source on this replica.
type Status = release.SourceStatus

// Status returns how the source stands. It may be called while Run runs.
func (s *Source) Status() Status {
	if at := s.status.Load(); at != nil {
		return *at
	}
	return Status{Name: s.Name, URL: plain(s.URL), Unsigned: s.Trust.Unsigned}
}

// again is when a bundle that was refused is looked at once more.
const again = time.Hour

// author is who proposes what comes from here.
func (s *Source) author() string { return "bundle:" + s.Name }

// Run looks at the bundle server again and again until ctx ends. Failures are logged, each different one once.
func (s *Source) Run(ctx context.Context) error {
	if s.Trust.Unsigned {
		s.Log.Warn("POLICY SOURCE WITHOUT SIGNATURES: whoever can write to the bundle server, or stand in between, proposes rules here", "source", s.Name, "url", plain(s.URL))
	}
	said := ""
	for {
		before := s.Now()
		at := s.look(ctx)
		if ctx.Err() != nil {
			return nil
		}
		said = s.say(said, &at)
		if s.Observe != nil {
			s.Observe(observed(&at))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(s.pause(&at, s.Now().Sub(before))):
		}
	}
}

// observed is the outcome of the last look.
func observed(at *Status) string {
	if at.Failure != "" {
		return Unreachable
	}
	return at.Outcome
}

// say logs what is worth knowing and was not said before.
func (s *Source) say(said string, at *Status) string {
	outcome, why := at.Outcome, at.Why
	if at.Failure != "" {
		outcome, why = Unreachable, at.Failure
	}
	text := outcome + at.Digest + why
	if text == said {
		return said
	}
	args := []any{"source", s.Name, "outcome", outcome, "policy", at.Digest, "revision", at.Revision, "proposal", at.Proposal, "why", why}
	if outcome == Unreachable || outcome == Refused {
		s.Log.Error("policy source: the rules in force stay", args...)
	} else {
		s.Log.Info("policy source", args...)
	}
	return text
}

// firstPause is after the first failure; each further one doubles it.
const firstPause = time.Second

// pause is how long to wait until the next look, after one that took so long. It has
// a part of chance in it, so that many servers do not come at the same moment.
func (s *Source) pause(at *Status, took time.Duration) time.Duration {
	if at.Failures > 0 {
		longest := min(firstPause<<min(at.Failures-1, 20), s.Most)
		return longest/2 + rand.N(longest/2+1)
	}
	if s.long && at.Outcome != Refused && took >= firstPause {
		return 0 // it has waited already
	}
	return s.Least + rand.N(s.Most-s.Least+1)
}

// look asks the server once, proposes what is new, and keeps how that went.
func (s *Source) look(ctx context.Context) Status {
	at := s.looked(ctx)
	s.status.Store(&at)
	return at
}

func (s *Source) looked(ctx context.Context) Status {
	at := s.Status()
	at.Looked = s.Now().UTC().Truncate(time.Millisecond)
	if at.Outcome == Refused && at.Looked.Sub(s.refused) > again {
		s.etag = "" // a check that ran out of time on a busy machine, say
	}
	if base := s.Releases.Running.Digest(); base != s.base { // what a bundle means depends on what is in force
		s.base, s.etag = base, ""
	}
	packed, etag, err := s.download(ctx)
	if err != nil {
		at.Failures++
		at.Failure, s.etag = err.Error(), ""
		return at
	}
	at.Failures, at.Failure, at.Answered = 0, "", at.Looked
	if packed == nil {
		if at.Outcome == Proposed || at.Outcome == InForce || at.Outcome == Known {
			at.Outcome = Unchanged
		}
		return at
	}
	s.etag = etag
	if err := s.take(ctx, packed, &at); err != nil {
		at.Outcome, at.Why, s.refused = Refused, says(err), at.Looked
		if kind := fault.Of(err).Kind; kind == fault.Busy || kind == fault.Internal && !isProblem(err) {
			s.etag = "" // it may go better next time
		}
	}
	return at
}

// take verifies a bundle and proposes it if that was not done before.
func (s *Source) take(ctx context.Context, packed []byte, at *Status) error {
	at.Digest, at.Revision, at.Proposal, at.Why = "", "", "", ""
	b, err := rego.ReadBundle(packed, s.Trust)
	if err != nil {
		return err
	}
	at.Digest, at.Revision = b.Digest(), b.Revision()
	if at.Digest == s.base {
		at.Outcome = InForce
		return nil
	}
	known, err := s.known(ctx, at.Digest)
	if err != nil {
		return err
	}
	if known != nil {
		at.Outcome, at.Proposal, at.Why = Known, known.ID, "was proposed before: "+string(known.State)
		if known.Why != "" {
			at.Why += ": " + known.Why
		}
		return nil
	}
	at.Proposal, err = s.propose(ctx, packed, b)
	if fault.Is(err, fault.Conflict) && fault.Of(err).Code != "policy_base" {
		at.Outcome, at.Why = Known, says(err) // another replica was faster
		return nil
	}
	at.Outcome = Proposed
	return err
}

// gone is how many proposals are gone through for one that holds the same rules.
const gone = 500

// maxOpen bounds the proposals of one source that wait for people: rules come in
// as often as somebody writes them, and each costs a check.
const maxOpen = 16

// known returns the proposal that speaks against proposing these rules: one that waits for
// people, or on which they have had their say. One that other rules overtook before it was ever in force does not.
func (s *Source) known(ctx context.Context, digest string) (*release.Proposal, error) {
	found, err := s.Proposals.Proposals(ctx, release.ProposalFilter{Author: s.author(), Limit: gone})
	if err != nil {
		return nil, err
	}
	open := 0
	for i := range found {
		p := &found[i]
		overtaken := p.State == release.Superseded
		if p.State == release.Open || p.State == release.Approved { // as stored: what time has made of it is not
			switch {
			case p.Base != s.base:
				overtaken = true
			case s.Now().After(p.Expires):
				p.State = release.Expired
			default:
				open++
			}
		}
		if p.Digest == digest && !(overtaken && p.Revision == 0 && p.Base != s.base) {
			return p, nil
		}
	}
	if open >= maxOpen {
		return nil, &fault.Error{Kind: fault.Busy, Code: "too_many_proposals", Says: "too many proposals of this source wait for people; reject those that are not wanted"}
	}
	return nil, nil
}

// propose asks policy as any author does, and proposes.
func (s *Source) propose(ctx context.Context, packed []byte, b *rego.Bundle) (string, error) {
	now := s.Now()
	id := s.id(now, b.Digest()).String()
	note := "from " + s.Name + ", revision " + b.Revision()
	decision, err := policy.Decide(ctx, s.Policy, policy.Request{
		Subject:    policy.Entity{Type: "service", ID: s.author(), Properties: policy.Properties{"signed": !s.Trust.Unsigned, "roles": []any{}}},
		Action:     policy.ProposePolicy,
		Parameters: policy.Properties{"base": s.base, "note": note},
		Resource:   policy.Entity{Type: "policy", ID: id, Properties: policy.Properties{"digest": b.Digest(), "url": plain(s.URL)}},
		At:         now, RequestID: id,
	})
	if err != nil {
		return "", err
	}
	permit, err := decision.Permit()
	if err != nil {
		return "", err
	}
	made, err := s.Releases.Propose(ctx, permit, release.Draft{ID: id, Bundle: packed, Base: s.base, Note: note})
	if err != nil && len(made.Report.Problems) > 0 {
		return "", errors.Join(err, problems(made.Report.Problems))
	}
	return made.ID, err
}

// id is the same for the same rules upon the same base, within the minute: of
// replicas that propose at the same moment one comes first, and the others have a Conflict.
func (s *Source) id(now time.Time, digest string) audit.ID {
	id := audit.NewID(now.Truncate(time.Minute))
	same := sha256.Sum256([]byte(s.Name + "\x00" + digest + "\x00" + s.base))
	copy(id[6:], same[:])
	return id
}

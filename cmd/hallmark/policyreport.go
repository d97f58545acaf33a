package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/hallmark-pki/hallmark/policy/release"
)

// proposal makes a call that answers a proposal, and prints it.
func (s *session) proposal(ctx context.Context, method, path string, q url.Values, c *content) error {
	var raw json.RawMessage
	if err := s.do(ctx, method, path, q, c, &raw); err != nil {
		return err
	}
	var p release.Proposal
	if err := json.Unmarshal(raw, &p); err != nil {
		return fmt.Errorf("the server's answer cannot be read: %w", err)
	}
	return s.print(raw, func() [][2]string { return proposalFields(&p) })
}

func proposalFields(p *release.Proposal) [][2]string {
	approvals := make([]string, len(p.Approvals))
	for i, a := range p.Approvals {
		approvals[i] = a.By
	}
	pairs := [][2]string{{"id", p.ID}, {"state", stateText(p)}, {"why", p.Why}, {"author", p.Author}, {"note", p.Note}, {"digest", p.Digest}, {"base", p.Base},
		{"created", when(p.Created)}, {"expires", when(p.Expires)},
		{"tests", fmt.Sprintf("%d, %.0f %% of the rules' lines covered", p.Report.Tests, p.Report.Coverage)},
		{"approvals", fmt.Sprintf("%d of %d %s", len(approvals), p.Needed, strings.Join(approvals, ", "))}}
	if p.Replay == nil {
		return append(pairs, [2]string{"replay", "none yet: hallmark policy replay " + p.ID})
	}
	pairs = append(pairs, tallyFields("recorded", &p.Replay.Recorded)...)
	pairs = append(pairs, tallyFields("next renewals", &p.Replay.Fleet)...)
	for _, o := range p.Replay.Operators {
		pairs = append(pairs, [2]string{"operator " + o.Operator, changesText(o)})
	}
	if p.Trial != nil {
		pairs = append(pairs, tallyFields("trial", p.Trial)...)
	}
	return pairs
}

// stateText is where a proposal stands, with its stage while it is on trial.
func stateText(p *release.Proposal) string {
	switch {
	case p.State == release.Staged && p.Stage != nil && p.Stage.Kind == release.ToPercent:
		return fmt.Sprintf("staged: %d %% of the devices", p.Stage.Percent)
	case p.State == release.Staged && p.Stage != nil:
		return "staged: " + strings.Join(p.Stage.Profiles, ", ")
	case p.State == release.Active:
		return fmt.Sprintf("active as revision %d", p.Revision)
	}
	return string(p.State)
}

func changesText(o release.OperatorDiff) string {
	var parts []string
	if len(o.Loses) > 0 {
		parts = append(parts, "loses "+strings.Join(o.Loses, ", "))
	}
	if len(o.Gains) > 0 {
		parts = append(parts, "gains "+strings.Join(o.Gains, ", "))
	}
	return strings.Join(parts, "; ")
}

// mostDifferences is how many differences a table shows; JSON has those that the server keeps.
const mostDifferences = 20

// tallyFields says what a comparison came to: numbers first, and then the gravest differences.
func tallyFields(what string, t *release.Tally) [][2]string {
	text := fmt.Sprintf("%d asked, %d refused (before: %d)", t.Asked, t.Refused, t.WasRefused)
	for _, class := range release.Classes() {
		if n := t.Total(class); n > 0 {
			text += fmt.Sprintf(", %s %d", class, n)
		}
	}
	pairs := [][2]string{{what, text}}
	for i, d := range t.Differences {
		if i == mostDifferences {
			pairs = append(pairs, [2]string{"  …", fmt.Sprintf("%d more, with -o json", len(t.Differences)-i)})
			break
		}
		pairs = append(pairs, [2]string{"  " + string(d.Class), fmt.Sprintf("%s %s %s: %s → %s (%d)", d.Action, d.Subject, d.Resource,
			outcomeText(&d.Was), outcomeText(&d.Is), d.Count)})
	}
	return pairs
}

func outcomeText(o *release.Outcome) string {
	if o.Code == "" {
		return strings.TrimSpace(o.Verdict + " " + o.Profile)
	}
	return o.Verdict + " " + o.Code
}

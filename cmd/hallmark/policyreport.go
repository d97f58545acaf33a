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
	pairs = append(pairs, [2]string{"replayed", fmt.Sprintf("%s by %s, back to %s, against %s", when(p.Replay.At), p.Replay.By, when(p.Replay.Since), p.Replay.Base)})
	pairs = append(pairs, tallyFields("next renewals", "devices", &p.Replay.Fleet)...)
	pairs = append(pairs, tallyFields("recorded", "decisions", &p.Replay.Recorded)...)
	pairs = append(pairs, [2]string{"operators", fmt.Sprintf("%d of %d may do other things than before", len(p.Replay.Operators), p.Replay.People)})
	for _, o := range p.Replay.Operators {
		pairs = append(pairs, [2]string{"operator " + o.Operator, changesText(o)})
	}
	if p.Trial != nil {
		pairs = append(pairs, tallyFields("trial", "decisions", p.Trial)...)
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

// Bounds of what a table shows of differences; hallmark policy differences lists all.
const (
	mostGroups  = 10
	mostDevices = 20 // of a group
)

// tallyFields says what a comparison came to: in a sentence, and then each kind of difference with those that it is about.
func tallyFields(name, what string, t *release.Tally) [][2]string {
	if t.Asked == 0 {
		return [][2]string{{name, "no " + what}}
	}
	pairs := [][2]string{{name, fmt.Sprintf("%s of %s %s would be refused (before: %s)", thousands(t.Refused), thousands(t.Asked), what, thousands(t.WasRefused))}}
	for i, g := range t.Groups {
		if i == mostGroups {
			pairs = append(pairs, [2]string{"  …", fmt.Sprintf("%d more kinds of differences", len(t.Groups)-i)})
			break
		}
		text := fmt.Sprintf("%s × %s", thousands(g.Count), g.Action)
		if g.Was != "" || g.Is != "" {
			text += ": " + strings.TrimSpace(g.Was+" → "+g.Is)
		}
		if g.Detail != "" {
			text += ": " + g.Detail
		}
		pairs = append(pairs, [2]string{"  " + string(g.Class), text}, [2]string{"", concernedText(t, &g)})
	}
	return pairs
}

// concernedText names what a group of differences is about.
func concernedText(t *release.Tally, g *release.Group) string {
	var names []string
	listed := 0
	for _, d := range t.Differences {
		if d.Class != g.Class || d.Action != g.Action || d.Was.Code != g.Was || d.Is.Code != g.Is {
			continue
		}
		listed += d.Count
		if len(names) < mostDevices && d.Resource != "" {
			names = append(names, d.Resource)
		}
	}
	if len(names) == 0 {
		return ""
	}
	text := strings.Join(names, ", ")
	if listed < g.Count || len(names) == mostDevices {
		text += ", … (hallmark policy differences lists them all)"
	}
	return text
}

func outcomeText(o *release.Outcome) string {
	if o.Code == "" {
		return strings.TrimSpace(o.Verdict + " " + o.Profile)
	}
	return o.Verdict + " " + o.Code
}

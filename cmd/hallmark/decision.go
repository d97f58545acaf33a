package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/policy"
)

func decisionCommand() *cobra.Command {
	c := new(connection)
	return noun("decision", "What policy decided, and why", c, decisionList(c), decisionShow(c))
}

// decision is one as the API shows it.
type decision struct {
	ID       string          `json:"id"`
	Index    *int64          `json:"index"`
	At       string          `json:"at"`
	Action   string          `json:"action"`
	Actor    audit.Party     `json:"actor"`
	Object   audit.Party     `json:"object"`
	Verdict  string          `json:"verdict"`
	Outcome  string          `json:"outcome"`
	Reasons  []policy.Reason `json:"reasons"`
	Policy   string          `json:"policy"`
	Profile  string          `json:"profile"`
	Lifetime string          `json:"lifetime"`
	Source   string          `json:"source"`
	Request  string          `json:"request"`
	Input    json.RawMessage `json:"input"`
	Fact     json.RawMessage `json:"fact"`
}

func decisionList(c *connection) *cobra.Command {
	var device, actor, verdict, action, format string
	var since, until moment
	var page paging
	list := &cobra.Command{
		Use:   "list",
		Short: "List decisions, newest first",
		Example: `  hallmark decision list --verdict deny --since 24h
  hallmark decision list --device gw-0001 --action certificate.issue -o json --all
  hallmark decision list --since 1h --all --format opa > events.ndjson`,
		Args: takes(),
		RunE: c.verb(func(ctx context.Context, s *session, _ []string) error {
			q := url.Values{}
			putText(q, "device", device)
			putText(q, "actor", actor)
			putText(q, "verdict", verdict)
			putText(q, "action", action)
			since.put(q, "since")
			until.put(q, "until")
			if opa, err := asOPA(format); err != nil {
				return err
			} else if opa {
				return printEvents(ctx, s, q, page)
			}
			return listing[decision]{
				path:    "/api/v1/decisions",
				columns: []string{"ID", "TIME", "ACTION", "ASKED BY", "ABOUT", "VERDICT", "WHY"},
				row: func(d decision) []string {
					return []string{d.ID, whenText(d.At), d.Action, d.Actor.Type + " " + d.Actor.ID, d.Object.Type + " " + d.Object.ID, d.Verdict, reasonCodes(d.Reasons)}
				},
				none: "There are no such decisions.",
			}.print(ctx, s, q, page)
		}),
	}
	f := list.Flags()
	f.StringVar(&device, "device", "", "only about the device with this id")
	f.StringVar(&actor, "actor", "", "only asked by this device or operator")
	f.StringVar(&verdict, "verdict", "", "allow, hold or deny")
	f.StringVar(&action, "action", "", "only about this action, such as certificate.issue")
	f.StringVar(&format, "format", "", "opa: as a sink of the decision log gets them, one event on a line")
	f.Var(&since, "since", "from then on: so long ago (24h, 7d), a date or a time")
	f.Var(&until, "until", "before then")
	page.flags(list)
	return list
}

func reasonCodes(reasons []policy.Reason) string {
	codes := make([]string, len(reasons))
	for i, r := range reasons {
		codes[i] = r.Code
	}
	return strings.Join(codes, ", ")
}

func decisionShow(c *connection) *cobra.Command {
	var format string
	show := &cobra.Command{
		Use:   "show ID",
		Short: "Show a decision: what was asked, of which policy, and the answer",
		Example: `  hallmark decision show 0687j8cvk5b0fmqlmpsb1m9o2k
  hallmark decision show 0687j8cvk5b0fmqlmpsb1m9o2k --format opa`,
		Args: takes("ID"),
		RunE: c.verb(func(ctx context.Context, s *session, args []string) error {
			opa, err := asOPA(format)
			if err != nil {
				return err
			}
			path := "/api/v1/decisions/" + url.PathEscape(args[0])
			if opa {
				path += "/event"
			}
			var raw json.RawMessage
			if err := s.do(ctx, "GET", path, nil, nil, &raw); err != nil {
				return err
			}
			if s.json || opa {
				return printJSON(s.out, raw)
			}
			var d decision
			if err := json.Unmarshal(raw, &d); err != nil {
				return err
			}
			return d.print(s)
		}),
	}
	show.Flags().StringVar(&format, "format", "", "opa: as a sink of the decision log gets it")
	return show
}

// asOPA reads --format.
func asOPA(format string) (bool, error) {
	if format != "" && format != "opa" {
		return false, usageError{fmt.Errorf("--format is opa, or nothing for our own form; not %q", format)}
	}
	return format == "opa", nil
}

// printEvents prints decisions as OPA's decision log has them, one on a line.
func printEvents(ctx context.Context, s *session, q url.Values, p paging) error {
	list, err := fetch(ctx, s, "/api/v1/decisions/events", q, p)
	if err != nil {
		return err
	}
	for _, event := range list.Items {
		if _, err := fmt.Fprintf(s.out, "%s\n", event); err != nil {
			return err
		}
	}
	list.more(s)
	return nil
}

func (d *decision) print(s *session) error {
	place := "not in the log yet"
	if d.Index != nil {
		place = fmt.Sprintf("entry %d of the log", *d.Index)
	}
	pairs := [][2]string{
		{"id", d.ID}, {"record", place}, {"time", whenText(d.At)}, {"action", d.Action},
		{"asked by", d.Actor.Type + " " + d.Actor.ID}, {"about", d.Object.Type + " " + d.Object.ID},
		{"verdict", d.Verdict}, {"outcome", d.Outcome},
	}
	for _, r := range d.Reasons {
		pairs = append(pairs, [2]string{"because", r.Code + ": " + r.Detail})
	}
	pairs = append(pairs, [][2]string{
		{"policy", d.Policy}, {"profile", d.Profile}, {"lifetime", d.Lifetime}, {"source", d.Source}, {"request", d.Request},
	}...)
	if err := fields(s.out, pairs...); err != nil {
		return err
	}
	for _, part := range []struct {
		name string
		text json.RawMessage
	}{{"input", d.Input}, {"fact", d.Fact}} {
		if err := printPart(s, part.name, part.text); err != nil {
			return err
		}
	}
	return nil
}

// printPart prints JSON under a heading, if there is any.
func printPart(s *session, name string, text json.RawMessage) error {
	if len(text) == 0 {
		return nil
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, text, "", "  "); err != nil {
		return err
	}
	lines := strings.Split(indented.String(), "\n")
	for i := range lines {
		lines[i] = escape(lines[i])
	}
	_, err := fmt.Fprintf(s.out, "%s\n%s\n", name, strings.Join(lines, "\n"))
	return err
}

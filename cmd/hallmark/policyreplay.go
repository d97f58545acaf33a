package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hallmark-pki/hallmark/policy/release"
)

func policyReplay(c *connection) *cobra.Command {
	var last span
	var cancel bool
	replay := &cobra.Command{
		Use:   "replay PROPOSAL",
		Short: "Ask the proposed rules what was decided, and what devices and operators would ask next",
		Long: "Ask the proposed rules what was decided, and what devices and operators would ask next.\n" +
			"The server does it whether this command waits for it or not; called again meanwhile, it waits for the one that goes on.",
		Example: `  hallmark policy replay 06h0ksg103pjsk82 --last 7d
  hallmark policy replay 06h0ksg103pjsk82 --cancel`,
		Args: takes("PROPOSAL"),
		RunE: c.verb(func(ctx context.Context, s *session, args []string) error {
			at := proposalPath + url.PathEscape(args[0])
			if cancel {
				var run release.Rehearsal
				if err := s.do(ctx, "DELETE", at+"/replay", nil, nil, &run); err != nil {
					return err
				}
				return s.deed("replay of proposal", args[0], string(run.State))
			}
			if err := s.replay(ctx, at, last.text); err != nil {
				return err
			}
			return s.proposal(ctx, "GET", at, nil, nil)
		}),
	}
	replay.Flags().Var(&last, "last", "how far back to ask again, such as 24h or 7d (default 7d)")
	replay.Flags().BoolVar(&cancel, "cancel", false, "end the replay that goes on; the proposal stays as it was")
	return replay
}

// replay starts the replay of a proposal, unless that goes on already, and shows how far it is until it ends.
func (s *session) replay(ctx context.Context, at, last string) error {
	var run release.Rehearsal
	err := s.do(ctx, "POST", at+"/replay", nil, object(map[string]string{"last": last}), &run)
	if refused := (*refusal)(nil); errors.As(err, &refused) && refused.Code == "replay_running" {
		if s.do(ctx, "GET", at+"/replay", nil, nil, &run) != nil || run.State != release.Ongoing {
			return err // it is another's
		}
		fmt.Fprintf(s.err, "%s began to replay it at %s; waiting for that.\n", escape(run.By), when(run.Began))
		err = nil
	}
	if err != nil {
		return err
	}
	show := meterOn(s.err)
	for run.State == release.Ongoing {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second): // each look is a decision, and on record
		}
		if err := s.do(ctx, "GET", at+"/replay", nil, nil, &run); err != nil {
			return err
		}
		show.update(&run)
	}
	show.end()
	if run.State != release.Finished {
		return fmt.Errorf("the replay has no result, and the proposal is as it was: %s: %s", run.State, escape(run.Why))
	}
	return nil
}

// meter shows how far a replay is: as a bar on a terminal, else as a line now and then.
type meter struct {
	to    io.Writer
	bar   bool
	said  time.Time
	lines int
}

// meterOn is a meter on that output.
func meterOn(to io.Writer) *meter {
	f, isFile := to.(*os.File)
	if !isFile {
		return &meter{to: to}
	}
	info, err := f.Stat()
	return &meter{to: to, bar: err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"}
}

// sayEvery is how often a line is printed where there is no terminal.
const sayEvery = 10 * time.Second

func (m *meter) update(run *release.Rehearsal) {
	switch {
	case m.bar:
		fmt.Fprintf(m.to, "\r\x1b[K%s", progressText(&run.Progress, 30))
		m.lines++
	case time.Since(m.said) >= sayEvery || run.State != release.Ongoing:
		fmt.Fprintln(m.to, progressText(&run.Progress, 0))
		m.said = time.Now()
	}
}

// end leaves the line of the bar.
func (m *meter) end() {
	if m.bar && m.lines > 0 {
		fmt.Fprintln(m.to)
	}
}

// progressText is one line: a bar of that many characters, if any, and the figures.
func progressText(p *release.Progress, width int64) string {
	if p.Total == 0 && !p.Done {
		return fmt.Sprintf("%s operators and %s devices asked", thousands(p.People), thousands(p.Devices))
	}
	done := min(p.Entries, p.Total)
	if p.Done {
		done = p.Total
	}
	percent := int64(100)
	if p.Total > 0 {
		percent = done * 100 / p.Total
	}
	text := fmt.Sprintf("%3d %%  %s of %s entries", percent, thousands(done), thousands(p.Total))
	if p.Rate > 0 && !p.Done {
		text += fmt.Sprintf(", %s a second, %s to go", thousands(p.Rate), (time.Duration((p.Total-done)/p.Rate) * time.Second).String())
	}
	if width == 0 {
		return text
	}
	full := width * percent / 100
	return "[" + strings.Repeat("█", int(full)) + strings.Repeat("·", int(width-full)) + "] " + text
}

// thousands is a number with a comma before every third digit.
func thousands[N int | int64](n N) string {
	text := strconv.FormatInt(int64(n), 10)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}

func policyDifferences(c *connection) *cobra.Command {
	var of, class, action, code, device string
	var page paging
	differences := &cobra.Command{
		Use:   "differences PROPOSAL",
		Short: "List one by one what proposed rules answer differently, as the last replay or the trial found",
		Example: `  hallmark policy differences 06h0ksg103pjsk82 --of fleet --class allow_to_deny --all
  hallmark policy differences 06h0ksg103pjsk82 --device gw-17
  hallmark policy differences 06h0ksg103pjsk82 --of trial -o json`,
		Args: takes("PROPOSAL"),
		RunE: c.verb(func(ctx context.Context, s *session, args []string) error {
			q := url.Values{}
			for name, value := range map[string]string{"of": of, "class": class, "action": action, "code": code, "resource": device} {
				putText(q, name, value)
			}
			return listing[release.Listed]{
				path:    proposalPath + url.PathEscape(args[0]) + "/differences",
				columns: []string{"OF", "CLASS", "ACTION", "BY", "ABOUT", "BEFORE", "AFTER", "TIMES", "REASON"},
				row: func(d release.Listed) []string {
					return []string{string(d.Part), string(d.Class), d.Action, d.Subject, d.Resource, outcomeText(&d.Was), outcomeText(&d.Is), strconv.Itoa(d.Count), d.Is.Detail}
				},
				none: "There are no such differences.",
			}.print(ctx, s, q, page)
		}),
	}
	f := differences.Flags()
	f.StringVar(&of, "of", "", "only of these questions: fleet, recorded or trial (default: fleet and recorded)")
	f.StringVar(&class, "class", "", "only of this class: allow_to_deny, deny_to_allow, hold, reason or lifetime")
	f.StringVar(&action, "action", "", "only about this action")
	f.StringVar(&code, "code", "", "only where the proposed rules give this reason")
	f.StringVar(&device, "device", "", "only about this device, or whatever else was asked about")
	page.flags(differences)
	return differences
}

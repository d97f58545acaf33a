package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/hallmark-pki/hallmark/policy/rego"
	"github.com/hallmark-pki/hallmark/policy/release"
)

const (
	policyPath   = "/api/v1/policy"
	proposalPath = policyPath + "/proposals/"
)

// policyVerbs are what operators do with a change of the rules.
func policyVerbs(c *connection) []*cobra.Command {
	return []*cobra.Command{policyPropose(c), policyList(c), policyReplay(c), policyDifferences(c), policyApprove(c),
		policyEnd(c, "reject", "rejected", "End a proposal that is not in force", "  hallmark policy reject 06h0ksg103pjsk82 --reason 'refuses the whole of hall 3'"),
		policyEnd(c, "withdraw", "withdrawn", "End a proposal of your own", "  hallmark policy withdraw 06h0ksg103pjsk82 --reason 'a typing error'"),
		policyActivate(c), policyRollback(c), policyHistory(c), policyExplain(c)}
}

func policyPropose(c *connection) *cobra.Command {
	var note, base string
	var unsigned bool
	propose := &cobra.Command{
		Use:   "propose DIR|BUNDLE",
		Short: "Propose the policy in a directory, or an OPA bundle; it is checked and tested, and changes nothing yet",
		Example: `  hallmark policy propose my-policy --note 'certificates of two hours'
  hallmark policy propose policy.tar.gz   # as "opa build" writes it; a signature in it has to hold
  hallmark policy show --out my-policy   # the rules to start from`,
		Args: takes("DIR or BUNDLE"),
		RunE: c.verb(func(ctx context.Context, s *session, args []string) error {
			packed, err := readProposal(args[0], unsigned)
			if err != nil {
				return err
			}
			q := url.Values{}
			putText(q, "note", note)
			putText(q, "base", base)
			return s.proposal(ctx, "POST", policyPath+"/proposals", q, &content{kind: "application/gzip", body: bytes.NewReader(packed)})
		}),
	}
	propose.Flags().BoolVar(&unsigned, "unsigned", false, "leave a bundle's signature out: propose what is in it in your own name alone")
	propose.Flags().StringVar(&note, "note", "", "what the change is for; it goes on the record")
	propose.Flags().StringVar(&base, "base", "", "digest of the rules that you started from; the proposal is refused if others are in force by now")
	return propose
}

// readProposal is the directory, or the bundle, as it is sent.
func readProposal(path string, unsigned bool) ([]byte, error) {
	at, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if at.IsDir() {
		b, err := rego.ReadDir(path)
		if err != nil {
			return nil, err
		}
		return b.Pack(nil)
	}
	if at.Size() > rego.MaxPacked {
		return nil, fmt.Errorf("%s is larger than a bundle may be (%d MiB)", path, rego.MaxPacked>>20)
	}
	packed, err := os.ReadFile(path)
	if err != nil || !unsigned {
		return packed, err
	}
	return rego.Repack(packed, nil)
}

func policyList(c *connection) *cobra.Command {
	var state, author string
	var page paging
	list := &cobra.Command{
		Use:     "list",
		Short:   "List proposals",
		Example: "  hallmark policy list --state open",
		Args:    takes(),
		RunE: c.verb(func(ctx context.Context, s *session, _ []string) error {
			q := url.Values{}
			putText(q, "state", state)
			putText(q, "author", author)
			return listing[release.Proposal]{
				path:    policyPath + "/proposals",
				columns: []string{"ID", "STATE", "AUTHOR", "CREATED", "APPROVALS", "NOTE"},
				row: func(p release.Proposal) []string {
					return []string{p.ID, stateText(&p), p.Author, when(p.Created), fmt.Sprintf("%d of %d", len(p.Approvals), p.Needed), p.Note}
				},
				none: "There are no proposals.",
			}.print(ctx, s, q, page)
		}),
	}
	list.Flags().StringVar(&state, "state", "", "only those that are open, approved, shadow, staged, active, rejected, withdrawn, superseded, fallen_back or rolled_back")
	list.Flags().StringVar(&author, "author", "", "only those of this operator")
	page.flags(list)
	return list
}

func policyApprove(c *connection) *cobra.Command {
	var digest, note string
	approve := &cobra.Command{
		Use:     "approve PROPOSAL",
		Short:   "Agree to a proposal of another operator",
		Example: "  hallmark policy approve 06h0ksg103pjsk82 --note 'looked at the replay'",
		Args:    takes("PROPOSAL"),
		RunE: c.verb(func(ctx context.Context, s *session, args []string) error {
			body := object(map[string]string{"digest": digest, "note": note})
			return s.proposal(ctx, "POST", proposalPath+url.PathEscape(args[0])+"/approve", nil, body)
		}),
	}
	approve.Flags().StringVar(&digest, "digest", "", "digest of the rules that you have looked at; others are not approved")
	approve.Flags().StringVar(&note, "note", "", "goes on the record")
	return approve
}

// policyEnd is a verb that ends a proposal.
func policyEnd(c *connection, verb, outcome, short, example string) *cobra.Command {
	var reason string
	end := &cobra.Command{Use: verb + " PROPOSAL", Short: short, Example: example, Args: takes("PROPOSAL"),
		RunE: c.verb(func(ctx context.Context, s *session, args []string) error {
			if err := s.do(ctx, "POST", proposalPath+url.PathEscape(args[0])+"/"+verb, nil, object(map[string]string{"reason": reason}), nil); err != nil {
				return err
			}
			return s.deed("proposal", args[0], outcome)
		})}
	end.Flags().StringVar(&reason, "reason", "", "why; it goes on the record")
	return end
}

func policyActivate(c *connection) *cobra.Command {
	var shadow bool
	var percent, accepted int
	var profiles []string
	var reason string
	activate := &cobra.Command{
		Use:   "activate PROPOSAL",
		Short: "Put an approved proposal in force, at once or by stages",
		Example: `  hallmark policy activate 06h0ksg103pjsk82
  hallmark policy activate 06h0ksg103pjsk82 --shadow
  hallmark policy activate 06h0ksg103pjsk82 --percent 5`,
		Args: takes("PROPOSAL"),
		RunE: c.verb(func(ctx context.Context, s *session, args []string) error {
			stage := release.ToAll
			switch {
			case shadow:
				stage = release.ToShadow
			case percent != 0:
				stage = release.ToPercent
			case len(profiles) > 0:
				stage = release.ToProfiles
			}
			body := object(map[string]any{"stage": stage, "percent": percent, "profiles": profiles, "accept_refusals": accepted, "reason": reason})
			return s.proposal(ctx, "POST", proposalPath+url.PathEscape(args[0])+"/activate", nil, body)
		}),
	}
	f := activate.Flags()
	f.BoolVar(&shadow, "shadow", false, "only ask it beside the rules in force, without effect")
	f.IntVar(&percent, "percent", 0, "only for this share of the devices, 1 to 99")
	f.StringArrayVar(&profiles, "profile", nil, "only for devices that enrol under this profile; may be given more than once")
	f.IntVar(&accepted, "accept-refusals", 0, "for rules that refuse every renewal: how many those are, as the replay shows")
	f.StringVar(&reason, "reason", "", "why; it goes on the record")
	activate.MarkFlagsMutuallyExclusive("shadow", "percent", "profile")
	return activate
}

func policyRollback(c *connection) *cobra.Command {
	var to int64
	var reason string
	rollback := &cobra.Command{
		Use:   "rollback",
		Short: "Put earlier rules in force again: the revision before, or another",
		Example: `  hallmark policy rollback --reason 'hall 3 cannot renew'
  hallmark policy rollback --to 4`,
		Args: takes(),
		RunE: c.verb(func(ctx context.Context, s *session, _ []string) error {
			var raw json.RawMessage
			if err := s.do(ctx, "POST", policyPath+"/rollback", nil, object(map[string]any{"to": to, "reason": reason}), &raw); err != nil {
				return err
			}
			var made release.Revision
			if err := json.Unmarshal(raw, &made); err != nil {
				return fmt.Errorf("the server's answer cannot be read: %w", err)
			}
			return s.print(raw, func() [][2]string {
				return [][2]string{{"revision", strconv.FormatInt(made.Number, 10)}, {"the rules of", strconv.FormatInt(made.Of, 10)}, {"digest", made.Digest}}
			})
		}),
	}
	rollback.Flags().Int64Var(&to, "to", 0, "number of the revision (default: the one before)")
	rollback.Flags().StringVar(&reason, "reason", "", "why; it goes on the record")
	return rollback
}

func policyHistory(c *connection) *cobra.Command {
	var page paging
	history := &cobra.Command{
		Use:     "history",
		Short:   "List everything that was ever put in force",
		Example: "  hallmark policy history",
		Args:    takes(),
		RunE: c.verb(func(ctx context.Context, s *session, _ []string) error {
			return listing[release.Revision]{
				path:    policyPath + "/revisions",
				columns: []string{"REVISION", "AT", "BY", "PROPOSAL", "DIGEST", "NOTE"},
				row: func(r release.Revision) []string {
					from := r.Proposal
					if r.Of != 0 {
						from = fmt.Sprintf("back to %d", r.Of)
					}
					return []string{strconv.FormatInt(r.Number, 10), when(r.At), r.By, from, r.Digest, r.Note}
				},
				none: "No proposal was ever put in force: the rules are those of the policy directory.",
			}.print(ctx, s, url.Values{}, page)
		}),
	}
	page.flags(history)
	return history
}

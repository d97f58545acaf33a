package main

import (
	"context"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hallmark-pki/hallmark/enroll"
)

func requestCommand() *cobra.Command {
	c := new(connection)
	return noun("request", "What policy holds for a person: enrolments, and what operators have asked for", c,
		requestList(c), requestShow(c), requestSettle(c, "approve", "approved"), requestSettle(c, "deny", "denied"))
}

func requestList(c *connection) *cobra.Command {
	var state, device string
	var page paging
	list := &cobra.Command{
		Use:     "list",
		Short:   "List held requests, newest first",
		Example: "  hallmark request list --state pending",
		Args:    takes(),
		RunE: c.verb(func(ctx context.Context, s *session, _ []string) error {
			q := url.Values{}
			putText(q, "state", state)
			putText(q, "device", device)
			return listing[enroll.Held]{
				path:    "/api/v1/requests",
				columns: []string{"ID", "WHO", "WHAT", "STATE", "ASKED", "SINCE", "WHY"},
				row: func(h enroll.Held) []string {
					who, what := h.Device, "certificate of profile "+h.Profile
					if e := h.Errand; e != nil {
						who, what = e.Operator, e.Action+" "+e.Object
					}
					return []string{h.ID, who, what, string(h.State), strconv.Itoa(h.Attempts) + "×", when(h.Created), strings.Join(h.Reasons, ", ")}
				},
				none: "No requests are held.",
			}.print(ctx, s, q, page)
		}),
	}
	list.Flags().StringVar(&state, "state", "", "pending, approved, denied, issued or used")
	list.Flags().StringVar(&device, "device", "", "only those of this device")
	page.flags(list)
	return list
}

func requestShow(c *connection) *cobra.Command {
	return &cobra.Command{
		Use:     "show ID",
		Short:   "Show one held request",
		Example: "  hallmark request show 0687j8cvk5b0fmqlmpsb1m9o2k",
		Args:    takes("ID"),
		RunE: c.verb(func(ctx context.Context, s *session, args []string) error {
			var raw json.RawMessage
			if err := s.do(ctx, "GET", "/api/v1/requests/"+url.PathEscape(args[0]), nil, nil, &raw); err != nil {
				return err
			}
			var h enroll.Held
			if err := json.Unmarshal(raw, &h); err != nil {
				return err
			}
			return s.print(raw, func() [][2]string {
				e := h.Errand
				if e == nil {
					e = &enroll.Errand{}
				}
				return [][2]string{
					{"id", h.ID}, {"operator", e.Operator}, {"action", e.Action}, {"of", e.Object}, {"parameters", string(e.Parameters)}, {"sent along", e.Content}, {"device", h.Device}, {"profile", h.Profile}, {"state", string(h.State)},
					{"subject asked for", h.Subject}, {"key sha256", h.KeyHash}, {"held because", strings.Join(h.Reasons, ", ")},
					{"attempts", strconv.Itoa(h.Attempts)}, {"since", when(h.Created)}, {"until", when(h.Expires)},
					{"settled", when(h.Decided)}, {"by", h.By}, {"reason", h.Reason}, {"serial", h.Serial},
				}
			})
		}),
	}
}

// requestSettle is approve or deny.
func requestSettle(c *connection, verb, outcome string) *cobra.Command {
	var reason string
	settle := &cobra.Command{
		Use:     verb + " ID",
		Short:   "Let a held request through when it is asked again; an operator's own is for another one to approve",
		Example: "  hallmark request approve 0687j8cvk5b0fmqlmpsb1m9o2k",
		Args:    takes("ID"),
	}
	if verb == "deny" {
		settle.Short = "Refuse a held request, with a reason that whoever asked is told"
		settle.Example = `  hallmark request deny 0687j8cvk5b0fmqlmpsb1m9o2k --reason "not on the delivery note"`
	}
	settle.RunE = c.reasoned("request", "/api/v1/requests/", verb, outcome, &reason, verb == "deny")
	settle.Flags().StringVar(&reason, "reason", "", "why, for the record")
	return settle
}

// reasoned is a verb that posts a reason to a thing.
func (c *connection) reasoned(kind, path, verb, outcome string, reason *string, must bool) func(*cobra.Command, []string) error {
	return func(command *cobra.Command, args []string) error {
		if must {
			if err := required(command, "reason", *reason); err != nil {
				return err
			}
		}
		return c.verb(func(ctx context.Context, s *session, args []string) error {
			body := object(map[string]string{"reason": *reason})
			if err := s.do(ctx, "POST", path+url.PathEscape(args[0])+"/"+verb, nil, body, nil); err != nil {
				return err
			}
			return s.deed(kind, args[0], outcome)
		})(command, args)
	}
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/hallmark-pki/hallmark/enroll"
)

func tokenCommand() *cobra.Command {
	c := new(connection)
	return noun("token", "Enrolment tokens: a right to enrol that somebody carries", c,
		tokenCreate(c), tokenList(c), tokenRevoke(c))
}

func tokenCreate(c *connection) *cobra.Command {
	var body struct {
		Device  string `json:"device,omitempty"`
		Profile string `json:"profile,omitempty"`
		Uses    int    `json:"uses"`
		TTL     string `json:"ttl"`
	}
	ttl := span{"24h"}
	create := &cobra.Command{
		Use:   "create",
		Short: "Make a token and print it, this once",
		Example: `  hallmark token create --device gw-0001
  hallmark token create --profile gateway --uses 500 --ttl 7d -o json`,
		Args: takes(),
		RunE: c.verb(func(ctx context.Context, s *session, _ []string) error {
			body.TTL = ttl.text
			var raw json.RawMessage
			if err := s.do(ctx, "POST", "/api/v1/tokens", nil, object(body), &raw); err != nil {
				return err
			}
			if s.json {
				return printJSON(s.out, raw)
			}
			var made struct {
				Token string `json:"token"`
			}
			if err := json.Unmarshal(raw, &made); err != nil {
				return err
			}
			_, err := fmt.Fprintln(s.out, made.Token)
			return err
		}),
	}
	f := create.Flags()
	f.StringVar(&body.Device, "device", "", "only for the device with this id (default: any registered device)")
	f.StringVar(&body.Profile, "profile", "", "only under this profile (default: any)")
	f.IntVar(&body.Uses, "uses", 1, "how many certificates it is good for")
	f.Var(&ttl, "ttl", "how long it lives")
	return create
}

func tokenList(c *connection) *cobra.Command {
	var device string
	var page paging
	list := &cobra.Command{
		Use:     "list",
		Short:   "List tokens, newest first, without their secrets",
		Example: "  hallmark token list --device gw-0001",
		Args:    takes(),
		RunE: c.verb(func(ctx context.Context, s *session, _ []string) error {
			q := url.Values{}
			putText(q, "device", device)
			return listing[enroll.Token]{
				path:    "/api/v1/tokens",
				columns: []string{"ID", "DEVICE", "PROFILE", "USED", "STATE", "EXPIRES", "CREATED BY"},
				row: func(t enroll.Token) []string {
					return []string{t.ID, t.Device, t.Profile, strconv.Itoa(t.Used) + "/" + strconv.Itoa(t.Uses), tokenState(t), when(t.Expires), t.By}
				},
				none: "There are no tokens.",
			}.print(ctx, s, q, page)
		}),
	}
	list.Flags().StringVar(&device, "device", "", "only those for this device")
	page.flags(list)
	return list
}

func tokenState(t enroll.Token) string {
	switch {
	case t.Revoked:
		return "revoked"
	case !time.Now().Before(t.Expires):
		return "expired"
	case t.Used >= t.Uses:
		return "used up"
	}
	return "good"
}

func tokenRevoke(c *connection) *cobra.Command {
	return &cobra.Command{
		Use:     "revoke ID",
		Short:   "End a token",
		Example: "  hallmark token revoke 0687j8cvk5b0fmqlmpsb1m9o2k",
		Args:    takes("ID"),
		RunE: c.verb(func(ctx context.Context, s *session, args []string) error {
			if err := s.do(ctx, "DELETE", "/api/v1/tokens/"+url.PathEscape(args[0]), nil, nil, nil); err != nil {
				return err
			}
			return s.deed("token", args[0], "revoked")
		}),
	}
}

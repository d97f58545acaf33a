package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func certCommand() *cobra.Command {
	c := new(connection)
	return noun("cert", "Certificates that were issued", c, certList(c), certShow(c), certRevoke(c))
}

// certificate is one as the API shows it.
type certificate struct {
	Serial    string    `json:"serial"`
	Device    string    `json:"device"`
	Profile   string    `json:"profile"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	KeySHA256 string    `json:"key_sha256"`
	Subject   string    `json:"subject"`
	URIs      []string  `json:"uris"`
	PEM       string    `json:"certificate"`

	Revoked    *revocation `json:"revoked"`
	NoRevAvail bool        `json:"no_rev_avail"`
}

// revocation is why a certificate counts no more, as the API shows it.
type revocation struct {
	At       time.Time `json:"at"`
	Reason   string    `json:"reason"`
	By       string    `json:"by"`
	Decision string    `json:"decision"`
}

// state is how a certificate stands, in a few words.
func (c *certificate) state() string {
	switch {
	case c.Revoked != nil:
		return "revoked (" + c.Revoked.Reason + ")"
	case time.Now().After(c.NotAfter):
		return "expired"
	}
	return "good"
}

// status says of a certificate all that there is to say about its revocation.
func (c *certificate) status() [][2]string {
	var pairs [][2]string
	if r := c.Revoked; r != nil {
		pairs = append(pairs, [2]string{"revoked", fmt.Sprintf("%s by %s: %s", when(r.At), r.By, r.Reason)}, [2]string{"decision", r.Decision})
	}
	if c.NoRevAvail {
		says := "none named in it (noRevAvail); renewals are refused here once it is revoked"
		if c.Revoked != nil {
			says = "none named in it (noRevAvail): who takes it without asking does so until it ends at " + when(c.NotAfter)
		}
		pairs = append(pairs, [2]string{"lists", says})
	}
	return pairs
}

func certList(c *connection) *cobra.Command {
	var device, profile string
	var valid, revoked bool
	var page paging
	list := &cobra.Command{
		Use:     "list",
		Short:   "List certificates, newest first",
		Example: "  hallmark cert list --device gw-0001 --valid",
		Args:    takes(),
		RunE: c.verb(func(ctx context.Context, s *session, _ []string) error {
			q := url.Values{}
			putText(q, "device", device)
			putText(q, "profile", profile)
			if valid {
				q.Set("valid", "true")
			}
			if revoked {
				q.Set("revoked", "true")
			}
			return listing[certificate]{
				path:    "/api/v1/certificates",
				columns: []string{"SERIAL", "DEVICE", "PROFILE", "FROM", "UNTIL", "STATE"},
				row: func(c certificate) []string {
					return []string{c.Serial, c.Device, c.Profile, when(c.NotBefore), when(c.NotAfter), c.state()}
				},
				none: "There are no certificates.",
			}.print(ctx, s, q, page)
		}),
	}
	list.Flags().StringVar(&device, "device", "", "only of this device")
	list.Flags().StringVar(&profile, "profile", "", "only under this profile")
	list.Flags().BoolVar(&valid, "valid", false, "only those that are valid now and not revoked")
	list.Flags().BoolVar(&revoked, "revoked", false, "only those that are revoked")
	page.flags(list)
	return list
}

func certShow(c *connection) *cobra.Command {
	return &cobra.Command{
		Use:     "show SERIAL",
		Short:   "Show one certificate",
		Example: "  hallmark cert show 3f1c9a5e0b7d4c6e8a2f1b3d5c7e9f01",
		Args:    takes("SERIAL"),
		RunE: c.verb(func(ctx context.Context, s *session, args []string) error {
			var raw json.RawMessage
			if err := s.do(ctx, "GET", "/api/v1/certificates/"+url.PathEscape(plainSerial(args[0])), nil, nil, &raw); err != nil {
				return err
			}
			if s.json {
				return printJSON(s.out, raw)
			}
			var cert certificate
			if err := json.Unmarshal(raw, &cert); err != nil {
				return err
			}
			if err := fields(s.out, append([][2]string{
				{"serial", cert.Serial}, {"subject", cert.Subject}, {"uri", strings.Join(cert.URIs, ", ")},
				{"device", cert.Device}, {"profile", cert.Profile}, {"from", when(cert.NotBefore)},
				{"until", when(cert.NotAfter)}, {"key sha256", cert.KeySHA256}, {"state", cert.state()},
			}, cert.status()...)...); err != nil {
				return err
			}
			_, err := fmt.Fprint(s.out, cert.PEM)
			return err
		}),
	}
}

// plainSerial takes a serial number as other tools print it to lower-case hex
// without separators, two digits a byte. Anything else stays as it is.
func plainSerial(text string) string {
	plain := strings.ToLower(strings.NewReplacer(":", "", " ", "").Replace(text))
	if len(plain)%2 == 1 && strings.Trim(plain, "0123456789abcdef") == "" {
		plain = "0" + plain
	}
	return plain
}

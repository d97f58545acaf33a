package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
)

// revokedCertificates is what the API answers to a revocation.
type revokedCertificates struct {
	Revoked     []revokedCertificate `json:"revoked"`
	Standing    []revokedCertificate `json:"standing"`
	More        bool                 `json:"more,omitempty"`
	Quarantined []string             `json:"quarantined,omitempty"`
}

// revokedCertificate is one of them.
type revokedCertificate struct {
	Serial  string `json:"serial"`
	Device  string `json:"device"`
	Profile string `json:"profile"`
	revocation
}

// revoking is what to revoke, from the command line.
type revoking struct {
	reason, device, key string
	keep                bool
}

func certRevoke(c *connection) *cobra.Command {
	var r revoking
	revoke := &cobra.Command{
		Use:   "revoke [SERIAL]",
		Short: "Revoke a certificate, all of a device, or all over a key; for good",
		Long: `Revoke a certificate, all certificates of a device that have not expired, or all over a key.

The device gets nothing on a revoked certificate from then on, and lists and OCSP say so within a second. A device
whose certificates are all revoked is quarantined along, unless it is to be kept: released, it starts anew with a token.
A key that is given by --key, or whose certificate is revoked for keyCompromise, is never certified again.

Reasons: keyCompromise, superseded, cessationOfOperation, affiliationChanged, privilegeWithdrawn, unspecified.`,
		Example: `  hallmark cert revoke 3f1c9a5e0b7d4c6e8a2f1b3d5c7e9f01 --reason keyCompromise
  hallmark cert revoke --device gw-0001 --reason privilegeWithdrawn
  hallmark cert revoke --key 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 --reason keyCompromise`,
		Args: cobra.MaximumNArgs(1),
	}
	revoke.RunE = func(command *cobra.Command, args []string) error {
		path, body, err := r.call(command, args)
		if err != nil {
			return err
		}
		return c.verb(func(ctx context.Context, s *session, _ []string) error { return s.revoke(ctx, path, body) })(command, args)
	}
	revoke.Flags().StringVar(&r.reason, "reason", "", "why, by its name in RFC 5280")
	revoke.Flags().StringVar(&r.device, "device", "", "all certificates of this device that have not expired")
	revoke.Flags().StringVar(&r.key, "key", "", "all certificates over the key with this SHA-256 (of its SubjectPublicKeyInfo)")
	revoke.Flags().BoolVar(&r.keep, "keep-device", false, "with --device: do not quarantine it")
	return revoke
}

// call is what to send where.
func (r *revoking) call(c *cobra.Command, args []string) (string, map[string]any, error) {
	given := len(args)
	for _, text := range []string{r.device, r.key} {
		if text != "" {
			given++
		}
	}
	switch {
	case given != 1:
		return "", nil, usageError{errors.New("name one thing to revoke: a SERIAL, --device or --key")}
	case r.reason == "":
		return "", nil, required(c, "reason", "")
	case r.keep && r.device == "":
		return "", nil, usageError{errors.New("--keep-device goes with --device")}
	case len(args) == 1:
		return "/api/v1/certificates/" + url.PathEscape(plainSerial(args[0])) + "/revoke", map[string]any{"reason": r.reason}, nil
	case r.device != "":
		return "/api/v1/certificates/revoke", map[string]any{"reason": r.reason, "device": r.device, "keep_device": r.keep}, nil
	}
	return "/api/v1/certificates/revoke", map[string]any{"reason": r.reason, "key_sha256": plainSerial(r.key)}, nil
}

// revoke asks until nothing is left to revoke, and says what became of it.
func (s *session) revoke(ctx context.Context, path string, body map[string]any) error {
	all := revokedCertificates{Revoked: []revokedCertificate{}}
	for {
		var page revokedCertificates
		if err := s.do(ctx, "POST", path, nil, object(body), &page); err != nil {
			return err
		}
		all.Revoked, all.Quarantined = append(all.Revoked, page.Revoked...), append(all.Quarantined, page.Quarantined...)
		if all.Standing == nil {
			all.Standing = page.Standing
		}
		if !page.More || len(page.Revoked) == 0 {
			break
		}
	}
	if s.json {
		raw, err := json.Marshal(all)
		if err != nil {
			return err
		}
		return printJSON(s.out, json.RawMessage(raw))
	}
	for _, c := range all.Revoked {
		fmt.Fprintf(s.out, "revoked %s of %s: %s\n", c.Serial, c.Device, c.Reason)
	}
	for _, c := range all.Standing {
		fmt.Fprintf(s.out, "was revoked %s of %s: %s, %s by %s\n", c.Serial, c.Device, c.Reason, when(c.At), c.By)
	}
	if len(all.Quarantined) > 0 {
		fmt.Fprintf(s.out, "quarantined %s\n", strings.Join(all.Quarantined, ", "))
	}
	if len(all.Revoked)+len(all.Standing) == 0 {
		fmt.Fprintln(s.out, "There was nothing to revoke.")
	}
	return nil
}

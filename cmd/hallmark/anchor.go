package main

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/hallmark-pki/hallmark/enroll"
)

func anchorCommand() *cobra.Command {
	c := new(connection)
	return noun("anchor", "Authorities of makers that a profile trusts to vouch for devices", c,
		anchorAdd(c), anchorList(c), anchorRemove(c))
}

func anchorAdd(c *connection) *cobra.Command {
	var profile, kind string
	add := &cobra.Command{
		Use:     "add FILE",
		Short:   "Trust the authorities in a PEM or DER file",
		Example: "  hallmark anchor add --profile device --kind idevid maker-root.pem",
		Args:    takes("FILE"),
		RunE: func(command *cobra.Command, args []string) error {
			if err := errors.Join(required(command, "profile", profile), required(command, "kind", kind)); err != nil {
				return usageError{err}
			}
			return c.verb(func(ctx context.Context, s *session, args []string) error {
				return addAnchors(ctx, s, args[0], profile, kind)
			})(command, args)
		},
	}
	add.Flags().StringVar(&profile, "profile", "", "the profile that is to trust them")
	add.Flags().StringVar(&kind, "kind", "", "what they vouch for: idevid (factory certificates), ek (TPMs) or ak (attestation keys)")
	return add
}

// addAnchors adds each certificate of the file by a call of its own, for each is a decision of its own.
func addAnchors(ctx context.Context, s *session, file, profile, kind string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	certificates := pemCertificates(text)
	if len(certificates) == 0 {
		return fmt.Errorf("%s holds no certificate, neither PEM nor DER", file)
	}
	added := make([]json.RawMessage, len(certificates))
	for i, certificate := range certificates {
		body := object(map[string]string{"profile": profile, "kind": kind, "certificate": certificate})
		if err := s.do(ctx, "POST", "/api/v1/anchors", nil, body, &added[i]); err != nil {
			return fmt.Errorf("certificate %d of %d: %w", i+1, len(certificates), err)
		}
		if s.json {
			continue
		}
		var a enroll.Anchor
		if err := json.Unmarshal(added[i], &a); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(s.out, "%s  %s\n", escape(a.ID), escape(a.Subject)); err != nil {
			return err
		}
	}
	switch {
	case !s.json:
		return nil
	case len(added) == 1:
		return printJSON(s.out, added[0])
	}
	return printJSON(s.out, pages{Items: added})
}

// pemCertificates returns each certificate of a file as PEM.
func pemCertificates(file []byte) []string {
	var found []string
	block, rest := pem.Decode(file)
	if block == nil && len(file) > 0 && file[0] == 0x30 { // a DER SEQUENCE
		block, rest = &pem.Block{Type: "CERTIFICATE", Bytes: file}, nil
	}
	for ; block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			found = append(found, string(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})))
		}
	}
	return found
}

func anchorList(c *connection) *cobra.Command {
	var profile, kind string
	var page paging
	list := &cobra.Command{
		Use:     "list",
		Short:   "List anchors",
		Example: "  hallmark anchor list --profile device",
		Args:    takes(),
		RunE: c.verb(func(ctx context.Context, s *session, _ []string) error {
			q := url.Values{}
			putText(q, "profile", profile)
			putText(q, "kind", kind)
			type anchor struct {
				enroll.Anchor
				NotAfter time.Time `json:"not_after"`
			}
			return listing[anchor]{
				path:    "/api/v1/anchors",
				columns: []string{"ID", "PROFILE", "KIND", "SUBJECT", "UNTIL", "ADDED BY"},
				row: func(a anchor) []string {
					return []string{a.ID, a.Profile, string(a.Kind), a.Subject, when(a.NotAfter), a.By}
				},
				none: "There are no anchors.",
			}.print(ctx, s, q, page)
		}),
	}
	list.Flags().StringVar(&profile, "profile", "", "only those of this profile")
	list.Flags().StringVar(&kind, "kind", "", "only those of this kind")
	page.flags(list)
	return list
}

func anchorRemove(c *connection) *cobra.Command {
	var profile string
	remove := &cobra.Command{
		Use:     "remove ID",
		Short:   "End the trust in an anchor",
		Example: "  hallmark anchor remove 5f0c… --profile device",
		Args:    takes("ID"),
		RunE: c.verb(func(ctx context.Context, s *session, args []string) error {
			q := url.Values{}
			putText(q, "profile", profile)
			if err := s.do(ctx, "DELETE", "/api/v1/anchors/"+url.PathEscape(args[0]), q, nil, nil); err != nil {
				return err
			}
			return s.deed("anchor", args[0], "removed")
		}),
	}
	remove.Flags().StringVar(&profile, "profile", "", "only from this profile (default: from all)")
	return remove
}

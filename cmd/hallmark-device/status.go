package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// report is what status prints.
type report struct {
	Device    string    `json:"device"`
	Serial    string    `json:"serial"` // lower-case hex
	Issuer    string    `json:"issuer"`
	Names     []string  `json:"names,omitempty"` // URIs of the subjectAltName
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	RenewAt   time.Time `json:"renew_at"` // at the latest, as run does it
	Valid     bool      `json:"valid"`
	Key       string    `json:"key"`
	TPM       string    `json:"tpm,omitempty"` // address of the TPM that the key lives in
	Server    string    `json:"server"`
	Profile   string    `json:"profile,omitempty"`
}

func statusCommand() *cobra.Command {
	var out, format string
	c := &cobra.Command{
		Use:   "status --out DIR",
		Short: "Show the certificate this device has; exit 1 if it is not valid now",
		Example: `  hallmark-device status --out /var/lib/device
  hallmark-device status --out /var/lib/device -o json`,
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case out == "":
				return usagef("--out is missing")
			case format != "text" && format != "json":
				return usagef("-o takes text or json")
			}
			held, err := folder(out).load()
			if errors.Is(err, errNothing) {
				return fmt.Errorf("%s: %w", out, err)
			}
			if err != nil {
				return err
			}
			r := held.report(time.Now())
			if err := r.print(c.OutOrStdout(), format); err != nil {
				return err
			}
			if !r.Valid {
				return errors.New("the certificate is not valid now")
			}
			return nil
		},
	}
	addOut(c, &out)
	c.Flags().StringVarP(&format, "output", "o", "text", "text or json")
	return c
}

func (c *credential) report(now time.Time) report {
	r := report{
		Device: c.device(), Serial: c.serial(), Issuer: c.certificate.Issuer.String(),
		NotBefore: c.certificate.NotBefore.UTC(), NotAfter: c.certificate.NotAfter.UTC(), RenewAt: c.renewAt(0).UTC(),
		Valid: !now.Before(c.certificate.NotBefore) && now.Before(c.certificate.NotAfter),
		Key:   string(typeOf(c.key)), Server: c.state.Server, Profile: c.state.Profile,
	}
	if k := tpmKey(c.key); k != nil {
		r.TPM = k.TPM().Address()
	}
	for _, u := range c.certificate.URIs {
		r.Names = append(r.Names, u.String())
	}
	return r
}

func (r *report) print(w io.Writer, format string) error {
	if format == "json" {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(r)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	validity := "valid"
	if !r.Valid {
		validity = "NOT VALID"
	}
	for _, row := range [][2]string{
		{"device", r.Device},
		{"serial", r.Serial},
		{"state", fmt.Sprintf("%s, %s to %s", validity, r.NotBefore.Format(time.RFC3339), r.NotAfter.Format(time.RFC3339))},
		{"renews", "by " + r.RenewAt.Format(time.RFC3339)},
		{"issuer", r.Issuer},
		{"key", r.Key},
		{"tpm", r.TPM},
		{"server", r.Server},
		{"profile", r.Profile},
	} {
		if row[1] != "" {
			fmt.Fprintf(table, "%s\t%s\n", row[0], row[1])
		}
	}
	for _, name := range r.Names {
		fmt.Fprintf(table, "name\t%s\n", name)
	}
	return table.Flush()
}

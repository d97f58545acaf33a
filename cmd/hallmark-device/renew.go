package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

func renewCommand() *cobra.Command {
	var out string
	var sameKey bool
	var changed tpmFlags
	var wait time.Duration
	c := &cobra.Command{
		Use:   "renew --out DIR",
		Short: "Exchange the certificate for a new one now",
		Long: `Ask the server that enrolled this device for another certificate, on the
strength of the one held and over a new key. Certificate and key are
exchanged in one step; if that fails, the old pair stays. A device that enrolled
with its TPM attests again, with the key that it attested with before.`,
		Example: "  hallmark-device renew --out /var/lib/device",
		RunE: func(c *cobra.Command, _ []string) error {
			if out == "" {
				return usagef("--out is missing")
			}
			release, err := folder(out).lock()
			if err != nil {
				return err
			}
			defer release()
			held, err := folder(out).enrolled(&changed)
			if err != nil {
				return err
			}
			a, err := folder(out).renewal(held, sameKey)
			if err != nil {
				return err
			}
			a.wait, a.say = wait, func(format string, args ...any) { fmt.Fprintf(c.ErrOrStderr(), format+"\n", args...) }
			got, err := a.run(c.Context())
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "renewed %s: serial %s, until %s\n",
				got.device(), got.serial(), got.certificate.NotAfter.UTC().Format(time.RFC3339))
			return nil
		},
	}
	addOut(c, &out)
	changed.addPlace(c)
	c.Flags().BoolVar(&sameKey, "same-key", false, "keep the key instead of making a new one")
	c.Flags().DurationVar(&wait, "wait", 0, "how long to wait for an operator's approval, such as 10m")
	return c
}

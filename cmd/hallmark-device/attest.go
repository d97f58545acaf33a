package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/hallmark-pki/hallmark/internal/estclient"
	"github.com/spf13/cobra"
)

func attestCommand() *cobra.Command {
	var out string
	var changed tpmFlags
	c := &cobra.Command{
		Use:   "attest --out DIR",
		Short: "Prove to the server now what this machine has booted",
		Long: `Ask the server for a nonce and answer it with a quote of the TPM, without
asking for a certificate. A device that enrolled with a software key cannot.`,
		Example: "  hallmark-device attest --out /var/lib/device",
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
			appraisal, err := folder(out).attest(c.Context(), held)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "attested %s: verdict %s (ref %s)\n", held.device(), appraisal.Verdict, appraisal.Decision)
			if len(appraisal.Reasons) > 0 {
				fmt.Fprintf(c.OutOrStdout(), "notes: %s\n", strings.Join(appraisal.Reasons, ", "))
			}
			return nil
		},
	}
	addOut(c, &out)
	changed.addPlace(c)
	return c
}

// enrolled is the current credential, or an error that says to enrol.
func (f folder) enrolled(changed *tpmFlags) (*credential, error) {
	held, err := f.loadWith(changed)
	if errors.Is(err, errNothing) {
		return nil, fmt.Errorf("%s: %w; enroll first", f, err)
	}
	return held, err
}

// attest shows the device's state between renewals, about the key it holds.
func (f folder) attest(ctx context.Context, held *credential) (*estclient.Appraisal, error) {
	a, err := f.renewal(held, true)
	if err != nil {
		return nil, err
	}
	if a.attest == nil {
		return nil, errors.New("this device enrolled with a software key and has nothing to attest with; enroll with --tpm")
	}
	appraisal, err := a.show(ctx)
	if err != nil && a.attest.forgotten(err) {
		return a.show(ctx)
	}
	return appraisal, err
}

func (a *asking) show(ctx context.Context) (*estclient.Appraisal, error) {
	session, err := a.client.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer session.Close()
	evidence, err := a.attest.evidence(ctx, session, tpmKey(a.key))
	if err != nil {
		return nil, err
	}
	return session.Attest(ctx, evidence)
}

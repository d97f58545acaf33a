package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/policy"
)

func attestationCommand() *cobra.Command {
	c := new(connection)
	return noun("attestation", "What devices prove of their TPM and of what they booted", c, attestationShow(c), baselineCommand(c))
}

// attestation is a device's as the API shows it.
type attestation struct {
	Device string `json:"device"`
	State  string `json:"state"`
	Bond   *struct {
		EK       string            `json:"ek_sha256"`
		AK       string            `json:"ak_sha256"`
		Case     string            `json:"case"`
		Verdict  string            `json:"verdict"`
		First    time.Time         `json:"first"`
		Last     time.Time         `json:"last"`
		Affirmed *time.Time        `json:"affirmed"`
		Bank     string            `json:"bank"`
		PCRs     map[string]string `json:"pcrs"`
	} `json:"bond"`
	Latest *struct {
		Decision  string          `json:"decision"`
		At        string          `json:"at"`
		Action    string          `json:"action"`
		Outcome   string          `json:"outcome"`
		Reasons   []policy.Reason `json:"reasons"`
		Appraisal appraisal       `json:"appraisal"`
	} `json:"latest"`
}

// appraisal is what of an appraisal document people read first.
type appraisal struct {
	Verdict string `json:"verdict"`
	Case    string `json:"case"`
	EK      struct {
		Manufacturer string `json:"manufacturer"`
		Model        string `json:"model"`
		Version      string `json:"version"`
	} `json:"ek"`
	Boot struct {
		SecureBoot  *bool               `json:"secure_boot"`
		LogReplayed bool                `json:"log_replayed"`
		Baseline    string              `json:"fw_match"`
		Differences []attest.Difference `json:"differences"`
	} `json:"boot"`
	Reasons []string `json:"reasons"`
}

func attestationShow(c *connection) *cobra.Command {
	return &cobra.Command{
		Use:   "show DEVICE",
		Short: "Show what a device proved last, and what differs from its reference",
		Example: `  hallmark attestation show gw-0001
  hallmark attestation show gw-0001 -o json`,
		Args: takes("DEVICE"),
		RunE: c.verb(func(ctx context.Context, s *session, args []string) error {
			var raw json.RawMessage
			if err := s.do(ctx, "GET", "/api/v1/devices/"+url.PathEscape(args[0])+"/attestation", nil, nil, &raw); err != nil {
				return err
			}
			if s.json {
				return printJSON(s.out, raw)
			}
			var a attestation
			if err := json.Unmarshal(raw, &a); err != nil {
				return err
			}
			return a.print(s)
		}),
	}
}

func (a *attestation) print(s *session) error {
	pairs := [][2]string{{"device", a.Device}, {"state", a.State}}
	if b := a.Bond; b != nil {
		pairs = append(pairs, [][2]string{
			{"endorsement key", b.EK}, {"attestation key", b.AK}, {"vouched for by", cases[b.Case]},
			{"first accepted", when(b.First)}, {"last accepted", when(b.Last) + ", " + b.Verdict},
		}...)
		if b.Affirmed != nil {
			pairs = append(pairs, [2]string{"last affirming", when(*b.Affirmed)})
		}
	}
	if a.Latest != nil {
		pairs = append(pairs, a.Latest.Appraisal.fields()...)
		pairs = append(pairs, [][2]string{
			{"latest evidence", whenText(a.Latest.At)}, {"for", a.Latest.Action}, {"outcome", a.Latest.Outcome}, {"decision", a.Latest.Decision},
		}...)
		for _, r := range a.Latest.Reasons {
			pairs = append(pairs, [2]string{"because", r.Code + ": " + r.Detail})
		}
	}
	if err := fields(s.out, pairs...); err != nil {
		return err
	}
	if a.Latest == nil {
		return nil
	}
	return printDifferences(s, a.Latest.Appraisal.Boot.Differences)
}

// cases says who vouched for an attestation key.
var cases = map[string]string{
	string(attest.CaseCertificate): "a certificate of the attestation key (A)",
	string(attest.CasePinned):      "an earlier enrolment: the key is pinned (B)",
	string(attest.CaseActivation):  "an endorsement key certificate, by credential activation (C)",
	string(attest.CaseIDevID):      "a factory certificate; no TPM evidence (D)",
	string(attest.CaseRegistered):  "the register's endorsement key, by credential activation (E)",
}

func (a *appraisal) fields() [][2]string {
	secure := ""
	if a.Boot.SecureBoot != nil {
		secure = "off"
		if *a.Boot.SecureBoot {
			secure = "on"
		}
	}
	tpm := strings.TrimSpace(strings.Join([]string{a.EK.Manufacturer, a.EK.Model, a.EK.Version}, " "))
	return [][2]string{
		{"TPM", tpm}, {"verdict", a.Verdict}, {"remarks", strings.Join(a.Reasons, ", ")}, {"secure boot", secure}, {"baseline", a.Boot.Baseline},
	}
}

// printDifferences says which registers differ, and which measurements make them differ.
func printDifferences(s *session, differences []attest.Difference) error {
	for _, d := range differences {
		fmt.Fprintf(s.out, "PCR %d differs\n", d.PCR)
		fmt.Fprintf(s.out, "  got       %s\n", escape(d.Got))
		for _, value := range d.Expected {
			fmt.Fprintf(s.out, "  expected  %s\n", escape(value))
		}
		for _, e := range d.Events {
			fmt.Fprintf(s.out, "  event %d   %s %s %s\n", e.Index, escape(e.Type), escape(e.Digest), escape(e.Says))
		}
		for _, digest := range d.Missing {
			fmt.Fprintf(s.out, "  missing   %s\n", escape(digest))
		}
		if len(d.Events)+len(d.Missing) == 0 {
			fmt.Fprintln(s.out, "  no event log is there to say which measurement it was")
		}
	}
	return nil
}

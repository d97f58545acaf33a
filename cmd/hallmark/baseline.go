package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hallmark-pki/hallmark/attest"
)

func baselineCommand(c *connection) *cobra.Command {
	command := &cobra.Command{Use: "baseline VERB", Short: "Reference values: what devices of a model may boot", Args: knownVerb,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	return withVerbs(command, baselineAdd(c), baselineLearn(c), baselineList(c), baselineShow(c),
		baselineActivate(c), baselineMove(c, "deprecate", "deprecated", "Accept it still, with a warning", false),
		baselineMove(c, "deny", "denied", "Refuse and quarantine whoever boots this", false))
}

const baselinesPath = "/api/v1/baselines"

func baselineAdd(c *connection) *cobra.Command {
	return &cobra.Command{
		Use:   "add FILE",
		Short: "Propose a baseline from a file: JSON, or a CoRIM in CBOR (- is standard input)",
		Example: `  hallmark attestation baseline add px20-2.4.1.json
  hallmark attestation baseline add px20-2.4.1.corim`,
		Args: takes("FILE"),
		RunE: c.verb(func(ctx context.Context, s *session, args []string) error {
			text, err := readAll(args[0])
			if err != nil {
				return err
			}
			body := &content{kind: "application/json", body: strings.NewReader(string(text))}
			if len(text) > 0 && text[0]>>5 == 6 { // RFC 8949, Section 3: major type 6, a tag
				body.kind = "application/rim+cbor"
			}
			return s.madeBaseline(ctx, "POST", baselinesPath, body)
		}),
	}
}

func readAll(name string) ([]byte, error) {
	const most = 256 << 10
	in := io.Reader(os.Stdin)
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, most+1))
	if err == nil && len(text) > most {
		err = fmt.Errorf("%s is larger than %d bytes", name, most)
	}
	return text, err
}

// madeBaseline makes a call that answers with a baseline, or with several, and prints their ids.
func (s *session) madeBaseline(ctx context.Context, method, path string, body *content) error {
	var raw json.RawMessage
	if err := s.do(ctx, method, path, nil, body, &raw); err != nil {
		return err
	}
	return s.printBaseline(raw)
}

func (s *session) printBaseline(raw json.RawMessage) error {
	if s.json {
		return printJSON(s.out, raw)
	}
	var b attest.Baseline
	if err := json.Unmarshal(raw, &b); err != nil {
		return err
	}
	_, err := fmt.Fprintf(s.out, "%s  %s %s: %s\n", escape(b.ID), escape(b.Model), escape(b.Firmware), escape(string(b.State)))
	return err
}

func baselineLearn(c *connection) *cobra.Command {
	var device, firmware string
	var activate bool
	learn := &cobra.Command{
		Use:   "learn",
		Short: "Propose a baseline from the evidence that a device had accepted last",
		Long: `Propose a baseline for a device's model from the evidence that was accepted of it
last. The proposal is a draft and counts for nobody until somebody activates it;
--activate does so at once, by a decision of its own.`,
		Example: `  hallmark attestation baseline learn --device gw-0001 --firmware 2.4.1
  hallmark attestation baseline learn --device gw-0001 --activate`,
		Args: takes(),
	}
	learn.RunE = func(command *cobra.Command, args []string) error {
		if err := required(command, "device", device); err != nil {
			return usageError{err}
		}
		return c.verb(func(ctx context.Context, s *session, _ []string) error {
			var raw json.RawMessage
			body := object(map[string]string{"device": device, "firmware": firmware})
			if err := s.do(ctx, "POST", baselinesPath+"/learn", nil, body, &raw); err != nil {
				return err
			}
			if !activate {
				return s.printBaseline(raw)
			}
			var b attest.Baseline
			if err := json.Unmarshal(raw, &b); err != nil {
				return err
			}
			return s.madeBaseline(ctx, "POST", baselinesPath+"/"+url.PathEscape(b.ID)+"/activate", object(map[string]string{}))
		})(command, args)
	}
	learn.Flags().StringVar(&device, "device", "", "the device to learn from (required)")
	learn.Flags().StringVar(&firmware, "firmware", "", "what to call the release that it runs")
	learn.Flags().BoolVar(&activate, "activate", false, "activate the baseline at once")
	return learn
}

func baselineList(c *connection) *cobra.Command {
	var model, state string
	var page paging
	list := &cobra.Command{
		Use:     "list",
		Short:   "List baselines, newest first",
		Example: "  hallmark attestation baseline list --model PX-20 --state active",
		Args:    takes(),
		RunE: c.verb(func(ctx context.Context, s *session, _ []string) error {
			q := url.Values{}
			putText(q, "model", model)
			putText(q, "state", state)
			return listing[attest.Baseline]{
				path:    baselinesPath,
				columns: []string{"ID", "MODEL", "FIRMWARE", "STATE", "PCRS", "SOURCE", "CREATED", "BY"},
				row: func(b attest.Baseline) []string {
					return []string{b.ID, b.Model, b.Firmware, string(b.State), registers(b), b.Source, when(b.Created), b.By}
				},
				none: "There are no baselines.",
			}.print(ctx, s, q, page)
		}),
	}
	list.Flags().StringVar(&model, "model", "", "only of this model")
	list.Flags().StringVar(&state, "state", "", "draft, canary, active, deprecated or denied")
	page.flags(list)
	return list
}

// registers names the PCRs that a baseline has values for, as sha256:0,1,7.
func registers(b attest.Baseline) string {
	var banks []string
	for bank, values := range b.PCRs {
		var indices []int
		for index := range values {
			indices = append(indices, index)
		}
		slices.Sort(indices)
		text := make([]string, len(indices))
		for i, index := range indices {
			text[i] = strconv.Itoa(index)
		}
		banks = append(banks, bank+":"+strings.Join(text, ","))
	}
	slices.Sort(banks)
	return strings.Join(banks, " ")
}

func baselineShow(c *connection) *cobra.Command {
	var out string
	show := &cobra.Command{
		Use:   "show ID",
		Short: "Show a baseline as JSON, which add takes again; --corim writes it as a CoRIM",
		Example: `  hallmark attestation baseline show 0687j8cvk5b0fmqlmpsb1m9o2k
  hallmark attestation baseline show 0687j8cvk5b0fmqlmpsb1m9o2k --corim px20-2.4.1.corim`,
		Args: takes("ID"),
		RunE: c.verb(func(ctx context.Context, s *session, args []string) error {
			path := baselinesPath + "/" + url.PathEscape(args[0])
			if out != "" {
				return s.saveCoRIM(ctx, path+"/corim", out)
			}
			var raw json.RawMessage
			if err := s.do(ctx, "GET", path, nil, nil, &raw); err != nil {
				return err
			}
			return printJSON(s.out, raw)
		}),
	}
	show.Flags().StringVar(&out, "corim", "", "`file` to write it to as an unsigned CoRIM (CBOR)")
	return show
}

// saveCoRIM writes a file whole or not at all.
func (s *session) saveCoRIM(ctx context.Context, path, out string) error {
	response, err := s.call(ctx, "GET", path, nil, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return err
	}
	return os.WriteFile(out, body, 0o644)
}

func baselineActivate(c *connection) *cobra.Command {
	var canary, reason string
	activate := &cobra.Command{
		Use:   "activate ID",
		Short: "Make a baseline count for its model, or with --canary for the devices of one label",
		Example: `  hallmark attestation baseline activate 0687j8cvk5b0fmqlmpsb1m9o2k --canary ring=canary
  hallmark attestation baseline activate 0687j8cvk5b0fmqlmpsb1m9o2k`,
		Args: takes("ID"),
		RunE: c.verb(func(ctx context.Context, s *session, args []string) error {
			body := map[string]string{"canary": canary, "reason": reason}
			return s.madeBaseline(ctx, "POST", baselinesPath+"/"+url.PathEscape(args[0])+"/activate", object(body))
		}),
	}
	activate.Flags().StringVar(&canary, "canary", "", "only for devices with this `label=value`")
	activate.Flags().StringVar(&reason, "reason", "", "why, for the record")
	return activate
}

// baselineMove is a verb that ends a baseline's active life.
func baselineMove(c *connection, verb, outcome, short string, must bool) *cobra.Command {
	var reason string
	move := &cobra.Command{Use: verb + " ID", Short: short, Args: takes("ID"),
		Example: "  hallmark attestation baseline " + verb + ` 0687j8cvk5b0fmqlmpsb1m9o2k --reason "superseded"`}
	move.RunE = c.reasoned("baseline", baselinesPath+"/", verb, outcome, &reason, must)
	move.Flags().StringVar(&reason, "reason", "", "why, for the record")
	return move
}

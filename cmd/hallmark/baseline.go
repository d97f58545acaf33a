package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/attest/corim"
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
	var key string
	add := &cobra.Command{
		Use:   "add FILE",
		Short: "Propose baselines from a file: JSON, or a CoRIM in CBOR (- is standard input)",
		Long: `Propose baselines from a file: one in JSON, as "show" prints it, or those of a
CoRIM in CBOR. A signed CoRIM is verified here, with --key, before anything is sent.`,
		Example: `  hallmark attestation baseline add px20-2.4.1.json
  hallmark attestation baseline add px20-2.4.1.corim --key maker.pub`,
		Args: takes("FILE"),
		RunE: c.verb(func(ctx context.Context, s *session, args []string) error {
			documents, err := baselinesIn(args[0], key)
			if err != nil {
				return err
			}
			for i, document := range documents {
				body := &content{kind: "application/json", body: bytes.NewReader(document)}
				if err := s.madeBaseline(ctx, "POST", baselinesPath, body); err != nil {
					return fmt.Errorf("baseline %d of %d: %w", i+1, len(documents), err)
				}
			}
			return nil
		}),
	}
	add.Flags().StringVar(&key, "key", "", "PEM `file` with the public key that a CoRIM has to be signed with")
	return add
}

// baselinesIn returns the baselines of a file, each as the JSON that the API takes.
func baselinesIn(name, keyFile string) ([][]byte, error) {
	text, err := readAll(name)
	if err != nil {
		return nil, err
	}
	if len(text) == 0 || text[0]>>5 != 6 { // RFC 8949, Section 3: major type 6, a tag, as every CoRIM begins with
		if keyFile != "" {
			return nil, usageError{errors.New("--key is for a signed CoRIM, and this file is JSON")}
		}
		return [][]byte{text}, nil
	}
	var key crypto.PublicKey
	if keyFile != "" {
		if key, err = publicKeyIn(keyFile); err != nil {
			return nil, err
		}
	}
	found, err := corim.Read(text, key, time.Now())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	documents := make([][]byte, len(found))
	for i := range found {
		if documents[i], err = json.Marshal(&found[i]); err != nil {
			return nil, err
		}
	}
	return documents, nil
}

// publicKeyIn reads a public key, or that of a certificate, in PEM.
func publicKeyIn(name string) (crypto.PublicKey, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM", name)
	}
	if block.Type == "CERTIFICATE" {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return cert.PublicKey, nil
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s holds no public key in PEM: %w", name, err)
	}
	return key, nil
}

func readAll(name string) ([]byte, error) {
	in := io.Reader(os.Stdin)
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, attest.MaxBaseline+1))
	if err == nil && len(text) > attest.MaxBaseline {
		err = fmt.Errorf("%s is larger than %d bytes", name, attest.MaxBaseline)
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
	var registers []int
	var activate, refused bool
	learn := &cobra.Command{
		Use:   "learn",
		Short: "Propose a baseline from the evidence that a device had accepted last",
		Long: `Propose a baseline for a device's model from the evidence that was accepted of it
last. The proposal is a draft and counts for nobody until somebody activates it;
--activate does so at once, by a decision of its own.`,
		Example: `  hallmark attestation baseline learn --device gw-0001 --firmware 2.4.1
  hallmark attestation baseline learn --device gw-0001 --firmware 2.5.0 --refused
  hallmark attestation baseline learn --device gw-0001 --activate`,
		Args: takes(),
	}
	learn.RunE = func(command *cobra.Command, args []string) error {
		if err := required(command, "device", device); err != nil {
			return usageError{err}
		}
		return c.verb(func(ctx context.Context, s *session, _ []string) error {
			var raw json.RawMessage
			body := object(map[string]any{"device": device, "firmware": firmware, "pcrs": registers, "refused": refused})
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
	learn.Flags().IntSliceVar(&registers, "pcrs", nil, "only these `registers`, such as 0,2,4,7 (default: all that it quoted)")
	learn.Flags().BoolVar(&refused, "refused", false, "from what the device was refused for last, as new firmware is")
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
			var raw json.RawMessage
			if err := s.do(ctx, "GET", baselinesPath+"/"+url.PathEscape(args[0]), nil, nil, &raw); err != nil {
				return err
			}
			if out != "" {
				return saveCoRIM(raw, out)
			}
			return printJSON(s.out, raw)
		}),
	}
	show.Flags().StringVar(&out, "corim", "", "`file` to write it to as an unsigned CoRIM (CBOR)")
	return show
}

// saveCoRIM writes a baseline's CoRIM to a file.
func saveCoRIM(document []byte, out string) error {
	var b attest.Baseline
	if err := json.Unmarshal(document, &b); err != nil {
		return err
	}
	file, err := corim.Write(&b)
	if err != nil {
		return err
	}
	return os.WriteFile(out, file, 0o644)
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

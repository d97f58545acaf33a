package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hallmark-pki/hallmark/fleet"
)

func deviceCommand() *cobra.Command {
	c := new(connection)
	return noun("device", "The register of devices", c,
		deviceImport(c), deviceList(c), deviceShow(c),
		deviceMove(c, "quarantine", "quarantined", "Stop a device: it gets nothing until it is released",
			`  hallmark device quarantine gw-0001 --reason "seal broken"`, true),
		deviceMove(c, "unbind", "no longer bound to its TPM", "Forget the TPM that a device attested with, as after a repair",
			`  hallmark device unbind gw-0001 --reason "board replaced"`, true),
		deviceMove(c, "release", "released", "End a device's quarantine", "  hallmark device release gw-0001", false),
		deviceMove(c, "retire", "retired", "End a device's life for good",
			`  hallmark device retire gw-0001 --reason "scrapped"`, true))
}

func deviceImport(c *connection) *cobra.Command {
	var format string
	var model, batch string
	command := &cobra.Command{
		Use:   "import FILE",
		Short: "Take devices into the register, from CSV or JSON Lines (- is standard input)",
		Long: `Take devices into the register, from CSV with a header line or from JSON Lines.
The columns are id, model, serial, batch, ek_sha256, ak_sha256 and label.NAME.
Importing a file again changes nothing; lines that are wrong are reported one by
one and do not stop the others.`,
		Example: `  hallmark device import devices.csv
  generate-devices | hallmark device import --format jsonl -`,
		Args: takes("FILE"),
		RunE: c.verb(func(ctx context.Context, s *session, args []string) error {
			q := url.Values{}
			putText(q, "model", model)
			putText(q, "batch", batch)
			return importFile(ctx, s, args[0], format, q)
		}),
	}
	command.Flags().StringVar(&format, "format", "", "csv or jsonl (default: by the file's name, else by its first character)")
	command.Flags().StringVar(&model, "model", "", "take only devices of this model: for operators whose role is held for it")
	command.Flags().StringVar(&batch, "batch", "", "likewise of this batch")
	return command
}

func importFile(ctx context.Context, s *session, name, format string, q url.Values) error {
	in := io.Reader(os.Stdin)
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	body := bufio.NewReader(in)
	kind, err := importType(name, format, body)
	if err != nil {
		return err
	}
	var raw json.RawMessage
	if err := s.do(ctx, "POST", "/api/v1/devices/import", q, &content{kind: kind, body: body}, &raw); err != nil {
		return err
	}
	var done fleet.Imported
	if err := json.Unmarshal(raw, &done); err != nil {
		return err
	}
	if s.json {
		if err := printJSON(s.out, raw); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(s.out, "%d created, %d updated, %d unchanged, %d failed\n", done.Created, done.Updated, done.Unchanged, len(done.Errors))
	}
	for _, e := range done.Errors {
		if e.ID != "" {
			e.Says = e.ID + ": " + e.Says
		}
		fmt.Fprintf(s.err, "line %d: %s\n", e.Line, escape(e.Says))
	}
	if n := len(done.Errors); n > 0 {
		return fmt.Errorf("%d of %d lines of %s were not taken", n, n+done.Created+done.Updated+done.Unchanged, name)
	}
	return nil
}

// importType says what kind of file it is: as told, else by its name, else by its first character.
func importType(name, format string, in *bufio.Reader) (string, error) {
	const csv, jsonl = "text/csv", "application/x-ndjson"
	switch format {
	case "csv":
		return csv, nil
	case "jsonl":
		return jsonl, nil
	case "":
	default:
		return "", usageError{fmt.Errorf("--format is csv or jsonl, not %q", format)}
	}
	switch strings.ToLower(filepath.Ext(name)) {
	case ".csv":
		return csv, nil
	case ".jsonl", ".ndjson":
		return jsonl, nil
	}
	if start, err := in.Peek(1); err == nil && start[0] == '{' {
		return jsonl, nil
	}
	return csv, nil
}

func deviceList(c *connection) *cobra.Command {
	var model, batch, state string
	var page paging
	list := &cobra.Command{
		Use:     "list",
		Short:   "List devices by id",
		Example: "  hallmark device list --model gw-200 --state quarantined",
		Args:    takes(),
		RunE: c.verb(func(ctx context.Context, s *session, _ []string) error {
			q := url.Values{}
			putText(q, "model", model)
			putText(q, "batch", batch)
			putText(q, "state", state)
			return listing[fleet.Device]{
				path:    "/api/v1/devices",
				columns: []string{"ID", "MODEL", "SERIAL", "BATCH", "STATE", "REASON", "CHANGED"},
				row: func(d fleet.Device) []string {
					return []string{d.ID, d.Model, d.Serial, d.Batch, string(d.State), d.Reason, when(d.Changed)}
				},
				none: "There are no devices.",
			}.print(ctx, s, q, page)
		}),
	}
	list.Flags().StringVar(&model, "model", "", "only of this model")
	list.Flags().StringVar(&batch, "batch", "", "only of this batch")
	list.Flags().StringVar(&state, "state", "", "expected, active, quarantined or retired")
	page.flags(list)
	return list
}

func deviceShow(c *connection) *cobra.Command {
	return &cobra.Command{
		Use:     "show ID",
		Short:   "Show one device",
		Example: "  hallmark device show gw-0001",
		Args:    takes("ID"),
		RunE: c.verb(func(ctx context.Context, s *session, args []string) error {
			var raw json.RawMessage
			if err := s.do(ctx, "GET", "/api/v1/devices/"+url.PathEscape(args[0]), nil, nil, &raw); err != nil {
				return err
			}
			var d fleet.Device
			if err := json.Unmarshal(raw, &d); err != nil {
				return err
			}
			return s.print(raw, func() [][2]string { return deviceFields(d) })
		}),
	}
}

func deviceFields(d fleet.Device) [][2]string {
	pairs := [][2]string{
		{"id", d.ID}, {"state", string(d.State)}, {"reason", d.Reason}, {"model", d.Model}, {"serial", d.Serial},
		{"batch", d.Batch}, {"ek sha256", d.EKSHA256}, {"ak sha256", d.AKSHA256},
	}
	names := make([]string, 0, len(d.Labels))
	for name := range d.Labels {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		pairs = append(pairs, [2]string{escape("label " + name), d.Labels[name]})
	}
	return append(pairs, [2]string{"created", when(d.Created)}, [2]string{"changed", when(d.Changed)})
}

// deviceMove is a verb that changes a device's state.
func deviceMove(c *connection, verb, outcome, short, example string, must bool) *cobra.Command {
	var reason string
	move := &cobra.Command{Use: verb + " ID", Short: short, Example: example, Args: takes("ID")}
	move.RunE = c.reasoned("device", "/api/v1/devices/", verb, outcome, &reason, must)
	move.Flags().StringVar(&reason, "reason", "", "why, for the record")
	return move
}

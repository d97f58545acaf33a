package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/hallmark-pki/hallmark/audit"
)

func auditCommand() *cobra.Command {
	c := new(connection)
	return noun("audit", "The record: read it, export it, prove and verify it", c,
		auditList(c), auditExport(c), auditVerify(c), auditProof(c))
}

// entry is an event of the record as the API shows it.
type entry struct {
	ID    string `json:"id"`
	Index *int64 `json:"index"`
	Entry struct {
		At      string      `json:"at"`
		Action  string      `json:"action"`
		Actor   audit.Party `json:"actor"`
		Object  audit.Party `json:"object"`
		Outcome string      `json:"outcome"`
	} `json:"entry"`
}

func auditList(c *connection) *cobra.Command {
	var action, actor, object, outcome string
	var since, until moment
	var page paging
	list := &cobra.Command{
		Use:     "list",
		Short:   "List the record's entries, newest first",
		Example: "  hallmark audit list --action token.create --since 7d",
		Args:    takes(),
		RunE: c.verb(func(ctx context.Context, s *session, _ []string) error {
			q := url.Values{}
			putText(q, "action", action)
			putText(q, "actor", actor)
			putText(q, "object", object)
			putText(q, "outcome", outcome)
			since.put(q, "since")
			until.put(q, "until")
			return listing[entry]{
				path:    "/api/v1/audit/entries",
				columns: []string{"INDEX", "TIME", "ACTION", "BY", "OBJECT", "OUTCOME", "ID"},
				row: func(e entry) []string {
					index := "waiting"
					if e.Index != nil {
						index = strconv.FormatInt(*e.Index, 10)
					}
					return []string{index, whenText(e.Entry.At), e.Entry.Action, e.Entry.Actor.Type + " " + e.Entry.Actor.ID,
						e.Entry.Object.Type + " " + e.Entry.Object.ID, e.Entry.Outcome, e.ID}
				},
				none: "The record has no such entries.",
			}.print(ctx, s, q, page)
		}),
	}
	f := list.Flags()
	f.StringVar(&action, "action", "", "only of this action, such as device.import")
	f.StringVar(&actor, "actor", "", "only by this device or operator")
	f.StringVar(&object, "object", "", "only upon the thing with this id")
	f.StringVar(&outcome, "outcome", "", "granted, refused, held or done")
	f.Var(&since, "since", "from then on: so long ago (24h, 7d), a date or a time")
	f.Var(&until, "until", "before then")
	page.flags(list)
	return list
}

func auditExport(c *connection) *cobra.Command {
	var file string
	export := &cobra.Command{
		Use:   "export --out FILE",
		Short: "Write the whole record to one file that can be verified offline",
		Example: `  hallmark audit export --out record.ndjson
  hallmark audit verify record.ndjson --key log.pub`,
		Args: takes(),
		RunE: func(command *cobra.Command, args []string) error {
			if err := required(command, "out", file); err != nil {
				return err
			}
			return c.verb(func(ctx context.Context, s *session, _ []string) error {
				_, size, err := s.download(ctx, "GET", "/api/v1/audit/export", file, 0o644)
				if err != nil {
					return err
				}
				return s.wrote(file, size)
			})(command, args)
		},
	}
	export.Flags().StringVar(&file, "out", "", "the file to write")
	return export
}

// wrote says that a file is there.
func (s *session) wrote(file string, size int64) error {
	if s.json {
		return printJSON(s.out, map[string]any{"file": file, "bytes": size})
	}
	_, err := fmt.Fprintf(s.out, "wrote %s (%d bytes)\n", file, size)
	return err
}

func auditVerify(c *connection) *cobra.Command {
	var key string
	verify := &cobra.Command{
		Use:   "verify FILE…",
		Short: "Verify exports, proofs and checkpoints, offline and against each other",
		Long: `Verify exports, proofs and checkpoints with nothing but the log's public key.
No server is asked. Several files are checked against each other too: an older
checkpoint must be a beginning of what a newer file holds.`,
		Example: `  hallmark audit verify record.ndjson
  hallmark audit verify --key log.pub last-month.checkpoint record.ndjson`,
		Args: func(command *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{fmt.Errorf("FILE is missing; see %q", command.CommandPath()+" --help")}
			}
			return nil
		},
		RunE: func(command *cobra.Command, args []string) error {
			asJSON, err := c.asJSON()
			if err != nil {
				return err
			}
			if key == "" {
				key = filepath.Join(c.dir, "log.pub")
			}
			return verifyFiles(command.OutOrStdout(), key, args, asJSON)
		},
	}
	verify.Flags().StringVar(&key, "key", "", "file with the log's public key (default DATA/log.pub)")
	return verify
}

func verifyFiles(out io.Writer, key string, files []string, asJSON bool) error {
	text, err := os.ReadFile(key)
	if err != nil {
		return fmt.Errorf("no public key of the log: %w (name one with --key)", err)
	}
	verifier, err := audit.ReadKey(text)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	report, err := audit.Verify(audit.Keys(verifier), files...)
	if err != nil {
		return err
	}
	if asJSON {
		err = printJSON(out, report)
	} else {
		_, err = io.WriteString(out, report.String())
	}
	if err == nil && !report.Verified {
		err = errors.New("not verified")
	}
	return err
}

func auditProof(c *connection) *cobra.Command {
	var file string
	proof := &cobra.Command{
		Use:   "proof SERIAL|ENTRY",
		Short: "Prove that a certificate's issuance, or any entry, stands in the record",
		Example: `  hallmark audit proof 3f1c9a5e0b7d4c6e8a2f1b3d5c7e9f01 --out issued.proof
  hallmark audit verify issued.proof`,
		Args: takes("SERIAL or ENTRY"),
		RunE: c.verb(func(ctx context.Context, s *session, args []string) error {
			var raw json.RawMessage
			if err := s.do(ctx, "GET", "/api/v1/audit/proof/"+url.PathEscape(plainSerial(args[0])), nil, nil, &raw); err != nil {
				return err
			}
			return printProof(s, raw, file)
		}),
	}
	proof.Flags().StringVar(&file, "out", "", "write the proof to this file (default: standard output)")
	return proof
}

// printProof writes a proof in the text form of C2SP tlog-proof, or with -o json as JSON.
func printProof(s *session, raw json.RawMessage, file string) error {
	text := append([]byte(raw), '\n')
	if !s.json {
		p, err := audit.ParseProof(raw)
		if err != nil {
			return err
		}
		text = p.Text()
	}
	if file != "" {
		return os.WriteFile(file, text, 0o644)
	}
	_, err := s.out.Write(text)
	return err
}

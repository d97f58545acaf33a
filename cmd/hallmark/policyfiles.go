package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/hallmark-pki/hallmark/policy/rego"
	"github.com/hallmark-pki/hallmark/policy/release"
)

func policyCommand() *cobra.Command {
	c := new(connection)
	verbs := append([]*cobra.Command{policyShow(c), policyCheck(c), policyTest(c), policyCapabilities()}, policyVerbs(c)...)
	return noun("policy", "The rules: show, check and test them; propose, replay, approve and activate a change", c, verbs...)
}

// policyFile is one file of a policy directory.
type policyFile struct {
	Name    string `json:"name"`
	Content string `json:"content"`
}

func policyShow(c *connection) *cobra.Command {
	var out, bundle, key string
	show := &cobra.Command{
		Use:   "show [PROPOSAL]",
		Short: "Print the rules in force, or a proposal; or write the rules to a directory",
		Long: `Print the rules that the server answers with, or write them to a directory, with
--out. With a proposal, say where it stands, or write its rules. Where no server runs
the rules are those of the policy directory.

--bundle and --public-key are for gateways: the rules in force as an OPA bundle that this
server has signed, and the key to verify it with.`,
		Example: `  hallmark policy show
  hallmark policy show --out my-policy
  hallmark policy show 06h0ksg103pjsk82
  hallmark policy show --bundle policy.tar.gz --public-key policy.pem`,
		Args: func(command *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return takes("PROPOSAL")(command, args)
		},
		RunE: func(command *cobra.Command, args []string) error {
			if bundle != "" || key != "" {
				return c.verb(func(ctx context.Context, s *session, args []string) error {
					return s.forGateways(ctx, args, bundle, key)
				})(command, args)
			}
			if _, err := os.Stat(filepath.Join(c.dir, runFile)); len(args) == 0 && c.server == "" && errors.Is(err, fs.ErrNotExist) {
				return showDirectory(c, command.OutOrStdout(), out)
			}
			return c.verb(func(ctx context.Context, s *session, args []string) error { return s.showPolicy(ctx, args, out) })(command, args)
		},
	}
	show.Flags().StringVar(&out, "out", "", "a new directory to write the files to")
	show.Flags().StringVar(&bundle, "bundle", "", "a new file to write the rules in force to, as a signed OPA bundle")
	show.Flags().StringVar(&key, "public-key", "", "a new file to write the key to that verifies it, in PEM")
	show.MarkFlagsMutuallyExclusive("out", "bundle")
	show.MarkFlagsMutuallyExclusive("out", "public-key")
	return show
}

// showPolicy shows what the server says: the rules in force, or a proposal.
func (s *session) showPolicy(ctx context.Context, args []string, out string) error {
	path := policyPath + "/revisions/current"
	if len(args) > 0 {
		path = proposalPath + url.PathEscape(args[0])
		if out == "" {
			return s.proposal(ctx, "GET", path, nil, nil)
		}
	}
	packed, err := s.bundle(ctx, path+"/bundle")
	if err != nil {
		return err
	}
	b, err := rego.ReadBundle(packed, nil)
	if err != nil {
		return fmt.Errorf("the server's answer cannot be read: %w", err)
	}
	var files []policyFile
	for _, f := range b.Files() {
		files = append(files, policyFile{f.Name, string(f.Text)})
	}
	whole := map[string]any{"digest": b.Digest(), "files": files}
	if len(args) > 0 {
		return showFiles(s.out, s.json, out, files, whole)
	}
	var force release.Force
	if err := s.do(ctx, "GET", policyPath, nil, nil, &force); err != nil {
		return err
	}
	whole["in_force"] = force
	if out == "" && !s.json {
		if err := s.printForce(&force); err != nil {
			return err
		}
	}
	return showFiles(s.out, s.json, out, files, whole)
}

// showDirectory shows the rules that a server would start with.
func showDirectory(c *connection, w io.Writer, out string) error {
	asJSON, err := c.asJSON()
	if err != nil {
		return err
	}
	dir, err := policyDir(c.dir)
	if err != nil {
		return err
	}
	files, err := readPolicy(dir)
	if err != nil {
		return err
	}
	return showFiles(w, asJSON, out, files, map[string]any{"dir": dir, "files": files})
}

// showFiles writes the files to the directory out, or prints them.
func showFiles(w io.Writer, asJSON bool, out string, files []policyFile, whole map[string]any) error {
	switch {
	case out != "":
		return writePolicy(out, files)
	case asJSON:
		return printJSON(w, whole)
	}
	for _, f := range files {
		if _, err := fmt.Fprintf(w, "# ---- %s\n%s\n", f.Name, f.Content); err != nil {
			return err
		}
	}
	return nil
}

// policyDir is where the configuration of a data directory says the rules are.
func policyDir(dir string) (string, error) {
	config, err := readConfig(filepath.Join(dir, configFile), options{})
	if err != nil {
		return "", err
	}
	if filepath.IsAbs(config.Policy.Dir) {
		return config.Policy.Dir, nil
	}
	return filepath.Join(dir, config.Policy.Dir), nil
}

func readPolicy(dir string) ([]policyFile, error) {
	files := []policyFile{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if ext := filepath.Ext(path); ext != ".rego" && ext != ".json" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		files = append(files, policyFile{filepath.ToSlash(name), string(text)})
		return err
	})
	return files, err
}

func writePolicy(dir string, files []policyFile) error {
	if there, err := os.ReadDir(dir); err == nil && len(there) > 0 {
		return fmt.Errorf("%s is not empty", dir)
	}
	for _, f := range files {
		if !filepath.IsLocal(filepath.FromSlash(f.Name)) {
			return fmt.Errorf("%q is no name of a policy's file", f.Name)
		}
		path := filepath.Join(dir, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(f.Content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func policyCheck(c *connection) *cobra.Command {
	return &cobra.Command{
		Use:     "check DIR",
		Short:   "Say whether the server would take the policy in a directory, and if not, why",
		Example: "  hallmark policy check my-policy",
		Args:    takes("DIR"),
		RunE: func(command *cobra.Command, args []string) error {
			asJSON, err := c.asJSON()
			if err != nil {
				return err
			}
			return checkPolicy(command.Context(), command.OutOrStdout(), args[0], asJSON)
		},
	}
}

func checkPolicy(ctx context.Context, out io.Writer, dir string, asJSON bool) error {
	err := rego.Check(orBackground(ctx), dir)
	var found rego.Problems
	if err != nil && !errors.As(err, &found) {
		return err
	}
	if asJSON {
		problems := append(rego.Problems{}, found...) // never null
		if printed := printJSON(out, map[string]any{"ok": err == nil, "problems": problems}); printed != nil {
			return printed
		}
	}
	if err != nil {
		return fmt.Errorf("the policy in %s would not be taken:\n%w", dir, err)
	}
	if !asJSON {
		_, err = fmt.Fprintf(out, "The policy in %s is in order.\n", dir)
	}
	return err
}

func policyTest(c *connection) *cobra.Command {
	return &cobra.Command{
		Use:     "test DIR",
		Short:   "Run the test_ rules of a policy directory",
		Example: "  hallmark policy test my-policy",
		Args:    takes("DIR"),
		RunE: func(command *cobra.Command, args []string) error {
			asJSON, err := c.asJSON()
			if err != nil {
				return err
			}
			results, err := rego.Test(orBackground(command.Context()), args[0])
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(command.OutOrStdout(), results)
			} else {
				err = printResults(command.OutOrStdout(), results)
			}
			if err == nil && !results.Passed() {
				err = errors.New("the policy's tests do not pass")
			}
			return err
		},
	}
}

func printResults(w io.Writer, results rego.Results) error {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	passed, failed, skipped := 0, 0, 0
	for _, c := range results.Cases {
		verdict := "PASS"
		switch {
		case c.Skipped:
			verdict = "skip"
			skipped++
		case c.Passed:
			passed++
		default:
			verdict = "FAIL"
			failed++
		}
		fmt.Fprintf(out, "%s\t%s\t%s:%d\t%s\n", verdict, escape(c.Name), escape(c.File), c.Line, escape(c.Error))
	}
	if err := out.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%d passed, %d failed, %d skipped; %.0f %% of the rules' lines covered\n", passed, failed, skipped, results.Coverage)
	return err
}

func orBackground(ctx context.Context) context.Context {
	if ctx == nil {
		return context.Background()
	}
	return ctx
}

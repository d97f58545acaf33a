package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/hallmark-pki/hallmark/policy/rego"
)

func policyCommand() *cobra.Command {
	c := new(connection)
	command := &cobra.Command{Use: "policy VERB", Short: "The rules: show them, check them, test them", Args: knownVerb,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	command.PersistentFlags().StringVar(&c.dir, "data", defaultDir, "the server's data directory")
	c.outputFlag(command)
	return withVerbs(command, policyShow(c), policyCheck(c), policyTest(c))
}

// policyFile is one file of a policy directory.
type policyFile struct {
	Name    string `json:"name"`
	Content string `json:"content"`
}

func policyShow(c *connection) *cobra.Command {
	var out string
	show := &cobra.Command{
		Use:   "show",
		Short: "Print the policy's files, or write them to a directory",
		Example: `  hallmark policy show
  hallmark policy show --out my-policy`,
		Args: takes(),
		RunE: func(command *cobra.Command, _ []string) error {
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
			switch {
			case out != "":
				return writePolicy(out, files)
			case asJSON:
				return printJSON(command.OutOrStdout(), map[string]any{"dir": dir, "files": files})
			}
			for _, f := range files {
				if _, err := fmt.Fprintf(command.OutOrStdout(), "# ---- %s\n%s\n", f.Name, f.Content); err != nil {
					return err
				}
			}
			return nil
		},
	}
	show.Flags().StringVar(&out, "out", "", "a new directory to write the files to")
	return show
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

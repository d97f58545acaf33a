package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// operatorCommands are the nouns of the operator's command line.
func operatorCommands() []*cobra.Command {
	return []*cobra.Command{
		tokenCommand(), requestCommand(), deviceCommand(), anchorCommand(), certCommand(),
		attestationCommand(), policyCommand(), operatorCommand(), decisionCommand(), auditCommand(), backupCommand(), restoreCommand(),
		loginCommand(), logoutCommand(), whoamiCommand(), sessionCommand(),
	}
}

// connection is how a command reaches the server, and how it prints: the flags that every noun has.
type connection struct {
	dir           string
	server        string
	ca, cert, key string
	output        string
	nobody        bool // call without a credential
	session       bool // call with a session and nothing else
}

// noun makes the command that the verbs of one noun hang under.
func noun(name, short string, c *connection, verbs ...*cobra.Command) *cobra.Command {
	command := &cobra.Command{Use: name + " VERB", Short: short, Args: knownVerb,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.flags(command)
	return withVerbs(command, verbs...)
}

// withVerbs hangs the verbs under their noun, and shows the first example of each there.
func withVerbs(command *cobra.Command, verbs ...*cobra.Command) *cobra.Command {
	var examples []string
	for _, verb := range verbs {
		first, _, _ := strings.Cut(verb.Example, "\n")
		examples = append(examples, first)
	}
	command.Example = strings.Join(examples, "\n")
	command.AddCommand(verbs...)
	return command
}

func (c *connection) flags(command *cobra.Command) {
	f := command.PersistentFlags()
	f.StringVar(&c.dir, "data", defaultDir, "the server's data directory: where it listens, whom to trust, and the first operator's credential")
	f.StringVar(&c.server, "server", "", "URL of the server (default: as the data directory says)")
	f.StringVar(&c.ca, "ca", "", "file with the certificate to trust (default DATA/root.crt)")
	f.StringVar(&c.cert, "cert", "", "file with the operator's certificate (default DATA/operators/admin.crt)")
	f.StringVar(&c.key, "key", "", "file with its key (default DATA/operators/admin.key)")
	c.outputFlag(command)
}

func (c *connection) outputFlag(command *cobra.Command) {
	command.PersistentFlags().StringVarP(&c.output, "output", "o", "table", "table or json")
}

// knownVerb refuses a verb that the noun does not have, and suggests those that are near.
func knownVerb(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	text := fmt.Sprintf("%q has no command %q", c.CommandPath(), args[0])
	c.SuggestionsMinimumDistance = 2
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		text += "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return usageError{fmt.Errorf("%s; see %q", text, c.CommandPath()+" --help")}
}

// takes checks that there is one argument for each name.
func takes(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usageError{fmt.Errorf("%s is missing; see %q", names[len(args)], c.CommandPath()+" --help")}
		case len(args) > len(names):
			return usageError{fmt.Errorf("too many arguments, from %q on; see %q", args[len(names)], c.CommandPath()+" --help")}
		}
		return nil
	}
}

// required returns a usage error if a flag without which a command makes no sense is empty.
func required(c *cobra.Command, name, value string) error {
	if value != "" {
		return nil
	}
	return usageError{fmt.Errorf("--%s is missing; see %q", name, c.CommandPath()+" --help")}
}

// asJSON reports whether to print JSON, or that --output makes no sense.
func (c *connection) asJSON() (bool, error) {
	switch c.output {
	case "json":
		return true, nil
	case "table":
		return false, nil
	}
	return false, usageError{fmt.Errorf("--output is table or json, not %q", c.output)}
}

// serverURL is where the server of a data directory answers: where it says it
// does if it runs, else where its configuration says it will.
func serverURL(dir string) (string, error) {
	var running struct {
		URL string `json:"url"`
	}
	if text, err := os.ReadFile(filepath.Join(dir, runFile)); err == nil && json.Unmarshal(text, &running) == nil && running.URL != "" {
		return running.URL, nil
	}
	config, err := readConfig(filepath.Join(dir, configFile), options{})
	if err != nil {
		return "", err
	}
	host, port, err := net.SplitHostPort(config.Listen)
	if err != nil {
		return "", fmt.Errorf("listen: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return "https://" + net.JoinHostPort(host, port), nil
}

// span is a flag that holds a length of time, in days too.
type span struct{ text string }

// String returns the text that Set was given.
func (s *span) String() string { return s.text }

// Set takes 90m, 24h, 7d.
func (s *span) Set(text string) error {
	if d, err := parseDuration(text); err != nil || d <= 0 {
		return errors.New("want a length of time such as 90m, 24h or 7d")
	}
	s.text = text
	return nil
}

// Type names the flag's kind in the help text.
func (s *span) Type() string { return "duration" }

// moment is a flag that holds a point in time: so long ago, or a date.
type moment struct {
	text string
	at   time.Time
}

// String returns the text that Set was given.
func (m *moment) String() string { return m.text }

// Set takes 24h or 7d for so long ago, a date, or an RFC 3339 time.
func (m *moment) Set(text string) error {
	m.text = text
	if d, err := parseDuration(text); err == nil {
		m.at = time.Now().Add(-d)
		return nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(layout, text); err == nil {
			m.at = at
			return nil
		}
	}
	return errors.New("want so long ago (24h, 7d), a date (2026-01-31) or an RFC 3339 time")
}

// Type names the flag's kind in the help text.
func (m *moment) Type() string { return "time" }

// put adds the time to a query, if it was given.
func (m *moment) put(q url.Values, name string) {
	if !m.at.IsZero() {
		q.Set(name, m.at.UTC().Format(time.RFC3339))
	}
}

// putText adds a text to a query, if it was given.
func putText(q url.Values, name, value string) {
	if value != "" {
		q.Set(name, value)
	}
}

// paging are the flags of every list.
type paging struct {
	limit  int
	cursor string
	all    bool
}

// defaultLimit is how many items of a list are asked for.
const defaultLimit = 100

func (p *paging) flags(c *cobra.Command) {
	c.Flags().IntVar(&p.limit, "limit", defaultLimit, "how many at most, up to 1000; with --all, how many a page")
	c.Flags().StringVar(&p.cursor, "cursor", "", "go on from here: the \"next\" of the page before")
	c.Flags().BoolVar(&p.all, "all", false, "all pages")
}

// printJSON writes v, or JSON text, indented.
func printJSON(w io.Writer, v any) error {
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	return out.Encode(v)
}

// verb is a command of the server's: it is connected before it runs.
func (c *connection) verb(run func(ctx context.Context, s *session, args []string) error) func(*cobra.Command, []string) error {
	return func(command *cobra.Command, args []string) error {
		s, err := c.open(command.OutOrStdout(), command.ErrOrStderr())
		if err != nil {
			return err
		}
		ctx := command.Context()
		if ctx == nil {
			ctx = context.Background()
		}
		ctx, stop := signal.NotifyContext(ctx, os.Interrupt) // so that no half-written file stays behind
		defer stop()
		return run(ctx, s, args)
	}
}

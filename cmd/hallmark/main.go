// Command hallmark is the server, a certificate authority and identity
// service for devices, and the operator's command line to it.
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// version is stamped by the build.
var version = "dev"

// defaultDir is where a server keeps everything unless told otherwise.
const defaultDir = "./hallmark-data"

func main() {
	os.Exit(run(os.Args[1:]))
}

// usageError is a mistake in the command line itself: exit 2.
type usageError struct{ error }

// run carries out one command line and returns the exit code: 0 done, 1
// refused or failed, 2 wrong usage.
func run(args []string) int {
	root := rootCommand()
	root.SetArgs(args)
	err := root.Execute()
	if err == nil {
		return 0
	}
	fmt.Fprintf(os.Stderr, "hallmark: %v\n", err)
	_, wrong := errors.AsType[usageError](err)
	// The commands that cobra brings along, such as completion, have errors of their own.
	if wrong || strings.HasPrefix(err.Error(), "unknown command") {
		return 2
	}
	return 1
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "hallmark",
		Short: "A certificate authority and zero-trust identity service for devices",
		Long: `Hallmark issues short-lived certificates to devices that prove who they are,
decides every request by policy, and keeps a record that can be verified offline.

Start a server with "hallmark serve"; everything else talks to one.`,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          knownVerb,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see %q", err, c.CommandPath()+" --help")}
	})
	root.AddCommand(serveCommand(), initCommand())
	root.AddCommand(operatorCommands()...)
	return root
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hallmark-pki/hallmark/policy/rego"
	"github.com/hallmark-pki/hallmark/policy/release"
)

// forGateways writes the rules in force as a signed bundle, and the key that verifies it.
func (s *session) forGateways(ctx context.Context, args []string, bundle, key string) error {
	if len(args) > 0 {
		return usageError{errors.New("gateways get the rules in force: --bundle and --public-key take no PROPOSAL")}
	}
	var verify release.VerificationKey
	if err := s.do(ctx, "GET", policyPath+"/key", nil, nil, &verify); err != nil {
		return err
	}
	pairs := [][2]string{{"key id", verify.ID}, {"algorithm", verify.Algorithm}}
	shown := map[string]any{"key": verify}
	if bundle != "" {
		packed, err := s.bundle(ctx, policyPath+"/bundle")
		if err != nil {
			return err
		}
		read, err := rego.ReadBundle(packed, nil)
		if err != nil {
			return fmt.Errorf("the server's answer cannot be read: %w", err)
		}
		if err := writeNewFile(bundle, packed); err != nil {
			return err
		}
		shown["digest"] = read.Digest()
		pairs = append(pairs, [2]string{"digest", read.Digest()}, [2]string{"bundle", bundle})
	}
	if key != "" {
		if err := writeNewFile(key, []byte(verify.PEM)); err != nil {
			return err
		}
		pairs = append(pairs, [2]string{"public key", key})
	}
	return s.print(shown, func() [][2]string { return pairs })
}

// bundle fetches a packed bundle.
func (s *session) bundle(ctx context.Context, path string) ([]byte, error) {
	response, err := s.call(ctx, "GET", path, nil, nil)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	packed, err := io.ReadAll(io.LimitReader(response.Body, rego.MaxPacked+1))
	if err != nil {
		return nil, fmt.Errorf("the transfer broke off: %w", err)
	}
	return packed, nil
}

// writeNewFile writes a file that is not there yet.
func writeNewFile(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

// printForce says above the rules which ones they are, as comments of Rego.
func (s *session) printForce(f *release.Force) error {
	from := "the policy directory"
	if f.Revision.Number > 0 {
		from = fmt.Sprintf("revision %d, since %s", f.Revision.Number, when(f.Revision.At))
	}
	text := fmt.Sprintf("# in force: %s\n# from: %s\n", f.Digest, from)
	if f.Behind != "" {
		text += "# THIS SERVER IS BEHIND: " + escape(f.Behind) + "\n"
	}
	if at := f.Source; at != nil {
		text += fmt.Sprintf("# pulled from %s: %s", escape(at.URL), sourceText(at))
	}
	_, err := fmt.Fprintln(s.out, text)
	return err
}

// sourceText is how a bundle server stands, in comment lines.
func sourceText(at *release.SourceStatus) string {
	text := "not looked at yet\n"
	switch {
	case at.Failure != "":
		text = fmt.Sprintf("UNREACHABLE %d times in a row: %s\n", at.Failures, escape(at.Failure))
	case at.Outcome != "":
		text = fmt.Sprintf("%s, looked at %s\n", at.Outcome, when(at.Looked))
	}
	if at.Unsigned {
		text += "#   WITHOUT SIGNATURES\n"
	}
	for _, pair := range [][2]string{{"digest", at.Digest}, {"revision", at.Revision}, {"proposal", at.Proposal}, {"why", at.Why}} {
		for i, line := range strings.Split(pair[1], "\n") {
			if i == 0 && line != "" {
				line = pair[0] + ": " + line
			}
			if line != "" {
				text += "#   " + escape(line) + "\n"
			}
		}
	}
	return text
}

func policyCapabilities() *cobra.Command {
	return &cobra.Command{
		Use:     "capabilities",
		Short:   "Print what rules may call, for opa check and opa build --capabilities",
		Example: "  hallmark policy capabilities >capabilities.json && opa check --strict --capabilities capabilities.json my-policy",
		Args:    takes(),
		RunE: func(command *cobra.Command, _ []string) error {
			text, err := rego.Capabilities()
			if err != nil {
				return err
			}
			_, err = command.OutOrStdout().Write(text)
			return err
		},
	}
}

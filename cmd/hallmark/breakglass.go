package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/hallmark-pki/hallmark/operators"
)

// breakglassCommand is the way in for the day when there is no other.
func breakglassCommand(c *connection) *cobra.Command {
	command := &cobra.Command{Use: "breakglass VERB", Short: "A credential in two halves, for the day when nobody else can get in", Args: knownVerb,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	return withVerbs(command, breakglassSeal(c), breakglassOpen(c))
}

func breakglassSeal(c *connection) *cobra.Command {
	var out string
	seal := &cobra.Command{
		Use:   "seal",
		Short: "Make a credential, cut it in two, and let the server know its public key",
		Long: "Makes a key, cuts it in two halves, share-a.pem and share-b.pem, and lets the server know the public key.\n" +
			"Give each half to another person, on paper or on a stick, and delete the files. Either alone is worth nothing;\n" +
			"both together open the server for an hour, once. Whatever was sealed before is no good any more.",
		Example: "  hallmark operator breakglass seal --out .",
		Args:    takes(),
	}
	seal.RunE = c.verb(func(ctx context.Context, s *session, _ []string) error {
		key, err := operators.NewBreakglassKey()
		if err != nil {
			return err
		}
		shares, err := writeShares(out, key)
		if err != nil {
			return err
		}
		csr, err := newCSR(key)
		if err != nil {
			return err
		}
		var made operators.Seal
		if err := s.do(ctx, "POST", "/api/v1/breakglass", nil, object(map[string]string{"csr": csr}), &made); err != nil {
			for _, share := range shares { // of a key that the server does not know
				err = errors.Join(err, os.Remove(share))
			}
			return err
		}
		if s.json {
			return printJSON(s.out, struct {
				operators.Seal
				Shares []string `json:"shares"`
			}{made, shares})
		}
		fmt.Fprintf(s.out, "%s\n%s\n", shares[0], shares[1])
		fmt.Fprintln(s.err, "sealed. Give each of the two to another person, and delete the files; together they open the server for an hour, once")
		return nil
	})
	seal.Flags().StringVar(&out, "out", ".", "directory to write share-a.pem and share-b.pem to")
	return seal
}

// writeShares writes the halves of a key to files that were not there.
func writeShares(dir string, key *ecdsa.PrivateKey) ([]string, error) {
	a, b, err := operators.Split(key)
	if err != nil {
		return nil, err
	}
	shares := []string{filepath.Join(dir, "share-a.pem"), filepath.Join(dir, "share-b.pem")}
	if err := writeNew(shares[0], a); err != nil {
		return nil, err
	}
	if err := writeNew(shares[1], b); err != nil {
		return nil, errors.Join(err, os.Remove(shares[0]))
	}
	return shares, nil
}

// writeNew writes a secret to a file that is not there yet.
func writeNew(name string, text []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}

// newCSR is a certification request over that key, in PEM. It names nobody: the server knows whose it is.
func newCSR(key *ecdsa.PrivateKey) (string, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), nil
}

func breakglassOpen(c *connection) *cobra.Command {
	var out, reason string
	var halves []string
	opening := &cobra.Command{
		Use:     "open",
		Short:   "Put the two halves together: an administrator's credential for an hour",
		Example: `  hallmark operator breakglass open --share a.pem --share b.pem --reason "the only administrator is away" --out .`,
		Args:    takes(),
	}
	opening.RunE = func(command *cobra.Command, args []string) error {
		if len(halves) != 2 {
			return usageError{errors.New("two files are needed: --share A --share B")}
		}
		if err := required(command, "reason", reason); err != nil {
			return err
		}
		c.nobody = true // that there is no credential left is what this is for
		return c.verb(func(ctx context.Context, s *session, _ []string) error {
			return openBreakglass(ctx, s, halves, reason, out)
		})(command, args)
	}
	f := opening.Flags()
	f.StringArrayVar(&halves, "share", nil, "file with one half; give it twice")
	f.StringVar(&reason, "reason", "", "why; it goes on the record")
	f.StringVar(&out, "out", ".", "directory to write breakglass.crt and breakglass.key to")
	return opening
}

func openBreakglass(ctx context.Context, s *session, halves []string, reason, out string) error {
	a, err := os.ReadFile(halves[0])
	if err != nil {
		return err
	}
	b, err := os.ReadFile(halves[1])
	if err != nil {
		return err
	}
	key, err := operators.Join(a, b)
	if err != nil {
		return err
	}
	csr, err := newCSR(key)
	if err != nil {
		return err
	}
	private, err := withKey(key)
	if err != nil {
		return err
	}
	certFile, keyFile := filepath.Join(out, "breakglass.crt"), filepath.Join(out, "breakglass.key")
	if err := writeNew(keyFile, private); err != nil { // before the seal is broken
		return err
	}
	var made struct {
		operators.Operator
		Certificate string `json:"certificate"`
	}
	if err := s.do(ctx, "POST", "/api/v1/breakglass/open", nil, object(map[string]string{"csr": csr, "reason": reason}), &made); err != nil {
		return errors.Join(err, os.Remove(keyFile))
	}
	if err := writeNew(certFile, []byte(made.Certificate)); err != nil {
		return err
	}
	if s.json {
		return printJSON(s.out, made)
	}
	fmt.Fprintf(s.out, "--cert %s --key %s\n", certFile, keyFile)
	if made.Breakglass != nil {
		fmt.Fprintf(s.err, "open until %s. Use it as above; everything done with it is on the record. Seal a new one when you are done\n",
			made.Breakglass.Expires.Local().Format(time.TimeOnly))
	}
	return nil
}

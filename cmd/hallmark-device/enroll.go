package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/hallmark-pki/hallmark/internal/estclient"
	"github.com/hallmark-pki/hallmark/internal/tpmdevice"
	"github.com/spf13/cobra"
)

// enrollFlags are what a first enrolment needs.
type enrollFlags struct {
	server, ca, id, profile, keyType, out string
	token, tokenFile, cert, key           string
	wait                                  time.Duration
	tpm                                   tpmFlags
}

func (f *enrollFlags) add(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.server, "server", "", "enrolment server, as https://HOST[:PORT]")
	flags.StringVar(&f.ca, "ca", "", "PEM `file` with the trust anchor of the server")
	flags.StringVar(&f.id, "id", "", "id of this device; not needed where the token or factory certificate names it")
	flags.StringVar(&f.token, "token", "", "enrolment token (seen by whoever lists processes; prefer --token-file)")
	flags.StringVar(&f.tokenFile, "token-file", "", "`file` with the enrolment token; - is standard input")
	flags.StringVar(&f.cert, "cert", "", "PEM `file` with a factory certificate and its chain")
	flags.StringVar(&f.key, "key", "", "PEM `file` with the factory certificate's key")
	flags.StringVar(&f.profile, "profile", "", "enrolment profile; empty for the server's default")
	flags.StringVar(&f.keyType, "key-type", string(p256), "type of the new key: "+keyTypes)
	f.tpm.add(c)
}

func addOut(c *cobra.Command, out *string) {
	c.Flags().StringVar(out, "out", "", "`directory` for cert.pem, chain.pem and key.pem (required)")
}

func enrollCommand() *cobra.Command {
	var f enrollFlags
	c := &cobra.Command{
		Use:   "enroll --server URL --ca FILE (--token T | --token-file FILE | --cert FILE --key FILE) --out DIR",
		Short: "Get a first certificate",
		Long: `Make a key, ask the server for a certificate over it, and write cert.pem,
chain.pem and key.pem to a directory, all at once or not at all.

With --tpm the key is made in the TPM and never leaves it, and the request
brings proof of that and of what the machine has booted. The attestation key that signs the
proof is vouched for by its own certificate (--ak-cert), by an earlier enrolment of the same
directory, or by the TPM's endorsement key.

A request that has to wait for an operator is taken up again by the same
command, over the same key; --wait makes the command wait itself.`,
		Example: `  hallmark-device enroll --server https://ca.example:8443 --ca root.crt --id dev-1 --token-file token --out /var/lib/device
  hallmark-device enroll --server https://ca.example:8443 --ca root.crt --cert idevid.pem --key idevid.key --out /var/lib/device
  hallmark-device enroll --server https://ca.example:8443 --ca root.crt --token-file token --tpm /dev/tpmrm0 --out /var/lib/device`,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			release, err := folder(f.out).lock()
			if err != nil {
				return err
			}
			defer release()
			return f.enroll(c)
		},
	}
	f.add(c)
	addOut(c, &f.out)
	c.Flags().DurationVar(&f.wait, "wait", 0, "how long to wait for an operator's approval, such as 10m")
	return c
}

// check finds what is wrong with the flags before anything is made.
func (f *enrollFlags) check() error {
	proofs := 0
	for _, given := range []bool{f.token != "", f.tokenFile != "", f.cert != "" || f.key != ""} {
		if given {
			proofs++
		}
	}
	switch {
	case f.out == "":
		return usagef("--out is missing")
	case f.server == "":
		return usagef("--server is missing")
	case f.ca == "":
		return usagef("--ca is missing: without it the server could be anybody")
	case (f.cert == "") != (f.key == ""):
		return usagef("--cert and --key go together")
	case proofs == 0:
		return usagef("the server will ask who this is: give --token, --token-file, or --cert with --key")
	case proofs > 1:
		return usagef("give one of --token, --token-file, and --cert with --key")
	case !strings.Contains(" "+keyTypes+",", " "+f.keyType+","):
		return usagef("unknown key type %q: want one of %s", f.keyType, keyTypes)
	case f.keyType == string(ed) && f.tpm.address != "":
		return usagef("a TPM makes no Ed25519 keys: give another --key-type")
	}
	return f.tpm.check()
}

func (f *enrollFlags) enroll(c *cobra.Command) error {
	a, err := f.asking(c)
	if err != nil {
		return err
	}
	got, err := a.run(c.Context())
	if err != nil {
		return err
	}
	fmt.Fprintf(c.OutOrStdout(), "enrolled %s: serial %s, until %s, in %s\n",
		got.device(), got.serial(), got.certificate.NotAfter.UTC().Format(time.RFC3339), f.out)
	return nil
}

// asking turns the flags into an attempt.
func (f *enrollFlags) asking(c *cobra.Command) (*asking, error) {
	anchors, err := os.ReadFile(f.ca)
	if err != nil {
		return nil, err
	}
	roots, err := rootsOf(anchors)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.ca, err)
	}
	a := &asking{
		client: estclient.Client{Server: f.server, Label: f.profile, Roots: roots, User: f.id},
		folder: folder(f.out),
		state:  state{Server: f.server, CA: string(anchors), Profile: f.profile, ID: f.id},
		wait:   f.wait,
		say:    func(format string, args ...any) { fmt.Fprintf(c.ErrOrStderr(), format+"\n", args...) },
	}
	if f.tpm.address != "" {
		if a.attest, err = f.tpm.attestor(a.folder); err != nil {
			return nil, err
		}
		a.state.TPM = a.attest.state
		a.attest.pinned = a.folder.knows(a.attest, &a.state)
	}
	if f.cert != "" {
		if a.client.Certificate, err = f.factoryCertificate(); err != nil {
			return nil, err
		}
	} else if a.client.Password, err = f.readToken(c.InOrStdin()); err != nil {
		return nil, err
	}
	a.key, err = a.folder.pendingKey(keyType(f.keyType), a.attest)
	return a, err
}

// factoryCertificate is the pair of --cert and --key, whose key may live in the TPM.
func (f *enrollFlags) factoryCertificate() (*tls.Certificate, error) {
	var at *tpmdevice.TPM
	if f.tpm.address != "" {
		var err error
		if at, err = tpmdevice.At(f.tpm.address); err != nil {
			return nil, err
		}
	}
	key, err := readKey(f.key, at)
	if k := tpmKey(key); err == nil && k != nil {
		chain, err := readCertificates(f.cert)
		if err != nil {
			return nil, err
		}
		pair := k.TLS(rawOf(chain))
		return &pair, nil
	}
	pair, err := tls.LoadX509KeyPair(f.cert, f.key)
	return &pair, err
}

// knows reports whether the server that is asked has seen this attestation key
// already, with the enrolment that the folder holds.
func (f folder) knows(a *attestor, s *state) bool {
	held, err := f.load()
	return err == nil && held.state.TPM != nil && held.state.Server == s.Server && held.state.TPM.Address == a.state.Address
}

func (f *enrollFlags) readToken(stdin io.Reader) (string, error) {
	if f.token != "" {
		return f.token, nil
	}
	read := func() ([]byte, error) { return os.ReadFile(f.tokenFile) }
	if f.tokenFile == "-" {
		read = func() ([]byte, error) { return io.ReadAll(io.LimitReader(stdin, 4096)) }
	}
	text, err := read()
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(text))
	if token == "" {
		return "", fmt.Errorf("%s has no token", f.tokenFile)
	}
	return token, nil
}

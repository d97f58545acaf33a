package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hallmark-pki/hallmark/ca"
)

// credential is where an operator's key and certificate go. The key is made
// here and stays here; the server sees a certification request.
type credential struct {
	csrFile, out string
	key          *ecdsa.PrivateKey // nil: the operator made their own and sent a request
}

func (f *credential) flags(c *cobra.Command) {
	c.Flags().StringVar(&f.out, "out", ".", "directory to write NAME.crt and NAME.key to")
	c.Flags().StringVar(&f.csrFile, "csr", "", "the operator's own certification request (PKCS #10, PEM): no key is made here")
}

// request returns the certification request, over a new key unless there is one.
func (f *credential) request() (string, error) {
	if f.csrFile != "" {
		text, err := os.ReadFile(f.csrFile)
		return string(text), err
	}
	var err error
	if f.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return "", err
	}
	return newCSR(f.key)
}

// write writes the key, if it was made here, and the certificate.
func (f *credential) write(name, certificate string) ([]string, error) {
	base := filepath.Join(f.out, filepath.Base(name))
	if err := os.MkdirAll(filepath.Dir(base), 0o700); err != nil {
		return nil, err
	}
	files := []string{base + ".crt"}
	if f.key != nil {
		text, err := withKey(f.key)
		if err != nil {
			return nil, err
		}
		if err := writeNew(base+".key", text); err != nil {
			return nil, err
		}
		files = append(files, base+".key")
	}
	return files, os.WriteFile(base+".crt", []byte(certificate), 0o644)
}

// issued is what the server answers to a certification request.
type issued struct {
	Name        string `json:"name"`
	Certificate string `json:"certificate"`
}

// certified asks for a certificate and writes what comes of it.
func (f *credential) certified(ctx context.Context, s *session, method, path string, body map[string]any) error {
	csr, err := f.request()
	if err != nil {
		return err
	}
	body["csr"] = csr
	var made issued
	if err := s.do(ctx, method, path, nil, object(body), &made); err != nil {
		return err
	}
	files, err := f.write(made.Name, made.Certificate)
	if err != nil {
		return fmt.Errorf("%s is certified, but the credential could not be written, and has to be made again (operator certify): %w", escape(made.Name), err)
	}
	if s.json {
		return printJSON(s.out, map[string]any{"id": made.Name, "name": made.Name, "certificate": made.Certificate, "files": files})
	}
	_, err = fmt.Fprintln(s.out, strings.Join(files, "\n"))
	return err
}

func operatorAdd(c *connection) *cobra.Command {
	var wanted roleFlags
	var made credential
	var binding bindingFlags
	add := &cobra.Command{
		Use:   "add NAME",
		Short: "Take somebody in, and write their credential",
		Example: "  hallmark operator add berta --role viewer --role line --scope model=gw-2 --out ~/berta\n" +
			"  hallmark operator add carl --role approver --csr carl.csr\n" +
			"  hallmark operator add dora --role auditor --oidc-email dora@example.com",
		Args: takes("NAME"),
	}
	add.RunE = func(command *cobra.Command, args []string) error {
		roles, err := wanted.read(command)
		if err != nil {
			return err
		}
		return c.verb(func(ctx context.Context, s *session, args []string) error {
			body := map[string]any{"name": args[0], "roles": roles}
			for name, value := range binding.body() {
				body[name] = value
			}
			if binding.given() && made.csrFile == "" && !command.Flags().Changed("out") { // who signs in needs no certificate
				if err := s.do(ctx, "POST", "/api/v1/operators", nil, object(body), nil); err != nil {
					return err
				}
				return s.deed("operator", args[0], "added")
			}
			return made.certified(ctx, s, "POST", "/api/v1/operators", body)
		})(command, args)
	}
	wanted.flags(add)
	made.flags(add)
	binding.flags(add)
	return add
}

func operatorCertify(c *connection) *cobra.Command {
	var made credential
	certify := &cobra.Command{
		Use:     "certify NAME",
		Short:   "Another credential for somebody who is in the register, such as one who lost theirs",
		Example: "  hallmark operator certify berta --csr berta.csr",
		Args:    takes("NAME"),
		RunE: c.verb(func(ctx context.Context, s *session, args []string) error {
			return made.certified(ctx, s, "POST", operatorPath+url.PathEscape(args[0])+"/certify", map[string]any{})
		}),
	}
	made.flags(certify)
	return certify
}

func operatorRenew(c *connection) *cobra.Command {
	return &cobra.Command{
		Use:   "renew",
		Short: "Renew the certificate that this call is made with, over the same key",
		Long: "Renews the operator's certificate of --cert and --key (default: those of the data directory) and puts the\n" +
			"new one in its place. Run it by a timer, at a third of the certificate's life or more often.",
		Example: "  hallmark operator renew --server https://ca.example.com:8443 --ca root.crt --cert berta.crt --key berta.key",
		Args:    takes(),
		RunE: func(command *cobra.Command, args []string) error {
			c.cert, c.key = c.credential() // whoever is signed in: it is this certificate that is renewed
			return c.verb(renewOwn(c))(command, args)
		},
	}
}

// renewOwn renews the certificate that the call is made with.
func renewOwn(c *connection) func(ctx context.Context, s *session, _ []string) error {
	return func(ctx context.Context, s *session, _ []string) error {
		certFile, keyFile := c.credential()
		name, csr, err := renewal(certFile, keyFile)
		if err != nil {
			return err
		}
		var made issued
		if err := s.do(ctx, "POST", operatorPath+url.PathEscape(name)+"/renew", nil, object(map[string]string{"csr": csr}), &made); err != nil {
			return err
		}
		if err := replaceFile(certFile, []byte(made.Certificate)); err != nil {
			return err
		}
		return s.deed("operator", name, "renewed")
	}
}

// credential is where the caller's own certificate and key are.
func (c *connection) credential() (cert, key string) {
	if c.cert != "" {
		return c.cert, c.key
	}
	return filepath.Join(c.dir, adminCertFile), filepath.Join(c.dir, adminKeyFile)
}

// renewal is whose certificate it is, and a certification request over its key.
func renewal(certFile, keyFile string) (name, csr string, err error) {
	text, err := os.ReadFile(certFile)
	if err != nil {
		return "", "", err
	}
	held, err := ca.ParsePEM(text)
	if err != nil {
		return "", "", err
	}
	if text, err = os.ReadFile(keyFile); err != nil {
		return "", "", err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return "", "", fmt.Errorf("%s holds no key in PEM", keyFile)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return "", "", errors.New("the key is not a PKCS #8 private key")
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, parsed)
	if err != nil {
		return "", "", err
	}
	return held[0].Subject.CommonName, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), nil
}

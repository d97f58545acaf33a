package main

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/hallmark-pki/hallmark/internal/tpmdevice"
	"github.com/spf13/cobra"
)

// tpmReport is what the command tpm prints.
type tpmReport struct {
	Address      string     `json:"address"`
	Manufacturer string     `json:"manufacturer"`
	Model        string     `json:"model,omitempty"`
	Firmware     string     `json:"firmware"`
	LockedOut    bool       `json:"locked_out"`
	Passwords    []string   `json:"passwords,omitempty"` // hierarchies that have one
	Banks        []string   `json:"pcr_banks"`
	EKs          []ekReport `json:"endorsement_keys"`
	AK           string     `json:"ak_sha256"`
	AKFile       string     `json:"ak_file,omitempty"`
}

type ekReport struct {
	Algorithm   tpmdevice.Algorithm `json:"algorithm"`
	SHA256      string              `json:"ek_sha256"`
	Certificate string              `json:"certificate_issuer,omitempty"` // empty: the TPM has none
}

func tpmCommand() *cobra.Command {
	var f tpmFlags
	var public, format string
	c := &cobra.Command{
		Use:   "tpm --tpm ADDRESS",
		Short: "Show the TPM of this device, and by what a register can know it",
		Long: `Show what the TPM is, its endorsement keys (ek_sha256 of the register), and the
attestation key that enroll uses (ak_sha256), whose public key can be written to a
file for an attestation authority to certify.`,
		Example: `  hallmark-device tpm --tpm /dev/tpmrm0
  hallmark-device tpm --tpm /dev/tpmrm0 --ak-public ak.pub`,
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case f.address == "":
				return usagef("--tpm is missing")
			case format != "text" && format != "json":
				return usagef("-o takes text or json")
			}
			if err := f.check(); err != nil {
				return err
			}
			r, err := f.report(public)
			if err != nil {
				return err
			}
			return r.print(c.OutOrStdout(), format)
		},
	}
	c.Flags().StringVar(&f.address, "tpm", "", "`address` of the TPM: a device such as /dev/tpmrm0, swtpm:HOST:PORT, or swtpm:/path/to/socket")
	c.Flags().StringVar(&f.akType, "ak-type", string(tpmdevice.P256), "type of the attestation key: p256, p384, rsa2048")
	c.Flags().Uint32Var(&f.akHandle, "ak-handle", 0, "persistent `handle` of the attestation key, if it stands at one")
	c.Flags().StringVar(&public, "ak-public", "", "`file` to write the attestation key's public key to, in PEM")
	c.Flags().StringVarP(&format, "output", "o", "text", "text or json")
	return c
}

func (f *tpmFlags) report(public string) (*tpmReport, error) {
	t, err := tpmdevice.Open(f.address)
	if err != nil {
		return nil, err
	}
	about, err := t.About()
	if err != nil {
		return nil, err
	}
	r := &tpmReport{Address: f.address, Manufacturer: about.Manufacturer, Model: about.Model, Firmware: about.Firmware,
		LockedOut: about.LockedOut, Passwords: about.Passwords, AKFile: public}
	if r.Banks, err = t.Banks(); err != nil {
		return nil, err
	}
	for _, algorithm := range []tpmdevice.Algorithm{tpmdevice.RSA2048, tpmdevice.P256} {
		ek, err := t.EK(algorithm)
		if errors.Is(err, tpmdevice.ErrUnable) {
			continue
		}
		if err != nil {
			return nil, err
		}
		r.EKs = append(r.EKs, reportEK(ek))
	}
	ak, err := f.currentAK(t)
	if err != nil {
		return nil, err
	}
	r.AK = ak.SHA256()
	if public == "" {
		return r, nil
	}
	spki, err := x509.MarshalPKIXPublicKey(ak.Public())
	if err != nil {
		return nil, err
	}
	return r, os.WriteFile(public, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}), 0o644)
}

func (f *tpmFlags) currentAK(t *tpmdevice.TPM) (*tpmdevice.Key, error) {
	if f.akHandle != 0 {
		return t.KeyAt(f.akHandle)
	}
	return t.CreateAK(tpmdevice.Algorithm(f.akType))
}

func reportEK(ek *tpmdevice.EK) ekReport {
	r := ekReport{Algorithm: ek.Algorithm, SHA256: ek.SHA256()}
	if len(ek.Certificates) == 0 {
		return r
	}
	r.Certificate = "unreadable here"
	if c, err := x509.ParseCertificate(ek.Certificates[0]); err == nil {
		r.Certificate = c.Issuer.String()
	}
	return r
}

func (r *tpmReport) print(w io.Writer, format string) error {
	if format == "json" {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(r)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(table, name+"\t"+format+"\n", args...) }
	row("tpm", "%s", r.Address)
	row("maker", "%s %s, firmware %s", r.Manufacturer, r.Model, r.Firmware)
	row("pcr banks", "%s", strings.Join(r.Banks, ", "))
	for _, ek := range r.EKs {
		certificate := "no certificate"
		if ek.Certificate != "" {
			certificate = "certified by " + ek.Certificate
		}
		row("ek_sha256", "%s (%s, %s)", ek.SHA256, ek.Algorithm, certificate)
	}
	row("ak_sha256", "%s", r.AK)
	if r.LockedOut {
		row("state", "locked out after wrong passwords")
	}
	if len(r.Passwords) > 0 {
		row("passwords", "%s", strings.Join(r.Passwords, ", "))
	}
	return table.Flush()
}

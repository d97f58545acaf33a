package swtpm

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/hallmark-pki/hallmark/internal/tpmdevice"
)

// Maker makes TPMs and vouches for them: an authority of swtpm_localca. All
// makers bear the same names, and each has keys of its own.
type Maker struct{ folder string }

// NewMaker founds a maker, whose keys come into being with its first TPM.
func NewMaker(t testing.TB) *Maker {
	t.Helper()
	for _, tool := range []string{"swtpm", "swtpm_setup", "swtpm_localca"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is missing: apt-get install swtpm swtpm-tools (make test does)", tool)
		}
	}
	m := &Maker{t.TempDir()}
	for name, lines := range map[string][]string{
		"localca.conf": {"statedir = %s", "signingkey = %s/signkey.pem", "issuercert = %s/issuercert.pem", "certserial = %s/certserial"},
		"options":      {},
		"setup.conf": {"create_certs_tool = swtpm_localca", "create_certs_tool_config = %s/localca.conf",
			"create_certs_tool_options = %s/options"},
	} {
		text := strings.ReplaceAll(strings.Join(lines, "\n")+"\n", "%s", m.folder)
		if err := os.WriteFile(filepath.Join(m.folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func (m *Maker) setUp(t testing.TB, state string, o Options) {
	t.Helper()
	args := []string{"--tpmstate", state, "--config", filepath.Join(m.folder, "setup.conf")}
	switch {
	case o.Old:
	case o.NoCertificate:
		args = append(args, "--tpm2", "--createek", "--pcr-banks", "sha256,sha384")
	default:
		args = append(args, "--tpm2", "--create-ek-cert", "--pcr-banks", "sha256,sha384")
	}
	if out, err := exec.Command("swtpm_setup", args...).CombinedOutput(); err != nil {
		t.Fatalf("swtpm_setup: %v\n%s", err, out)
	}
}

// Root is the maker's root certificate, once it has made a TPM.
func (m *Maker) Root(t testing.TB) *x509.Certificate {
	t.Helper()
	return readCertificate(t, m.RootFile())
}

// Issuer is the authority below Root that signs endorsement key certificates.
func (m *Maker) Issuer(t testing.TB) *x509.Certificate {
	t.Helper()
	return readCertificate(t, m.IssuerFile())
}

// RootFile is Root in PEM.
func (m *Maker) RootFile() string {
	return filepath.Join(m.folder, "swtpm-localca-rootca-cert.pem")
}

// IssuerFile is Issuer in PEM.
func (m *Maker) IssuerFile() string { return filepath.Join(m.folder, "issuercert.pem") }

func readCertificate(t testing.TB, path string) *x509.Certificate {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatalf("%s has no PEM", path)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// certifyECC does for the P-256 endorsement key what swtpm_setup does for
// others: a certificate, at the NV index that the TCG has for it, with padding behind it as TPMs have.
func (m *Maker) certifyECC(t testing.TB, c *TPM) {
	t.Helper()
	device, err := tpmdevice.Open(c.Address())
	if err != nil {
		t.Fatal(err)
	}
	ek, err := device.EK(tpmdevice.P256)
	if err != nil {
		t.Fatal(err)
	}
	public, err := ek.Public.(*ecdsa.PublicKey).Bytes() // 4, X and Y
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	tool := exec.Command("swtpm_localca", "--type", "ek", "--dir", out, "--tpm2",
		"--ek", fmt.Sprintf("x=%x,y=%x,id=secp256r1", public[1:33], public[33:]),
		"--tpm-spec-family", "2.0", "--tpm-spec-level", "0", "--tpm-spec-revision", "164",
		"--tpm-manufacturer", "id:00001014", "--tpm-model", "swtpm", "--tpm-version", "id:20191023",
		"--configfile", filepath.Join(m.folder, "localca.conf"), "--optsfile", filepath.Join(m.folder, "options"))
	if text, err := tool.CombinedOutput(); err != nil {
		t.Fatalf("swtpm_localca: %v\n%s", err, text)
	}
	der, err := os.ReadFile(filepath.Join(out, "ek.cert"))
	if err != nil {
		t.Fatal(err)
	}
	c.WriteNV(0x01c0000a, append(der, make([]byte, 40)...))
}

// WriteNV defines an NV index of the owner's that anybody can read, and fills it.
func (c *TPM) WriteNV(index uint32, content []byte) {
	c.t.Helper()
	c.Do(func(t transport.TPM) error {
		owner := tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
		public := tpm2.TPMSNVPublic{NVIndex: tpm2.TPMHandle(index), NameAlg: tpm2.TPMAlgSHA256, DataSize: uint16(len(content)),
			Attributes: tpm2.TPMANV{OwnerWrite: true, OwnerRead: true, AuthRead: true, NoDA: true}}
		if _, err := (tpm2.NVDefineSpace{AuthHandle: owner, PublicInfo: tpm2.New2B(public)}).Execute(t); err != nil {
			return err
		}
		answer, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(index)}.Execute(t)
		if err != nil {
			return err
		}
		for at := 0; at < len(content); at += 512 {
			part := content[at:min(at+512, len(content))]
			_, err := tpm2.NVWrite{AuthHandle: owner, Offset: uint16(at), Data: tpm2.TPM2BMaxNVBuffer{Buffer: part},
				NVIndex: tpm2.NamedHandle{Handle: tpm2.TPMHandle(index), Name: answer.NVName}}.Execute(t)
			if err != nil {
				return err
			}
			// The name changes with the first writing.
			if answer, err = (tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(index)}).Execute(t); err != nil {
				return err
			}
		}
		return nil
	})
}

package housetest_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/hallmark-pki/hallmark/internal/housetest"
	"github.com/hallmark-pki/hallmark/internal/swtpm"
	"github.com/hallmark-pki/hallmark/policy"
)

// factory is a server that trusts a maker of TPMs.
type factory struct {
	*housetest.House
	t     *testing.T
	maker *swtpm.Maker
}

// newFactory founds a maker whose root is an anchor, and whose issuer is on file.
func newFactory(t *testing.T) *factory {
	t.Helper()
	maker := swtpm.NewMaker(t)
	maker.TPM(t, swtpm.Options{}) // its keys come into being with its first
	dir := filepath.Join(t.TempDir(), "data")
	keepIssuer(t, dir, maker)
	f := &factory{housetest.StartIn(t, dir, "--rate-limits=off"), t, maker}
	f.Hallmark("anchor", "add", "--profile", "device", "--kind", "ek", maker.RootFile())
	return f
}

// keepIssuer puts the maker's issuer among the intermediates that the operator has on file.
func keepIssuer(t *testing.T, dir string, maker *swtpm.Maker) {
	t.Helper()
	folder := filepath.Join(dir, "attestation", "intermediates")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: maker.Issuer(t).Raw})
	name := fmt.Sprintf("issuer-%d.pem", time.Now().UnixNano())
	if err := os.WriteFile(filepath.Join(folder, name), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// register takes a device into the register.
func (f *factory) register(id, ek string) {
	f.t.Helper()
	file := filepath.Join(f.t.TempDir(), "devices.csv")
	if err := os.WriteFile(file, fmt.Appendf(nil, "id,model,ek_sha256\n%s,PX-20,%s\n", id, ek), 0o600); err != nil {
		f.t.Fatal(err)
	}
	f.Hallmark("device", "import", file)
}

// agent is a device with our agent on it.
type agent struct {
	*factory
	machine *swtpm.TPM
	id, out string
	log     string // its event log
}

func (f *factory) agent(id string, machine *swtpm.TPM) *agent {
	return &agent{factory: f, machine: machine, id: id, out: filepath.Join(f.t.TempDir(), id)}
}

// enrol enrols with a fresh token.
func (a *agent) enrol(flags ...string) (out, errs string, code int) {
	a.t.Helper()
	args := []string{"enroll", "--server", a.URL, "--ca", a.CAFile(), "--id", a.id, "--token", a.Token("--device", a.id),
		"--tpm", a.machine.Address(), "--out", a.out}
	if a.log != "" {
		args = append(args, "--event-log", a.log)
	}
	return a.Device(append(args, flags...)...)
}

func (a *agent) mustEnrol(flags ...string) {
	a.t.Helper()
	if _, errs, code := a.enrol(flags...); code != 0 {
		a.t.Fatalf("enrolling %s: %s", a.id, errs)
	}
}

// renew returns what the agent says on standard error, empty for success.
func (a *agent) renew(flags ...string) string {
	a.t.Helper()
	_, errs, code := a.Device(append([]string{"renew", "--out", a.out}, flags...)...)
	if code != 0 && errs == "" {
		return "silence"
	}
	return errs
}

func (a *agent) mustRenew() {
	a.t.Helper()
	if errs := a.renew(); errs != "" {
		a.t.Fatalf("renewing %s: %s", a.id, errs)
	}
}

// told checks what the agent says of a refusal.
func told(t *testing.T, what, errs, code string) {
	t.Helper()
	if !strings.Contains(errs, " "+code+": ") {
		t.Errorf("%s: want %s, got %q", what, code, errs)
	}
}

// appraised is the evidence's appraisal in the newest decision about a device.
func (f *factory) appraised(device string) map[string]any {
	f.t.Helper()
	var list struct{ Items []struct{ ID string } }
	if err := json.Unmarshal([]byte(f.Hallmark("decision", "list", "--device", device, "-o", "json")), &list); err != nil || len(list.Items) == 0 {
		f.t.Fatalf("decisions about %s: %d, %v", device, len(list.Items), err)
	}
	context, _ := showDecision(f.t, f.House, list.Items[0].ID).Input["context"].(map[string]any)
	document, _ := context["attestation"].(map[string]any)
	return document
}

// vouched checks who vouched for the attestation key in the newest decision, and that the key lives in a TPM.
func (f *factory) vouched(device, by string) {
	f.t.Helper()
	document := f.appraised(device)
	key, _ := document["key"].(map[string]any)
	if document["case"] != by || key["tpm_resident"] != true || document["fresh"] != true {
		f.t.Errorf("%s: want case %s, the record says %v", device, by, document)
	}
}

func (f *factory) stateOf(device string) string {
	f.t.Helper()
	var d struct{ State, Reason string }
	if err := json.Unmarshal([]byte(f.Hallmark("device", "show", device, "-o", "json")), &d); err != nil {
		f.t.Fatal(err)
	}
	return d.State + " " + d.Reason
}

// ekOf is a TPM as the register knows it, by what the agent shows.
func (f *factory) ekOf(machine *swtpm.TPM) string {
	f.t.Helper()
	out, errs, code := f.Device("tpm", "--tpm", machine.Address(), "-o", "json")
	var about struct {
		EKs []struct {
			SHA256 string `json:"ek_sha256"`
		} `json:"endorsement_keys"`
	}
	if err := json.Unmarshal([]byte(out), &about); err != nil || code != 0 || len(about.EKs) == 0 {
		f.t.Fatalf("%v %s", err, errs)
	}
	return about.EKs[0].SHA256
}

// certifyAK is an authority for attestation keys at work.
func certifyAK(t *testing.T, authority *housetest.Maker, key any, device string) []byte {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{SerialNumber: device},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		UnknownExtKeyUsage: []asn1.ObjectIdentifier{{2, 23, 133, 8, 3}}} // tcg-kp-AIKCertificate
	der, err := x509.CreateCertificate(rand.Reader, template, authority.Certificate, key, authority.Key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// Our agent gets its certificate in each of the ways that an attestation key
// can be vouched for, renews with a quote by the key pinned then, and its key stays in the TPM.
func TestTheAgentEnrolsWithATPM(t *testing.T) {
	f := newFactory(t)
	attestors := housetest.NewMaker(t, "Attestation CA")
	f.Hallmark("anchor", "add", "--profile", "device", "--kind", "ak", attestors.File())
	for name, story := range map[string]struct {
		machine swtpm.Options
		flags   []string
		by      string
	}{
		"by RSA endorsement key":      {swtpm.Options{}, nil, "C"},
		"by ECC endorsement key":      {swtpm.Options{ECC: true, Socket: true}, []string{"--ek", "p256", "--ak-type", "p384", "--key-type", "p384"}, "C"},
		"with an RSA attestation key": {swtpm.Options{}, []string{"--ak-type", "rsa2048", "--key-type", "rsa2048"}, "C"},
		"with a persistent key":       {swtpm.Options{}, []string{"--ak-handle", "0x81000020"}, "C"},
		"by the register":             {swtpm.Options{NoCertificate: true}, nil, "E"},
		"by the register in spite":    {swtpm.Options{}, []string{"--no-ek-cert"}, "E"},
	} {
		t.Run(name, func(t *testing.T) {
			f := &factory{f.House, t, f.maker}
			a := f.agent(strings.ReplaceAll(name, " ", "-"), f.maker.TPM(t, story.machine))
			ek := ""
			if story.by == "E" {
				ek = f.ekOf(a.machine)
			}
			f.register(a.id, ek)
			a.mustEnrol(story.flags...)
			f.vouched(a.id, story.by)
			if text, err := os.ReadFile(filepath.Join(a.out, "key.pem")); err != nil || !strings.Contains(string(text), "TSS2 PRIVATE KEY") {
				t.Errorf("key.pem: %v\n%s", err, text)
			}
			a.mustRenew()
			f.vouched(a.id, "B")
			a.machine.Restart()
			a.mustRenew()
			if out, errs, code := a.Device("attest", "--out", a.out); code != 0 || !strings.Contains(out, "verdict none") {
				t.Errorf("attest: %s%s", out, errs)
			}
			a.mustEnrol(story.flags...) // the attestation key is known by now
			f.vouched(a.id, "B")
		})
	}
	t.Run("by certificate", func(t *testing.T) {
		f := &factory{f.House, t, f.maker}
		a := f.agent("certified", f.maker.TPM(t, swtpm.Options{NoCertificate: true}))
		f.register(a.id, "")
		public := filepath.Join(t.TempDir(), "ak.pub")
		if _, errs, code := f.Device("tpm", "--tpm", a.machine.Address(), "--ak-public", public); code != 0 {
			t.Fatal(errs)
		}
		text, err := os.ReadFile(public)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(text)
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		certificate := filepath.Join(t.TempDir(), "ak.pem")
		der := certifyAK(t, attestors, key, a.id)
		if err := os.WriteFile(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		a.mustEnrol("--ak-cert", certificate)
		f.vouched(a.id, "A")
		a.mustRenew()
		f.vouched(a.id, "A")
	})
	everyInputFits(t, f.House, policy.IssueCertificate, policy.RenewCertificate, policy.AttestDevice)
}

// So does a device that somebody else built.
func TestAnotherClientEnrolsWithATPM(t *testing.T) {
	f := newFactory(t)
	attestors := housetest.NewMaker(t, "Attestation CA")
	f.Hallmark("anchor", "add", "--profile", "device", "--kind", "ak", attestors.File())
	for way, story := range map[string]struct {
		first, then string // how the attestation key is vouched for
		renewing    string
	}{
		byEKCert:      {"C", "B", byMemory},
		byRegister:    {"E", "B", byMemory},
		byCertificate: {"A", "A", byCertificate},
	} {
		t.Run(way, func(t *testing.T) {
			f := &factory{f.House, t, f.maker}
			machine := f.maker.TPM(t, swtpm.Options{Socket: true})
			d := &byHand{house: f.House, machine: machine, device: strings.ReplaceAll(way, " ", "-"), key: "first"}
			ek := ""
			if way == byRegister {
				ek = f.ekOf(machine)
			}
			f.register(d.device, ek)
			d.token = f.Token("--device", d.device)
			machine.Do(func(c transport.TPM) error {
				ak, err := primary(c, tpm2.TPMRHEndorsement, true, "AK")
				if err != nil {
					return err
				}
				d.akCert = certifyAK(t, attestors, ak.key, d.device)
				_, err = tpm2.FlushContext{FlushHandle: ak.handle.Handle}.Execute(c)
				return err
			})
			if got := d.enrol(way); got.status != 200 || d.held == nil {
				t.Fatalf("%+v", got)
			}
			f.vouched(d.device, story.first)
			if d.held.Subject.SerialNumber != d.device {
				t.Errorf("the certificate is of %s", d.held.Subject)
			}
			d.key = "second"
			if got := d.renew(story.renewing); got.status != 200 {
				t.Fatalf("renewing: %+v", got)
			}
			f.vouched(d.device, story.then)
			d.key, d.token = "third", f.Token("--device", d.device)
			if got := d.enrol(story.renewing); got.status != 200 {
				t.Fatalf("enrolling again: %+v", got)
			}
			f.vouched(d.device, story.then)
		})
	}
}

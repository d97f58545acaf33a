package housetest_test

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"go.step.sm/crypto/tpm"
	"go.step.sm/crypto/tpm/attestation"
	"go.step.sm/crypto/tpm/storage"
	"go.step.sm/crypto/x509util"

	"github.com/hallmark-pki/hallmark/internal/estclient"
	"github.com/hallmark-pki/hallmark/internal/housetest"
	"github.com/hallmark-pki/hallmark/internal/swtpm"
	"github.com/hallmark-pki/hallmark/policy"
)

// stepTPM is a TPM as smallstep's tools use it.
type stepTPM struct {
	*tpm.TPM
	ek   *tpm.EK
	soft *swtpm.TPM
}

func newStepTPM(t *testing.T, maker *swtpm.Maker) *stepTPM {
	t.Helper()
	soft := maker.TPM(t, swtpm.Options{Socket: true})
	device, err := tpm.New(tpm.WithDeviceName(strings.TrimPrefix(soft.Address(), "swtpm:")),
		tpm.WithStore(storage.NewDirstore(t.TempDir())), tpm.WithDisableDownload())
	if err != nil {
		t.Fatal(err)
	}
	eks, err := device.GetEKs(t.Context())
	if err != nil || len(eks) == 0 {
		t.Fatalf("%d endorsement keys: %v", len(eks), err)
	}
	return &stepTPM{device, eks[0], soft}
}

// sha256 is the endorsement key's digest as the register has it.
func (d *stepTPM) sha256(t *testing.T) string {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(d.ek.Public())
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(spki)
	return hex.EncodeToString(sum[:])
}

// certify has a new attestation key certified by the server.
func (d *stepTPM) certify(t *testing.T, h *housetest.House, name string) (*tpm.AK, []*x509.Certificate, error) {
	t.Helper()
	ak, err := d.CreateAK(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	client, err := attestation.NewClient(h.URL+"/attestation", attestation.WithRootsFile(h.CAFile()))
	if err != nil {
		t.Fatal(err)
	}
	chain, err := client.Attest(t.Context(), d.TPM, d.ek, ak)
	return ak, chain, err
}

// TestStepGetsItsAttestationKeyCertified runs the code that step and
// step-agent run, against a TPM of swtpm, and then enrols with what came of it.
func TestStepGetsItsAttestationKeyCertified(t *testing.T) {
	maker := swtpm.NewMaker(t)
	device := newStepTPM(t, maker)
	h := housetest.Start(t)
	if _, _, err := device.certify(t, h, "stranger"); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("a TPM that nobody has registered: %v", err)
	}
	if refused := h.Hallmark("audit", "list"); !strings.Contains(refused, "attestation.certify") {
		t.Errorf("its refusal is not in the record:\n%s", refused)
	}
	importTPM(t, h, "gw-1", device.sha256(t))
	h.Hallmark("anchor", "add", "--profile", "device", "--kind", "ek", maker.RootFile())
	h.Hallmark("anchor", "add", "--profile", "device", "--kind", "ek", maker.IssuerFile())

	ak, chain, err := device.certify(t, h, "ak")
	if err != nil {
		t.Fatalf("%v\n%s", err, h.Log())
	}
	if err := ak.SetCertificateChain(t.Context(), chain); err != nil || len(chain) != 2 || chain[0].CheckSignatureFrom(chain[1]) != nil {
		t.Errorf("the client does not like its certificate: %v", err)
	}
	// What step-ca wants of it, with step-ca's own parser.
	names, err := x509util.ParseSubjectAlternativeNames(chain[0])
	if err != nil || names.TPMHardwareDetails.Manufacturer == "" || names.TPMHardwareDetails.Model == "" || names.TPMHardwareDetails.Version == "" ||
		len(names.PermanentIdentifiers) != 1 || names.PermanentIdentifiers[0].Identifier != "gw-1" || chain[0].Subject.String() != "" {
		t.Errorf("the certificate names %+v, %v", names, err)
	}
	uri, err := device.ek.FingerprintURI()
	if err != nil || len(chain[0].URIs) != 1 || chain[0].URIs[0].String() != uri.String() {
		t.Errorf("the certificate names %v, want %v: %v", chain[0].URIs, uri, err)
	}
	if listed := h.Hallmark("cert", "list", "--device", "gw-1"); !strings.Contains(listed, "attestation-key") {
		t.Errorf("the certificate is not listed:\n%s", listed)
	}
	enrolByCertifiedKey(t, h, device, ak)
	everyInputFits(t, h, policy.CertifyAK, policy.AddAnchor)
}

func importTPM(t *testing.T, h *housetest.House, id, ek string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "devices.csv")
	if err := os.WriteFile(file, fmt.Appendf(nil, "id,ek_sha256\n%s,%s\n", id, ek), 0o600); err != nil {
		t.Fatal(err)
	}
	h.Hallmark("device", "import", file)
}

// enrolByCertifiedKey enrols a key that the certified attestation key vouches
// for, with evidence put together by hand.
func enrolByCertifiedKey(t *testing.T, h *housetest.House, device *stepTPM, ak *tpm.AK) {
	t.Helper()
	session, err := h.EST("gw-1", h.Token("--device", "gw-1")).Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	challenge, err := session.Nonce(t.Context(), estclient.Freshness{})
	if err != nil {
		t.Fatal(err)
	}
	key, err := device.AttestKey(t.Context(), "ak", "key", tpm.AttestKeyConfig{Algorithm: "ECDSA", Size: 256, QualifyingData: challenge.Nonce})
	if err != nil {
		t.Fatal(err)
	}
	certified, err := key.CertificationParameters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	signer, err := key.Signer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	certify := statement{Type: asn1.ObjectIdentifier{2, 23, 133, 20, 1}}
	certify.Stmt.Attest, certify.Stmt.Signature, certify.Stmt.Third = certified.CreateAttestation, certified.CreateSignature, certified.Public
	evidence := bundle(t, ak.CertificateChain(), certify, device.quote(t, ak, challenge))
	csr, err := (&estclient.Request{Key: signer, Attestation: evidence}).DER()
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := session.Enroll(t.Context(), csr)
	if err != nil {
		t.Fatalf("%v\n%s", err, h.Log())
	}
	if len(certificate.Policies) != 2 || certificate.Policies[0].String() != "2.23.133.11.1.1" {
		t.Errorf("the certificate's policies are %v", certificate.Policies)
	}
	var shown struct {
		Case string `json:"case"`
		EK   string `json:"ek_sha256"`
	}
	text := h.Hallmark("attestation", "show", "gw-1", "-o", "json")
	if err := json.Unmarshal([]byte(text), &shown); err != nil || !strings.Contains(text, device.sha256(t)) {
		t.Errorf("the device is not bound to its TPM: %v\n%s", err, text)
	}
}

// quote has the attestation key quote what the server asks for.
func (d *stepTPM) quote(t *testing.T, ak *tpm.AK, c *estclient.Challenge) statement {
	t.Helper()
	blobs, err := ak.Blobs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	private, err := blobs.Private()
	if err != nil {
		t.Fatal(err)
	}
	public, err := blobs.Public()
	if err != nil {
		t.Fatal(err)
	}
	s := statement{Type: asn1.ObjectIdentifier{2, 23, 133, 20, 2}}
	d.soft.Do(func(connection transport.TPM) error {
		key, err := loadKey(connection, public, private)
		if err != nil {
			return err
		}
		defer tpm2.FlushContext{FlushHandle: key.Handle}.Execute(connection)
		var registers []uint
		for _, n := range c.PCRs {
			registers = append(registers, uint(n))
		}
		selection := tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(registers...)}}}
		quote, err := tpm2.Quote{SignHandle: key, QualifyingData: tpm2.TPM2BData{Buffer: c.Nonce},
			InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull}, PCRSelect: selection}.Execute(connection)
		if err != nil {
			return err
		}
		s.Stmt.Attest, s.Stmt.Signature = quote.Quoted.Bytes(), tpm2.Marshal(quote.Signature)
		for _, n := range registers { // a TPM reads eight at a time
			selection.PCRSelections[0].PCRSelect = tpm2.PCClientCompatible.PCRs(n)
			values, err := tpm2.PCRRead{PCRSelectionIn: selection}.Execute(connection)
			if err != nil {
				return err
			}
			s.Stmt.Third = append(s.Stmt.Third, values.PCRValues.Digests[0].Buffer...)
		}
		return nil
	})
	return s
}

// loadKey loads a key below the storage root key that smallstep's tools use.
func loadKey(connection transport.TPM, public, private []byte) (tpm2.AuthHandle, error) {
	const storageRoot = tpm2.TPMHandle(0x81000001)
	root, err := tpm2.ReadPublic{ObjectHandle: storageRoot}.Execute(connection)
	if err != nil {
		return tpm2.AuthHandle{}, err
	}
	in, err := tpm2.Unmarshal[tpm2.TPM2BPublic](public)
	if err != nil {
		return tpm2.AuthHandle{}, err
	}
	sealed, err := tpm2.Unmarshal[tpm2.TPM2BPrivate](private)
	if err != nil {
		return tpm2.AuthHandle{}, err
	}
	loaded, err := tpm2.Load{ParentHandle: tpm2.AuthHandle{Handle: storageRoot, Name: root.Name, Auth: tpm2.PasswordAuth(nil)},
		InPrivate: *sealed, InPublic: *in}.Execute(connection)
	if err != nil {
		return tpm2.AuthHandle{}, err
	}
	return tpm2.AuthHandle{Handle: loaded.ObjectHandle, Name: loaded.Name, Auth: tpm2.PasswordAuth(nil)}, nil
}

// statement is an AttestationStatement of a TPM.
type statement struct {
	Type asn1.ObjectIdentifier
	Stmt struct{ Attest, Signature, Third []byte }
}

// bundle is an AttestationBundle.
func bundle(t *testing.T, chain []*x509.Certificate, statements ...statement) []byte {
	t.Helper()
	var certs []asn1.RawValue
	for _, c := range chain {
		certs = append(certs, asn1.RawValue{FullBytes: c.Raw})
	}
	der, err := asn1.Marshal(struct {
		Statements []statement
		Certs      []asn1.RawValue
	}{statements, certs})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

package tpmdevice_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/hallmark-pki/hallmark/internal/swtpm"
	"github.com/hallmark-pki/hallmark/internal/tpmdevice"
)

func open(t *testing.T, c *swtpm.TPM) *tpmdevice.TPM {
	t.Helper()
	device, err := tpmdevice.Open(c.Address())
	if err != nil {
		t.Fatal(err)
	}
	return device
}

// nothingLeft fails if an object or a session stays in the TPM.
func nothingLeft(t *testing.T, c *swtpm.TPM) {
	t.Helper()
	c.Do(func(conn transport.TPM) error {
		for _, first := range []uint32{0x80000000, 0x02000000} {
			answer, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: first, PropertyCount: 8}.Execute(conn)
			if err != nil {
				return err
			}
			list, err := answer.CapabilityData.Data.Handles()
			if err != nil {
				return err
			}
			if len(list.Handle) > 0 {
				t.Errorf("the TPM still holds %x", list.Handle)
			}
		}
		return nil
	})
}

// Keys of every kind sign, certify requests, are clients of TLS in both
// versions, and are the same after a trip through a file and a power cycle.
func TestKeys(t *testing.T) {
	machine, _ := swtpm.Make(t, swtpm.Options{Socket: true, NoCertificate: true})
	device := open(t, machine)
	for _, algorithm := range []tpmdevice.Algorithm{tpmdevice.P256, tpmdevice.P384, tpmdevice.RSA2048} {
		made, err := device.CreateKey(algorithm)
		if err != nil {
			t.Fatalf("%s: %v", algorithm, err)
		}
		text, err := made.PEM()
		if err != nil {
			t.Fatal(err)
		}
		machine.Restart()
		key, err := tpmdevice.ParseKey(device, text)
		if err != nil {
			t.Fatalf("%s: %v", algorithm, err)
		}
		if key.Algorithm() != algorithm || key.SHA256() != made.SHA256() || !bytes.Equal(key.Name(), made.Name()) {
			t.Errorf("%s: another key came back", algorithm)
		}
		csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
		if err != nil {
			t.Fatalf("%s: %v", algorithm, err)
		}
		if request, err := x509.ParseCertificateRequest(csr); err != nil || request.CheckSignature() != nil {
			t.Errorf("%s: the request does not verify: %v", algorithm, err)
		}
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			if err := handshake(key, version); err != nil {
				t.Errorf("%s, TLS %x: %v", algorithm, version, err)
			}
		}
	}
	if _, err := device.CreateKey("ed25519"); err == nil {
		t.Error("a TPM made an Ed25519 key")
	}
	nothingLeft(t, machine)
}

// handshake authenticates as a client with the key.
func handshake(key *tpmdevice.Key, version uint16) error {
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "device"},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	leaf := key.TLS([][]byte{der})
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	result := make(chan error, 1)
	go func() {
		server := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{leaf}, ClientAuth: tls.RequireAnyClientCert, MinVersion: version, MaxVersion: version})
		err := server.Handshake()
		if err != nil {
			far.Close()
		}
		result <- err
	}()
	client := tls.Client(near, &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version, //nolint:gosec // only the client's proof matters here
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &leaf, nil }})
	if err := client.Handshake(); err != nil {
		return err
	}
	return <-result
}

func TestSignRefusesWhatItCannot(t *testing.T) {
	machine, _ := swtpm.Make(t, swtpm.Options{NoCertificate: true})
	device := open(t, machine)
	key, err := device.CreateKey(tpmdevice.RSA2048)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("message"))
	for name, opts := range map[string]crypto.SignerOpts{
		"SHA-1":          crypto.SHA1,
		"no digest":      crypto.Hash(0),
		"another length": crypto.SHA384,
		"another salt":   &rsa.PSSOptions{SaltLength: 7, Hash: crypto.SHA256},
	} {
		if _, err := key.Sign(nil, digest[:], opts); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	ak, err := device.CreateAK(tpmdevice.P256)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ak.Sign(nil, digest[:], crypto.SHA256); err == nil {
		t.Error("an attestation key signed something from outside the TPM")
	}
	nothingLeft(t, machine)
}

// The endorsement key comes with the certificate of its maker, whatever
// stands behind it in the TPM.
func TestEK(t *testing.T) {
	machine, maker := swtpm.Make(t, swtpm.Options{ECC: true})
	issuer := maker.Issuer(t)
	machine.WriteNV(0x01c00100, append(issuer.Raw[:700:700], issuer.Raw[700:]...)[:700])
	machine.WriteNV(0x01c00101, append(issuer.Raw[700:len(issuer.Raw):len(issuer.Raw)], maker.Root(t).Raw...))
	device := open(t, machine)
	for _, algorithm := range []tpmdevice.Algorithm{"", tpmdevice.RSA2048, tpmdevice.P256} {
		ek, err := device.EK(algorithm)
		if err != nil {
			t.Fatalf("%q: %v", algorithm, err)
		}
		if len(ek.Certificates) != 3 || !bytes.Equal(ek.Certificates[1], issuer.Raw) || !bytes.Equal(ek.Certificates[2], maker.Root(t).Raw) {
			t.Fatalf("%q: %d certificates", algorithm, len(ek.Certificates))
		}
		leaf, err := x509.ParseCertificate(ek.Certificates[0])
		if err != nil {
			t.Fatalf("%q: %v", algorithm, err)
		}
		if err := leaf.CheckSignatureFrom(issuer); err != nil {
			t.Errorf("%q: %v", algorithm, err)
		}
		if !leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }).Equal(ek.Public) {
			t.Errorf("%q: the certificate is over another key", algorithm)
		}
	}
	if _, err := device.EK(tpmdevice.P384); err == nil {
		t.Error("there is an endorsement key of P-384")
	}
	nothingLeft(t, machine)
}

func TestEKWithoutCertificate(t *testing.T) {
	machine, _ := swtpm.Make(t, swtpm.Options{NoCertificate: true})
	ek, err := open(t, machine).EK("")
	if err != nil {
		t.Fatal(err)
	}
	if len(ek.Certificates) != 0 || ek.Algorithm != tpmdevice.RSA2048 {
		t.Errorf("%s with %d certificates", ek.Algorithm, len(ek.Certificates))
	}
	machine.WriteNV(0x01c0000a, []byte("no certificate"))
	if _, err := open(t, machine).EK(tpmdevice.P256); !errors.Is(err, tpmdevice.ErrNoEKCertificate) {
		t.Errorf("junk for a certificate: %v", err)
	}
}

// A secret for this endorsement key and this attestation key comes out; one
// for another does not, and neither attempt leaves anything behind.
func TestActivate(t *testing.T) {
	one, maker := swtpm.Make(t, swtpm.Options{ECC: true})
	two := maker.TPM(t, swtpm.Options{})
	device, other := open(t, one), open(t, two)
	for _, algorithm := range []tpmdevice.Algorithm{tpmdevice.RSA2048, tpmdevice.P256} {
		ak, err := device.CreateAK(algorithm)
		if err != nil {
			t.Fatal(err)
		}
		foreign, err := other.CreateAK(algorithm)
		if err != nil {
			t.Fatal(err)
		}
		ek, err := device.EK(algorithm)
		if err != nil {
			t.Fatal(err)
		}
		secret := bytes.Repeat([]byte{7}, 32)
		blob, encrypted := credential(t, ek.Area, ak.Name(), secret)
		if got, err := device.Activate(ak, algorithm, blob, encrypted); err != nil || !bytes.Equal(got, secret) {
			t.Errorf("%s: %x, %v", algorithm, got, err)
		}
		if _, err := other.Activate(foreign, algorithm, blob, encrypted); !errors.Is(err, tpmdevice.ErrActivation) {
			t.Errorf("%s: another TPM: %v", algorithm, err)
		}
		blob, encrypted = credential(t, ek.Area, foreign.Name(), secret)
		if _, err := device.Activate(ak, algorithm, blob, encrypted); !errors.Is(err, tpmdevice.ErrActivation) {
			t.Errorf("%s: another attestation key: %v", algorithm, err)
		}
		if _, err := device.Activate(ak, algorithm, blob[:9], encrypted); err == nil {
			t.Errorf("%s: half a challenge was taken", algorithm)
		}
		if _, err := device.Activate(foreign, algorithm, blob, encrypted); !errors.Is(err, tpmdevice.ErrForeignKey) {
			t.Errorf("%s: a key of another TPM: %v", algorithm, err)
		}
	}
	nothingLeft(t, one)
	nothingLeft(t, two)
}

// credential is TPM2_MakeCredential, with the sizes in front.
func credential(t *testing.T, ekArea, akName, secret []byte) (blob, encrypted []byte) {
	t.Helper()
	area, err := tpm2.Unmarshal[tpm2.TPMTPublic](ekArea)
	if err != nil {
		t.Fatal(err)
	}
	key, err := tpm2.ImportEncapsulationKey(area)
	if err != nil {
		t.Fatal(err)
	}
	blob, encrypted, err = tpm2.CreateCredential(rand.Reader, key, akName, secret)
	if err != nil {
		t.Fatal(err)
	}
	return tpm2.Marshal(tpm2.TPM2BIDObject{Buffer: blob}), tpm2.Marshal(tpm2.TPM2BEncryptedSecret{Buffer: encrypted})
}

// Statements are about what they should be and verify with the attestation key.
func TestEvidence(t *testing.T) {
	machine, _ := swtpm.Make(t, swtpm.Options{NoCertificate: true})
	device := open(t, machine)
	key, err := device.CreateKey(tpmdevice.P256)
	if err != nil {
		t.Fatal(err)
	}
	if banks, err := device.Banks(); err != nil || len(banks) != 2 {
		t.Errorf("banks %v, %v", banks, err)
	}
	for _, algorithm := range []tpmdevice.Algorithm{tpmdevice.P256, tpmdevice.P384, tpmdevice.RSA2048} {
		ak, err := device.CreateAK(algorithm)
		if err != nil {
			t.Fatal(err)
		}
		for _, bank := range []string{"sha256", "sha384"} {
			der, err := device.Evidence(ak, tpmdevice.Ask{ExtraData: []byte("fresh"), Key: key, Bank: bank,
				PCRs: []int{0, 1, 2, 3, 4, 5, 6, 7, 9, 14}, EventLog: bytes.Repeat([]byte("log"), 3000)})
			if err != nil {
				t.Fatalf("%s, %s: %v", algorithm, bank, err)
			}
			if len(der) < 600 || len(der) > 3000 {
				t.Errorf("%s, %s: %d bytes", algorithm, bank, len(der))
			}
		}
	}
	ak, _ := device.CreateAK(tpmdevice.P256)
	for name, ask := range map[string]tpmdevice.Ask{
		"another bank": {Bank: "sha1", PCRs: []int{0}},
		"order":        {Bank: "sha256", PCRs: []int{3, 1}},
		"no such PCR":  {Bank: "sha256", PCRs: []int{24}},
		"too much":     {ExtraData: make([]byte, 100), Bank: "sha256", PCRs: []int{0}},
	} {
		if _, err := device.Evidence(ak, ask); err == nil {
			t.Errorf("%s: made", name)
		}
	}
	nothingLeft(t, machine)
}

// The attestation key is the same every time, and other TPMs have others.
func TestAKIsDerived(t *testing.T) {
	machine, _ := swtpm.Make(t, swtpm.Options{NoCertificate: true})
	second, _ := swtpm.Make(t, swtpm.Options{NoCertificate: true})
	device := open(t, machine)
	for _, algorithm := range []tpmdevice.Algorithm{tpmdevice.P256, tpmdevice.RSA2048} {
		first, err := device.CreateAK(algorithm)
		if err != nil {
			t.Fatal(err)
		}
		machine.Restart()
		text, err := first.PEM()
		if err != nil {
			t.Fatal(err)
		}
		read, err := tpmdevice.ParseKey(device, text)
		if err != nil {
			t.Fatal(err)
		}
		if err := read.Check(); err != nil {
			t.Error(err)
		}
		if again, err := device.CreateAK(algorithm); err != nil || again.SHA256() != first.SHA256() {
			t.Errorf("%s: another attestation key after a restart: %v", algorithm, err)
		}
		elsewhere, err := tpmdevice.ParseKey(open(t, second), text)
		if err != nil {
			t.Fatal(err)
		}
		if err := elsewhere.Check(); !errors.Is(err, tpmdevice.ErrForeignKey) {
			t.Errorf("%s: in another TPM: %v", algorithm, err)
		}
	}
	nothingLeft(t, machine)
	nothingLeft(t, second)
}

// A key can stay in the TPM at a handle, and a file says which.
func TestPersistentKey(t *testing.T) {
	machine, _ := swtpm.Make(t, swtpm.Options{NoCertificate: true})
	device := open(t, machine)
	if _, err := device.KeyAt(0x81010020); !errors.Is(err, tpmdevice.ErrAbsent) {
		t.Errorf("nothing is there yet: %v", err)
	}
	if _, err := device.KeyAt(0x80000000); err == nil {
		t.Error("a transient handle was taken")
	}
	made, err := device.CreateAK(tpmdevice.P256)
	if err != nil {
		t.Fatal(err)
	}
	there, err := made.Persist(0x81000020)
	if err != nil {
		t.Fatal(err)
	}
	text, err := there.PEM()
	if err != nil {
		t.Fatal(err)
	}
	machine.Restart()
	read, err := tpmdevice.ParseKey(device, text)
	if err != nil {
		t.Fatal(err)
	}
	found, err := device.KeyAt(0x81000020)
	if err != nil || !bytes.Equal(found.Name(), read.Name()) || !bytes.Equal(found.Name(), made.Name()) {
		t.Errorf("another key came back, %v", err)
	}
	if _, err := device.Evidence(read, tpmdevice.Ask{Bank: "sha256", PCRs: []int{0}}); err != nil {
		t.Error(err)
	}
	nothingLeft(t, machine)
}

// Files that are not TPM keys are refused, and none makes the agent panic.
func FuzzParseKey(f *testing.F) {
	device, err := tpmdevice.At("swtpm:127.0.0.1:1")
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("-----BEGIN TSS2 PRIVATE KEY-----\nMAMCAQA=\n-----END TSS2 PRIVATE KEY-----\n"))
	f.Add([]byte("-----BEGIN HALLMARK TPM KEY-----\nMAoCBQCBAQAgBAEA\n-----END HALLMARK TPM KEY-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		key, err := tpmdevice.ParseKey(device, text)
		if err != nil {
			return
		}
		again, err := key.PEM()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tpmdevice.ParseKey(device, again); err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
	})
}

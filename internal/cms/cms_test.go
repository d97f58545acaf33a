package cms_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/internal/cms"
	"github.com/smallstep/pkcs7"
)

func certificate(t testing.TB, serial int64) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// The bytes are those that OpenSSL makes of the same certificate.
func TestCertsOnlyBytes(t *testing.T) {
	one := certificate(t, 1)
	got, err := cms.CertsOnly(one)
	if err != nil {
		t.Fatal(err)
	}
	openssl := exec.Command("openssl", "crl2pkcs7", "-nocrl", "-certfile", "/dev/stdin", "-outform", "DER")
	openssl.Stdin = bytes.NewReader(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: one}))
	want, err := openssl.Output()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("got  %x\nwant %x", got, want)
	}
}

func TestCertsOnlyIsReadByOthers(t *testing.T) {
	a, b := certificate(t, 1), certificate(t, 2)
	der, err := cms.CertsOnly(a, b)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := cms.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := pkcs7.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range [][]byte{a, b} {
		if !bytes.Equal(ours[i].Raw, want) || !bytes.Equal(theirs.Certificates[i].Raw, want) {
			t.Errorf("certificate %d is not what was put in", i)
		}
	}
	openssl := exec.Command("openssl", "pkcs7", "-inform", "DER", "-print_certs", "-noout")
	openssl.Stdin = bytes.NewReader(der)
	if out, err := openssl.CombinedOutput(); err != nil {
		t.Errorf("openssl: %v: %s", err, out)
	}
}

// A SignedData that somebody else made is read as well.
func TestParseForeign(t *testing.T) {
	a := certificate(t, 1)
	der, err := pkcs7.DegenerateCertificate(a)
	if err != nil {
		t.Fatal(err)
	}
	got, err := cms.Parse(der)
	if err != nil || len(got) != 1 || !bytes.Equal(got[0].Raw, a) {
		t.Fatalf("got %d certificates, %v", len(got), err)
	}
}

func TestParseRefuses(t *testing.T) {
	one := certificate(t, 1)
	good, _ := cms.CertsOnly(one)
	many := make([][]byte, cms.MaxCertificates+1)
	for i := range many {
		many[i] = one
	}
	tooMany, _ := cms.CertsOnly(many...)
	for name, der := range map[string][]byte{
		"nothing":        nil,
		"trailing bytes": append(bytes.Clone(good), 0),
		"cut short":      good[:len(good)-7],
		"no CMS":         one,
		"no certificate": func() []byte { d, _ := cms.CertsOnly([]byte{0x30, 0x00}); return d }(),
		"attribute cert": func() []byte { d, _ := cms.CertsOnly([]byte{0xa1, 0x00}); return d }(),
		"too many":       tooMany,
	} {
		if got, err := cms.Parse(der); err == nil {
			t.Errorf("%s: read as %d certificates", name, len(got))
		} else if !strings.HasPrefix(err.Error(), "parsing certs-only CMS") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	good, err := cms.CertsOnly(certificate(f, 1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, der []byte) {
		found, err := cms.Parse(der)
		if err != nil {
			return
		}
		// What was read can be written, and reads the same again.
		raw := make([][]byte, len(found))
		for i, c := range found {
			raw[i] = c.Raw
		}
		again, err := cms.CertsOnly(raw...)
		if err != nil {
			t.Fatal(err)
		}
		back, err := cms.Parse(again)
		if err != nil || len(back) != len(found) {
			t.Fatalf("%d certificates became %d: %v", len(found), len(back), err)
		}
	})
}

package ca_test

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/ca"
)

const shardURL = "http://status.example/crl/issuing/7.crl"

// revocations are entries for so many serial numbers, with the reasons in turn.
func revocations(t testing.TB, n int) []byte {
	t.Helper()
	reasons := []ca.RevocationReason{ca.Unspecified, ca.KeyCompromise, ca.AffiliationChanged, ca.Superseded, ca.CessationOfOperation, ca.PrivilegeWithdrawn}
	var entries []byte
	serial := make([]byte, 16)
	for i := range n {
		new(big.Int).SetInt64(int64(i + 1)).FillBytes(serial[8:])
		serial[0] = 0x80 // needs a zero before it
		var err error
		if entries, err = ca.AppendRevoked(entries, serial, noon, reasons[i%len(reasons)]); err != nil {
			t.Fatal(err)
		}
	}
	return entries
}

func TestRevocationList(t *testing.T) {
	for kind, key := range keysOfEachKind(t) {
		t.Run(kind, func(t *testing.T) {
			h := foundWith(t, key)
			issuer, err := ca.NewLocal(key, chain(h))
			if err != nil {
				t.Fatal(err)
			}
			list := &ca.RevocationList{Number: big.NewInt(300), ThisUpdate: noon, NextUpdate: noon.Add(time.Hour), URLs: []string{shardURL}, Entries: revocations(t, 7)}
			der, err := issuer.RevocationList(list)
			if err != nil {
				t.Fatal(err)
			}
			parsed, err := x509.ParseRevocationList(der)
			if err != nil {
				t.Fatal(err)
			}
			if err := parsed.CheckSignatureFrom(h.Issuing); err != nil {
				t.Error(err)
			}
			if parsed.Number.Int64() != 300 || !parsed.ThisUpdate.Equal(noon) || !parsed.NextUpdate.Equal(noon.Add(time.Hour)) {
				t.Errorf("got number %s, %s to %s", parsed.Number, parsed.ThisUpdate, parsed.NextUpdate)
			}
			for i, code := range []int{0, 1, 3, 4, 5, 9, 0} {
				e := parsed.RevokedCertificateEntries[i]
				if e.ReasonCode != code || !e.RevocationTime.Equal(noon) || !strings.HasPrefix(hex.EncodeToString(e.SerialNumber.Bytes()), "80") {
					t.Errorf("entry %d: serial %x, reason %d, at %s", i, e.SerialNumber, e.ReasonCode, e.RevocationTime)
				}
			}
			opensslList(t, h, der)
		})
	}
}

// opensslList has another implementation read the list and check its signature.
func opensslList(t *testing.T, h *house, der []byte) {
	t.Helper()
	dir := t.TempDir()
	for name, block := range map[string]*pem.Block{
		"list.pem":   {Type: "X509 CRL", Bytes: der},
		"issuer.pem": {Type: "CERTIFICATE", Bytes: h.Issuing.Raw},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("openssl", "crl", "-in", "list.pem", "-CAfile", "issuer.pem", "-noout", "-text")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("openssl: %v\n%s", err, out)
	}
	for _, want := range []string{"verify OK", "Issuing Distribution Point: critical", "URI:" + shardURL, "Only User Certificates",
		"X509v3 CRL Number: \n                300", "Key Compromise", "Privilege Withdrawn"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("openssl does not show %q:\n%s", want, out)
		}
	}
}

// TestEmptyRevocationList: the list of an issuer that has revoked nothing has
// no list inside (RFC 5280, Section 5.1.2.6), and one without a URL no scope.
func TestEmptyRevocationList(t *testing.T) {
	key := keysOfEachKind(t)["P-256"]
	h := foundWith(t, key)
	issuer, err := ca.NewLocal(key, chain(h))
	if err != nil {
		t.Fatal(err)
	}
	der, err := issuer.RevocationList(&ca.RevocationList{Number: big.NewInt(0), ThisUpdate: noon, NextUpdate: noon.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseRevocationList(der)
	if err != nil || len(parsed.RevokedCertificateEntries) != 0 || len(parsed.Extensions) != 2 {
		t.Fatalf("got %+v, %v", parsed, err)
	}
	if _, err := issuer.RevocationList(&ca.RevocationList{Number: big.NewInt(1), ThisUpdate: noon, NextUpdate: noon}); err == nil {
		t.Error("a list that is over when it begins was signed")
	}
	if _, err := ca.AppendRevoked(nil, []byte{1}, noon, "certificateHold"); err == nil {
		t.Error("a reason that is none was taken")
	}
}

// BenchmarkRevocationList is what a new list costs once its entries are there.
func BenchmarkRevocationList(b *testing.B) {
	key := keysOfEachKind(b)["P-256"]
	h := foundWith(b, key)
	issuer, err := ca.NewLocal(key, chain(h))
	if err != nil {
		b.Fatal(err)
	}
	for _, n := range []int{1, 1000, 1_000_000} {
		entries := revocations(b, n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				list := &ca.RevocationList{Number: big.NewInt(1), ThisUpdate: noon, NextUpdate: noon.Add(time.Hour), URLs: []string{shardURL}, Entries: entries}
				if _, err := issuer.RevocationList(list); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

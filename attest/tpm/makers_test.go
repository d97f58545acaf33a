package tpm

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"regexp"
	"strings"
	"testing"
	"time"
)

// bundled is one certificate of the bundle, with what is said about it.
type bundled struct {
	maker, kind, subject, digest, source string
	c                                    *x509.Certificate
}

func readBundle(t *testing.T) []bundled {
	t.Helper()
	head := regexp.MustCompile(`(?m)^# ([A-Z]+) (root|intermediate)\n# (.+)\n# sha256 ([0-9a-f]{64})\n# from (https://\S+)\n-----BEGIN CERTIFICATE-----\n`)
	heads := head.FindAllStringSubmatchIndex(makersPEM, -1)
	if n := strings.Count(makersPEM, "-----BEGIN"); n != len(heads) || n == 0 {
		t.Fatalf("%d certificates, %d of them described", n, len(heads))
	}
	var all []bundled
	for _, m := range heads {
		at := func(i int) string { return makersPEM[m[2*i]:m[2*i+1]] }
		block, _ := pem.Decode([]byte(makersPEM[m[0]:]))
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatalf("%s: %v", at(3), err)
		}
		all = append(all, bundled{at(1), at(2), at(3), at(4), at(5), c})
	}
	return all
}

// Every certificate is the one whose digest was recorded, an authority, and in its time; and
// a self-signed one holds. Whether it is its maker's is what its source is for.
func TestEveryCertificateOfTheBundleIsWhatItSays(t *testing.T) {
	roots, intermediates := 0, 0
	for _, b := range readBundle(t) {
		sum := sha256.Sum256(b.c.Raw)
		if hex.EncodeToString(sum[:]) != b.digest || b.c.Subject.String() != b.subject {
			t.Errorf("%s: digest or subject differs", b.subject)
		}
		if !b.c.BasicConstraintsValid || !b.c.IsCA || len(b.c.UnhandledCriticalExtensions) > 0 || b.c.PublicKey == nil {
			t.Errorf("%s: cannot vouch for anything", b.subject)
		}
		if bytes.Equal(b.c.RawSubject, b.c.RawIssuer) && b.c.CheckSignature(b.c.SignatureAlgorithm, b.c.RawTBSCertificate, b.c.Signature) != nil {
			t.Errorf("%s: its own signature does not hold", b.subject)
		}
		if noon.Before(b.c.NotBefore) || noon.After(b.c.NotAfter) {
			t.Errorf("%s: valid from %s to %s", b.subject, b.c.NotBefore, b.c.NotAfter)
		}
		if b.kind == "root" {
			roots++
		} else {
			intermediates++
		}
	}
	if roots < 20 || intermediates < 100 {
		t.Errorf("%d roots, %d intermediates", roots, intermediates)
	}
	if _, err := time.Parse(time.DateOnly, MakersVersion()); err != nil {
		t.Error(err)
	}
}

// Every intermediate authority of the bundle leads to a root of it, through the
// names as their makers wrote them.
func TestEveryIntermediateOfTheBundleLeadsToARoot(t *testing.T) {
	trust := &Trust{Anchors: anchors{}, Makers: &Makers{}}
	for _, b := range readBundle(t) {
		if b.kind != "intermediate" {
			continue
		}
		if _, err := trust.chain(t.Context(), "factory", ekAnchors, b.c, nil, noon); err != nil {
			t.Errorf("%s %s: %v", b.maker, b.subject, err)
		}
		if _, err := trust.chain(t.Context(), "factory", akAnchors, b.c, nil, noon); err == nil {
			t.Errorf("%s: a maker of TPMs vouches for attestation keys", b.subject)
		}
	}
}

func TestTheBundleIsReadOnce(t *testing.T) {
	m := &Makers{}
	if err := m.open(); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, s := range []shelf{m.roots, m.intermediates} {
		for _, on := range s {
			n += len(on)
		}
	}
	if want := len(readBundle(t)); n != want {
		t.Errorf("%d certificates on the shelves, %d in the bundle", n, want)
	}
	if allocs := testing.AllocsPerRun(5, func() { _ = m.open() }); allocs > 0 {
		t.Errorf("opening an open bundle allocates %v times", allocs)
	}
}

func TestABrokenBundleIsAnError(t *testing.T) {
	text := "# v\n\n# X root\n" + string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{0x30, 0}}))
	if err := (&Makers{}).read(text); err == nil || !strings.Contains(err.Error(), "certificate 1") {
		t.Error(err)
	}
}

func BenchmarkMakersOpen(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if err := (&Makers{}).open(); err != nil {
			b.Fatal(err)
		}
	}
}

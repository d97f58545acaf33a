package ca

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"syscall"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/fleet"
)

// bench is an authority without a database, and a request to it: what is
// measured here is the work of this room alone.
func bench(b *testing.B) (*Authority, *CSR) {
	b.Helper()
	key := func(c elliptic.Curve) *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			b.Fatal(err)
		}
		return k
	}
	f := Founding{
		RootKey: key(elliptic.P384()), IssuingKey: key(elliptic.P256()), OperatorCAKey: key(elliptic.P256()),
		AdminKey: key(elliptic.P256()).Public(), ServerKey: key(elliptic.P256()).Public(), Now: time.Now(),
	}
	h, err := Found(f)
	if err != nil {
		b.Fatal(err)
	}
	issuer, err := NewLocal(f.IssuingKey, []*x509.Certificate{h.Issuing, h.Root})
	if err != nil {
		b.Fatal(err)
	}
	a, err := New(Config{Issuer: issuer, Store: noStore{}, Profiles: []Profile{{Name: "default", TrustDomain: "fleet.example", Organization: "Example Fleet"}}})
	if err != nil {
		b.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key(elliptic.P256()))
	if err != nil {
		b.Fatal(err)
	}
	csr, err := ParseCSR(der)
	if err != nil {
		b.Fatal(err)
	}
	return a, csr
}

// noStore stands where a benchmark must not touch a disk.
type noStore struct{ Store }

// BenchmarkIssue is Issue without its store: draft, lint, sign, read back, verify; then each alone.
func BenchmarkIssue(b *testing.B) {
	a, csr := bench(b)
	m, d := a.moulds["default"], fleet.Device{ID: "device-000001"}
	draft := func() *Draft {
		f, err := m.draft(Order{CSR: csr, Device: d}, time.Now(), m.Lifetime)
		if err != nil {
			b.Fatal(err)
		}
		return f
	}
	f := draft()
	der, err := a.issuer.Issue(context.Background(), f)
	if err != nil {
		b.Fatal(err)
	}
	parsed, err := a.accept(der, f)
	if err != nil {
		b.Fatal(err)
	}
	lint := func(f *Draft) error { return m.lint.check(f) }
	for name, step := range map[string]func() error{
		"0-all": func() error {
			f := draft()
			if err := lint(f); err != nil {
				return err
			}
			der, err := a.issuer.Issue(context.Background(), f)
			if err != nil {
				return err
			}
			c, err := a.accept(der, f)
			if err == nil {
				fact(describe(c, d.ID, m.Name))
			}
			return err
		},
		"1-draft": func() error { draft(); return nil },
		"2-lint":  func() error { return lint(f) },
		"2-shape": func() error { _, err := m.lint.examine(f.TBS, m.signing.identifier); return err }, // of a shape not seen before
		"3-sign":  func() error { _, err := a.issuer.Issue(context.Background(), f); return err },
		"4-parse": func() error { _, err := x509.ParseCertificate(der); return err },
		"5-match": func() error { return f.matches(parsed) },
		"7-start": func() error {
			_, err := New(Config{Issuer: a.issuer, Store: a.store, Profiles: []Profile{m.Profile}})
			return err
		},
		"6-verify": func() error {
			return m.issuer.CheckSignature(parsed.SignatureAlgorithm, parsed.RawTBSCertificate, parsed.Signature)
		},
	} {
		b.Run(name, func(b *testing.B) {
			perCPU(b, step)
		})
	}
}

// perCPU runs step and reports the processor's time beside the clock's: on a
// machine that does other things too, it is the number to trust.
func perCPU(b *testing.B, step func() error) {
	b.ReportAllocs()
	start := cpu(b)
	for b.Loop() {
		if err := step(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(cpu(b)-start)/float64(b.N), "cpu-ns/op")
}

func cpu(b *testing.B) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// BenchmarkParseCSR is what a stranger can make us do with one request.
func BenchmarkParseCSR(b *testing.B) {
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	rsa2048, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		b.Fatal(err)
	}
	for name, key := range map[string]any{"P-256": p256, "RSA-2048": rsa2048} {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			perCPU(b, func() error { _, err := ParseCSR(der); return err })
		})
	}
}

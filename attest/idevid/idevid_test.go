package idevid

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/internal/fault"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// factory is a root, an authority below it, and their keys.
type factory struct {
	tb              testing.TB
	root, authority *x509.Certificate
	rootKey, key    *ecdsa.PrivateKey
}

func newFactory(tb testing.TB) *factory {
	tb.Helper()
	f := &factory{tb: tb}
	f.rootKey, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	f.key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	authority := func(c *x509.Certificate) {
		c.IsCA, c.KeyUsage, c.Subject = true, x509.KeyUsageCertSign, pkix.Name{CommonName: "Factory"}
	}
	f.root = f.certificate(nil, f.rootKey.Public(), f.rootKey, authority)
	f.authority = f.certificate(f.root, f.key.Public(), f.rootKey, func(c *x509.Certificate) { authority(c); c.Subject.CommonName = "Factory Line 1" })
	return f
}

func (f *factory) certificate(parent *x509.Certificate, public crypto.PublicKey, signer crypto.Signer, change func(*x509.Certificate)) *x509.Certificate {
	f.tb.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(7), NotBefore: noon.AddDate(-1, 0, 0), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, Subject: pkix.Name{SerialNumber: "SN-1", CommonName: "gateway"}}
	change(template)
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	if err != nil {
		f.tb.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		f.tb.Fatal(err)
	}
	return c
}

func (f *factory) device(change func(*x509.Certificate)) []*x509.Certificate {
	f.tb.Helper()
	return []*x509.Certificate{f.certificate(f.authority, f.key.Public(), f.key, change), f.authority}
}

func none(*x509.Certificate) {}

// module is a subject alternative name with a directoryName, and a hardwareModuleName after it.
func module(serial []byte) pkix.Extension {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.Tag(4).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) { b.AddASN1(cbasn1.SEQUENCE, func(*cryptobyte.Builder) {}) })
		b.AddASN1(cbasn1.Tag(0).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oidHardwareModuleName)
			b.AddASN1(cbasn1.Tag(0).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 2})
					b.AddASN1OctetString(serial)
				})
			})
		})
	})
	return pkix.Extension{Id: oidSAN, Critical: true, Value: b.BytesOrPanic()}
}

func TestWhatAFactoryCertificateClaims(t *testing.T) {
	f := newFactory(t)
	id := func(c *x509.Certificate) string { sum := sha256.Sum256(c.Raw); return hex.EncodeToString(sum[:]) }
	for name, c := range map[string]struct {
		anchor *x509.Certificate
		change func(*x509.Certificate)
		want   Claims
	}{
		"by serial number": {f.root, none, Claims{Name: "SN-1"}},
		"by common name": {f.root, func(c *x509.Certificate) { c.Subject.SerialNumber = "" },
			Claims{Name: "gateway"}},
		"below an intermediate anchor": {f.authority, none, Claims{Name: "SN-1"}},
		"a hardware module, critical": {f.root, func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{module([]byte("HW 12/7"))} },
			Claims{Name: "SN-1", Module: Module{"1.3.6.1.4.1.99999.2", "HW 12/7"}}},
		"a binary hardware serial": {f.root, func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{module([]byte{0, 0xff})} },
			Claims{Name: "SN-1", Module: Module{"1.3.6.1.4.1.99999.2", "00ff"}}},
		"one that is no serial": {f.root, func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{module(make([]byte, 65))} },
			Claims{Name: "SN-1"}},
		"any extended key usage": {f.root, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} },
			Claims{Name: "SN-1"}},
	} {
		chain := f.device(c.change)
		c.want.Anchor, c.want.Certificate = id(c.anchor), chain[0]
		got, err := Trust([]*x509.Certificate{newFactory(t).root, c.anchor}).Verify(chain, noon)
		if err != nil || got != c.want {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, c.want)
		}
	}
}

func TestWhoIsNotBelieved(t *testing.T) {
	f, namesake := newFactory(t), newFactory(t)
	trust := Trust([]*x509.Certificate{f.root})
	expired := f.certificate(f.root, f.key.Public(), f.rootKey, func(c *x509.Certificate) {
		c.IsCA, c.KeyUsage, c.Subject, c.NotAfter = true, x509.KeyUsageCertSign, pkix.Name{CommonName: "Factory Line 1"}, noon.AddDate(0, 0, -1)
	})
	for name, c := range map[string]struct {
		chain []*x509.Certificate
		kind  fault.Kind
		code  string
	}{
		"of a namesake":     {namesake.device(none), fault.Unauthenticated, "certificate_untrusted"},
		"without its chain": {f.device(none)[:1], fault.Unauthenticated, "certificate_untrusted"},
		"expired":           {f.device(func(c *x509.Certificate) { c.NotAfter = noon.AddDate(0, 0, -1) }), fault.Denied, "certificate_expired"},
		"not yet valid":     {f.device(func(c *x509.Certificate) { c.NotBefore = noon.AddDate(0, 0, 1) }), fault.Denied, "certificate_not_yet_valid"},
		"under an expired":  {[]*x509.Certificate{f.device(none)[0], expired}, fault.Denied, "certificate_expired"},
		"an authority":      {[]*x509.Certificate{f.authority, f.root}, fault.Denied, "certificate_is_ca"},
		"nameless":          {f.device(func(c *x509.Certificate) { c.Subject = pkix.Name{Organization: []string{"F"}} }), fault.Denied, "idevid_nameless"},
		"an unknown critical": {f.device(func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		}), fault.Unauthenticated, "certificate_untrusted"},
	} {
		got, err := trust.Verify(c.chain, noon)
		var refusal *fault.Error
		if !errors.As(err, &refusal) || refusal.Kind != c.kind || refusal.Code != c.code || got != (Claims{}) {
			t.Errorf("%s: %+v, %v; want %s", name, got, err, c.code)
		}
	}
}

func TestNamed(t *testing.T) {
	f, other := newFactory(t), newFactory(t)
	trust := Trust([]*x509.Certificate{f.authority})
	if !trust.Named(other.device(none)[0]) || trust.Named(f.authority) || Trust(nil).Named(f.authority) {
		t.Error("Named goes by the issuer's name alone")
	}
}

// FuzzHardwareModule feeds a subject alternative name to its reader: what it
// returns may stand in a record and on a terminal.
func FuzzHardwareModule(f *testing.F) {
	f.Add(module([]byte("HW-1")).Value)
	f.Add(module([]byte{0, 1, 2}).Value)
	f.Fuzz(func(t *testing.T, san []byte) {
		m := readModule(san)
		if (m.Type == "") && m.Serial != "" {
			t.Errorf("a serial of nothing: %+v", m)
		}
		for _, r := range m.Type + m.Serial {
			if r < 0x20 || r > 0x7e {
				t.Errorf("%q is not printable", m)
			}
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	f := newFactory(b)
	trust, chain := Trust([]*x509.Certificate{f.authority}), f.device(none)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := trust.Verify(chain, noon); err != nil {
			b.Fatal(err)
		}
	}
}

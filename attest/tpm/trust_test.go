package tpm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// shop is a maker's (or an attestation authority's) tree: root, intermediate, and what it issues.
type shop struct {
	t                  testing.TB
	root, intermediate *x509.Certificate
	rootKey, key       *ecdsa.PrivateKey
	serial             int64
}

// keys are made once: what the tests vary is certificates.
var keys = struct {
	sync.Once
	rsa  *rsa.PrivateKey
	p256 *ecdsa.PrivateKey
}{}

func rsaKey(t testing.TB) *rsa.PrivateKey {
	keys.Do(func() {
		keys.rsa, _ = rsa.GenerateKey(rand.Reader, 2048)
		keys.p256, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	})
	if keys.rsa == nil || keys.p256 == nil {
		t.Fatal("no keys")
	}
	return keys.rsa
}

func eccKey(t testing.TB) *ecdsa.PrivateKey {
	rsaKey(t)
	return keys.p256
}

func newShop(t testing.TB, name string) *shop {
	t.Helper()
	s := &shop{t: t}
	s.rootKey, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.root = s.authority(name+" Root", nil, s.rootKey.Public(), s.rootKey, nil)
	s.intermediate = s.authority(name+" CA", s.root, s.key.Public(), s.rootKey, nil)
	return s
}

func (s *shop) authority(cn string, parent *x509.Certificate, public crypto.PublicKey, signer crypto.Signer, change func(*x509.Certificate)) *x509.Certificate {
	s.t.Helper()
	s.serial++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(s.serial), Subject: pkix.Name{CommonName: cn, Organization: []string{"Shop"}},
		NotBefore: noon.AddDate(-1, 0, 0), NotAfter: noon.AddDate(20, 0, 0),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if change != nil {
		change(template)
	}
	if parent == nil {
		parent = template
	}
	return s.create(template, parent, public, signer)
}

func (s *shop) create(template, parent *x509.Certificate, public crypto.PublicKey, signer crypto.Signer) *x509.Certificate {
	s.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	if err != nil {
		s.t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// ek issues an endorsement key certificate as the profile wants it, with a change.
func (s *shop) ek(public crypto.PublicKey, change func(*x509.Certificate)) []byte {
	s.t.Helper()
	s.serial++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(s.serial), NotBefore: noon.AddDate(0, -1, 0), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		KeyUsage: x509.KeyUsageKeyEncipherment, BasicConstraintsValid: true,
		UnknownExtKeyUsage: []asn1.ObjectIdentifier{oidEKCertificate},
		ExtraExtensions:    []pkix.Extension{{Id: oidSAN, Critical: true, Value: tpmSAN(false)}},
	}
	if _, ok := public.(*ecdsa.PublicKey); ok {
		template.KeyUsage = x509.KeyUsageKeyAgreement
	}
	if change != nil {
		change(template)
	}
	return s.create(template, s.intermediate, public, s.key).Raw
}

// ak issues an attestation key certificate as step-ca does, with a change.
func (s *shop) ak(public crypto.PublicKey, change func(*x509.Certificate)) []byte {
	s.t.Helper()
	s.serial++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(s.serial), NotBefore: noon.AddDate(0, -1, 0), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
		UnknownExtKeyUsage: []asn1.ObjectIdentifier{oidAIKCertificate},
		ExtraExtensions:    []pkix.Extension{{Id: oidSAN, Critical: true, Value: akSAN("dev-1", "urn:ek:sha256:"+strings.Repeat("A", 42)+"8=")}},
	}
	if change != nil {
		change(template)
	}
	return s.create(template, s.intermediate, public, s.key).Raw
}

func attribute(id asn1.ObjectIdentifier, value string) []byte {
	der, _ := asn1.Marshal(struct {
		ID    asn1.ObjectIdentifier
		Value string `asn1:"utf8"`
	}{id, value})
	return der
}

func wrap(tag byte, parts ...[]byte) []byte {
	der, _ := asn1.Marshal(asn1.RawValue{Class: int(tag >> 6), Tag: int(tag & 0x1f), IsCompound: tag&0x20 != 0, Bytes: bytes.Join(parts, nil)})
	return der
}

// tpmName is the Name with a TPM's attributes, in one RDN or in three.
func tpmName(together bool) []byte {
	a := [][]byte{attribute(oidManufacturer, "id:49465800"), attribute(oidModel, "SLB9670\x00"), attribute(oidVersion, "id:0755")}
	if together {
		return wrap(0x30, wrap(0x31, a...))
	}
	return wrap(0x30, wrap(0x31, a[0]), wrap(0x31, a[1]), wrap(0x31, a[2]))
}

func tpmSAN(together bool) []byte { return wrap(0x30, wrap(0xa4, tpmName(together))) }

func akSAN(permanent, uri string) []byte {
	id, _ := asn1.Marshal(oidPermanentID)
	other := wrap(0xa0, id, wrap(0xa0, wrap(0x30, wrap(0x0c, []byte(permanent)))))
	return wrap(0x30, other, wrap(0x86, []byte(uri)), wrap(0xa4, tpmName(false)))
}

// anchors are what an operator trusts, by kind.
type anchors map[string][]*x509.Certificate

func (a anchors) Roots(_ context.Context, _, kind string) ([]*x509.Certificate, error) {
	return a[kind], nil
}

func trusting(kind string, roots ...*x509.Certificate) *Trust {
	return &Trust{Anchors: anchors{kind: roots}, Makers: &Makers{}}
}

// code is the reason code of a refusal.
func code(err error) string {
	if e, ok := errors.AsType[*fault.Error](err); ok {
		return e.Code
	}
	if err != nil {
		return "internal: " + err.Error()
	}
	return ""
}

func TestAnEndorsementKeyIsTrustedForWhatItsMakerSays(t *testing.T) {
	s := newShop(t, "Maker")
	for name, public := range map[string]crypto.PublicKey{"RSA": rsaKey(t).Public(), "ECC": eccKey(t).Public()} {
		leaf := s.ek(public, nil)
		ek, reasons, advisories, err := trusting(ekAnchors, s.root).EK(t.Context(), "factory", public, [][]byte{leaf, s.intermediate.Raw}, noon)
		if err != nil || len(reasons) != 0 || len(advisories) != 0 {
			t.Fatalf("%s: reasons %v, advisories %v, %v", name, reasons, advisories, err)
		}
		spki, _ := x509.MarshalPKIXPublicKey(public)
		want := attest.EndorsementKey{SHA256: digestOf(spki), Manufacturer: "id:49465800", Model: "SLB9670", Version: "id:0755",
			Anchor: digestOf(s.root.Raw), Trusted: true, Certificate: digestOf(leaf)}
		if ek != want {
			t.Errorf("%s: got %+v, want %+v", name, ek, want)
		}
	}
}

// An authority may be known from the request, from the operator's folder, or be the anchor itself.
func TestWhereAnIntermediateAuthorityComesFrom(t *testing.T) {
	s, public := newShop(t, "Maker"), rsaKey(t).Public()
	leaf := s.ek(public, nil)
	stored := trusting(ekAnchors, s.root)
	stored.Dossier.Store(&Dossier{intermediates: shelf{}})
	stored.Dossier.Load().intermediates.put(s.intermediate)
	for name, c := range map[string]struct {
		trust *Trust
		sent  [][]byte
		want  bool
	}{
		"sent":                     {trusting(ekAnchors, s.root), [][]byte{leaf, s.intermediate.Raw}, true},
		"sent, out of order":       {trusting(ekAnchors, s.root), [][]byte{leaf, s.root.Raw, s.intermediate.Raw}, true},
		"in the folder":            {stored, [][]byte{leaf}, true},
		"the anchor":               {trusting(ekAnchors, s.intermediate), [][]byte{leaf}, true},
		"nowhere":                  {trusting(ekAnchors, s.root), [][]byte{leaf}, false},
		"an unreadable one":        {trusting(ekAnchors, s.root), [][]byte{leaf, []byte("no certificate")}, false},
		"no anchor":                {trusting(ekAnchors), [][]byte{leaf, s.intermediate.Raw, s.root.Raw}, false},
		"an anchor for other keys": {trusting(akAnchors, s.root), [][]byte{leaf, s.intermediate.Raw}, false},
	} {
		ek, reasons, _, err := c.trust.EK(t.Context(), "factory", public, c.sent, noon)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if untrusted := slices.Equal(reasons, []attest.Reason{attest.EKUntrusted}); ek.Trusted != c.want || untrusted == c.want || (ek.Untrusted == "") != c.want {
			t.Errorf("%s: trusted %v, because %q, reasons %v", name, ek.Trusted, ek.Untrusted, reasons)
		}
	}
}

func TestWhatMakersDidToTheirCertificates(t *testing.T) {
	s, public := newShop(t, "Maker"), rsaKey(t).Public()
	trust := trusting(ekAnchors, s.root)
	header := []byte{0x10, 0x01, 0x00, 0x04, 0x00}
	for name, leaf := range map[string][]byte{
		"padded with zeros":     append(s.ek(public, nil), make([]byte, 300)...),
		"padded with ones":      append(s.ek(public, nil), bytes.Repeat([]byte{0xff}, 300)...),
		"under an NV header":    append(slices.Clone(header), s.ek(public, nil)...),
		"no key usage":          s.ek(public, func(c *x509.Certificate) { c.KeyUsage = 0 }),
		"no extended key usage": s.ek(public, func(c *x509.Certificate) { c.UnknownExtKeyUsage = nil }),
		"no basic constraints":  s.ek(public, func(c *x509.Certificate) { c.BasicConstraintsValid = false }),
		"one RDN for all names": s.ek(public, func(c *x509.Certificate) { c.ExtraExtensions[0].Value = tpmSAN(true) }),
		"names in the subject":  s.ek(public, func(c *x509.Certificate) { c.ExtraExtensions, c.RawSubject = nil, tpmName(false) }),
		"uncritical names":      s.ek(public, func(c *x509.Certificate) { c.ExtraExtensions[0].Critical = false }),
		"negative serial":       s.edited(s.ek(public, longSerial), func(tbs []byte) { negateSerial(tbs) }),
		"RSA-OAEP key":          s.edited(s.ek(public, nil), oaep),
	} {
		ek, reasons, _, err := trust.EK(t.Context(), "factory", public, [][]byte{leaf, s.intermediate.Raw}, noon)
		if err != nil || !ek.Trusted || len(reasons) > 0 || ek.Manufacturer != "id:49465800" || ek.Model != "SLB9670" {
			t.Errorf("%s: %+v, reasons %v, %v", name, ek, reasons, err)
		}
		spki, _ := x509.MarshalPKIXPublicKey(public)
		if ek.SHA256 != digestOf(spki) {
			t.Errorf("%s: the key's digest depends on its certificate", name)
		}
	}
}

func longSerial(c *x509.Certificate) {
	c.SerialNumber = new(big.Int).SetBytes(append([]byte{0x7a}, bytes.Repeat([]byte{0x55}, 18)...))
}

func negateSerial(tbs []byte) {
	i := bytes.Index(tbs, append([]byte{0x7a}, bytes.Repeat([]byte{0x55}, 18)...))
	tbs[i] = 0x8a
}

func oaep(tbs []byte) {
	rsaEncryption, _ := asn1.Marshal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1})
	i := bytes.Index(tbs, rsaEncryption)
	tbs[i+len(rsaEncryption)-1] = 7
}

// edited changes what an authority signed, and signs again.
func (s *shop) edited(der []byte, edit func(tbs []byte)) []byte {
	s.t.Helper()
	var c struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &c); err != nil {
		s.t.Fatal(err)
	}
	tbs := bytes.Clone(c.TBS.FullBytes)
	edit(tbs)
	digest := sha256.Sum256(tbs)
	signature, err := s.key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		s.t.Fatal(err)
	}
	c.TBS = asn1.RawValue{FullBytes: tbs}
	c.Signature = asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}
	der, err = asn1.Marshal(c)
	if err != nil {
		s.t.Fatal(err)
	}
	return der
}

func TestWhatIsNoEndorsementKeyCertificate(t *testing.T) {
	s, public := newShop(t, "Maker"), rsaKey(t).Public()
	trust := trusting(ekAnchors, s.root)
	good := s.ek(public, nil)
	for name, c := range map[string]struct {
		public crypto.PublicKey
		certs  [][]byte
		want   string
	}{
		"nothing":                  {public, [][]byte{{}}, "malformed_evidence"},
		"cut short":                {public, [][]byte{good[:len(good)-1]}, "malformed_evidence"},
		"another structure":        {public, [][]byte{{0x30, 0x03, 0x02, 0x01, 0x00}}, "malformed_evidence"},
		"too large":                {public, [][]byte{append([]byte{0x30, 0x83, 0x01, 0x00, 0x00}, make([]byte, 1<<16)...)}, "malformed_evidence"},
		"too many":                 {public, slices.Repeat([][]byte{good}, maxChain+1), "malformed_evidence"},
		"of another key":           {eccKey(t).Public(), [][]byte{good}, "ek_mismatch"},
		"wrong extended key usage": {public, [][]byte{s.ek(public, func(c *x509.Certificate) { c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{oidAIKCertificate} })}, "malformed_evidence"},
		"any extended key usage": {public, [][]byte{s.ek(public, func(c *x509.Certificate) {
			c.UnknownExtKeyUsage, c.ExtKeyUsage = nil, []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
		})}, "malformed_evidence"},
		"wrong key usage":       {public, [][]byte{s.ek(public, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature })}, "malformed_evidence"},
		"ECC key usage for RSA": {public, [][]byte{s.ek(public, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement })}, "malformed_evidence"},
		"an authority":          {public, [][]byte{s.ek(public, func(c *x509.Certificate) { c.IsCA = true })}, "malformed_evidence"},
		"names that end early":  {public, [][]byte{s.ek(public, func(c *x509.Certificate) { c.ExtraExtensions[0].Value = []byte{0x30, 0x02, 0xa4, 0x00, 0x00} })}, "malformed_evidence"},
	} {
		ek, _, _, err := trust.EK(t.Context(), "factory", c.public, append(c.certs, s.intermediate.Raw), noon)
		if code(err) != c.want || ek != (attest.EndorsementKey{}) {
			t.Errorf("%s: %v, want %s; %+v", name, err, c.want, ek)
		}
	}
	if _, _, _, err := trust.EK(t.Context(), "factory", "no key", nil, noon); code(err) != "algorithm_not_allowed" {
		t.Error(err)
	}
}

func TestAChainThatProvesNothing(t *testing.T) {
	s, other, public := newShop(t, "Maker"), newShop(t, "Maker"), rsaKey(t).Public() // the same names, other keys
	leaf := s.ek(public, nil)
	short := s.authority("Short Root", nil, s.rootKey.Public(), s.rootKey, func(c *x509.Certificate) { c.MaxPathLenZero = true })
	below := s.authority("Maker CA", short, s.key.Public(), s.rootKey, nil)
	noCA := s.authority("Maker CA", s.root, s.key.Public(), s.rootKey, func(c *x509.Certificate) { c.IsCA, c.KeyUsage = false, x509.KeyUsageDigitalSignature })
	expired := s.authority("Maker CA", s.root, s.key.Public(), s.rootKey, func(c *x509.Certificate) { c.NotAfter = noon.AddDate(0, 0, -1) })
	strange := s.ek(public, func(c *x509.Certificate) {
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}})
	})
	old := s.ek(public, func(c *x509.Certificate) { c.NotAfter = noon.AddDate(0, 0, -1) })
	bare := s.ek(public, func(c *x509.Certificate) { c.UnknownExtKeyUsage, c.ExtraExtensions = nil, nil })
	tampered := bytes.Clone(leaf)
	tampered[len(tampered)-1] ^= 1
	for name, c := range map[string]struct {
		root  *x509.Certificate
		certs [][]byte
		says  string
	}{
		"a root of the same name":  {other.root, [][]byte{leaf, s.intermediate.Raw}, "no authority that is trusted"},
		"an authority of its name": {s.root, [][]byte{leaf, other.intermediate.Raw}, "no authority that is trusted"},
		"path too long":            {short, [][]byte{leaf, below.Raw}, "may not issue"},
		"not an authority":         {s.root, [][]byte{leaf, noCA.Raw}, "Maker CA"},
		"expired authority":        {s.root, [][]byte{leaf, expired.Raw}, "has expired"},
		"expired leaf":             {s.root, [][]byte{old, s.intermediate.Raw}, "not now"},
		"unknown critical":         {s.root, [][]byte{strange, s.intermediate.Raw}, "critical extension"},
		"no usage and no names":    {s.root, [][]byte{bare, s.intermediate.Raw}, "does not say that it is one of an endorsement key"},
		"tampered":                 {s.root, [][]byte{tampered, s.intermediate.Raw}, "no authority that is trusted"},
	} {
		trust := trusting(ekAnchors, c.root)
		for range 2 { // the second time, too
			ek, reasons, _, err := trust.EK(t.Context(), "factory", public, c.certs, noon)
			if err != nil || ek.Trusted || ek.Anchor != "" || !slices.Equal(reasons, []attest.Reason{attest.EKUntrusted}) || !strings.Contains(ek.Untrusted, c.says) {
				t.Errorf("%s: %+v, %v, %v", name, ek, reasons, err)
			}
		}
		// Nor after the authority of a good leaf is known.
		warm := trusting(ekAnchors, s.root, c.root)
		if ek, _, _, err := warm.EK(t.Context(), "factory", public, [][]byte{leaf, s.intermediate.Raw}, noon); err != nil || !ek.Trusted {
			t.Fatal(name, ek, err)
		}
		if name == "expired leaf" || name == "unknown critical" || name == "no usage and no names" || name == "tampered" {
			if ek, _, _, _ := warm.EK(t.Context(), "factory", public, c.certs, noon); ek.Trusted {
				t.Errorf("%s: trusted through a known authority", name)
			}
		}
	}
}

// What was verified once is not verified again, and yet trust ends when its ground does.
func TestAKnownAuthorityCountsAsLongAsItsRoot(t *testing.T) {
	s, public := newShop(t, "Maker"), rsaKey(t).Public()
	roots := anchors{ekAnchors: {s.root}}
	trust := &Trust{Anchors: roots}
	leaf := s.ek(public, nil)
	trusted := func(at time.Time, certs ...[]byte) bool {
		t.Helper()
		ek, _, _, err := trust.EK(t.Context(), "factory", public, certs, at)
		if err != nil {
			t.Fatal(err)
		}
		return ek.Trusted
	}
	if trusted(noon, leaf) {
		t.Error("trusted before its authority was known")
	}
	if !trusted(noon, leaf, s.intermediate.Raw) || !trusted(noon, leaf) {
		t.Error("the authority is not remembered")
	}
	if trusted(noon.AddDate(30, 0, 0), leaf) {
		t.Error("trusted after the authority expired")
	}
	roots[ekAnchors] = nil
	if trusted(noon, leaf) || trusted(noon, leaf, s.intermediate.Raw) {
		t.Error("trusted after its anchor was removed")
	}
	roots[ekAnchors] = []*x509.Certificate{s.root}
	trust.Dossier.Store(&Dossier{})
	if trusted(noon, leaf) {
		t.Error("what was verified against other data still counts")
	}
}

// A limit on names above an authority binds its leaves, and needs the whole chain.
func TestNameConstraintsAreNotForgotten(t *testing.T) {
	s, public := newShop(t, "Maker"), rsaKey(t).Public()
	s.intermediate = s.authority("Narrow CA", s.root, s.key.Public(), s.rootKey, func(c *x509.Certificate) {
		c.PermittedDNSDomainsCritical, c.PermittedDNSDomains = true, []string{"example.com"}
	})
	trust := trusting(ekAnchors, s.root)
	good := s.ek(public, nil)
	bad := s.ek(public, func(c *x509.Certificate) { c.DNSNames, c.ExtraExtensions = []string{"example.org"}, nil })
	for range 2 {
		if ek, _, _, err := trust.EK(t.Context(), "factory", public, [][]byte{good, s.intermediate.Raw}, noon); err != nil || !ek.Trusted {
			t.Error(ek, err)
		}
		if ek, _, _, err := trust.EK(t.Context(), "factory", public, [][]byte{bad, s.intermediate.Raw}, noon); err != nil || ek.Trusted {
			t.Error(ek, err)
		}
	}
}

// A flood of authorities that lead nowhere costs a bounded number of looks.
func TestManyAuthoritiesOfOneName(t *testing.T) {
	s, public := newShop(t, "Maker"), rsaKey(t).Public()
	certs := [][]byte{s.ek(public, nil)}
	for len(certs) < maxChain {
		certs = append(certs, newShop(t, "Maker").intermediate.Raw)
	}
	trust := trusting(ekAnchors, s.root)
	if ek, _, _, err := trust.EK(t.Context(), "factory", public, certs, noon); err != nil || ek.Trusted {
		t.Error(ek, err)
	}
	trust.Dossier.Store(&Dossier{intermediates: shelf{}})
	trust.Dossier.Load().intermediates.put(s.intermediate)
	if ek, _, _, err := trust.EK(t.Context(), "factory", public, certs, noon); err != nil || !ek.Trusted {
		t.Error("what was sent crowds out what is known:", ek, err)
	}
}

func TestAnEndorsementKeyWithoutACertificate(t *testing.T) {
	public := rsaKey(t).Public()
	ek, reasons, advisories, err := trusting(ekAnchors).EK(t.Context(), "factory", public, nil, noon)
	digest, _ := spkiDigest(public)
	if err != nil || ek != (attest.EndorsementKey{SHA256: digest}) || len(reasons)+len(advisories) != 0 {
		t.Error(ek, reasons, advisories, err)
	}
}

func TestAnAuthorityThatWritesItsNameInAnotherString(t *testing.T) {
	s, public := newShop(t, "Maker"), rsaKey(t).Public()
	// The same name in a PrintableString and in a UTF8String is one name (RFC 5280, Section 7.1).
	s.root = s.authority("Maker Root", nil, s.rootKey.Public(), s.rootKey, func(c *x509.Certificate) {
		c.RawSubject = wrap(0x30, wrap(0x31, attribute(asn1.ObjectIdentifier{2, 5, 4, 10}, "Shop")), wrap(0x31, attribute(asn1.ObjectIdentifier{2, 5, 4, 3}, "Maker  Root")))
	})
	if bytes.Equal(s.root.RawSubject, s.intermediate.RawIssuer) {
		t.Fatal("the names do not differ")
	}
	ek, _, _, err := trusting(ekAnchors, s.root).EK(t.Context(), "factory", public, [][]byte{s.ek(public, nil), s.intermediate.Raw}, noon)
	if err != nil || !ek.Trusted {
		t.Error(ek, err)
	}
}

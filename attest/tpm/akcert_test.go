package tpm

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"testing"

	"bytes"
)

func TestAnAttestationKeyCertificateNamesItsDevice(t *testing.T) {
	s, public := newShop(t, "Privacy"), eccKey(t).Public()
	digest := bytes.Repeat([]byte{0xfb, 0xff}, 16) // has + and / in base64
	urn := "urn:ek:sha256:" + base64.StdEncoding.EncodeToString(digest)
	spki, _ := x509.MarshalPKIXPublicKey(public)
	for name, c := range map[string]struct {
		change func(*x509.Certificate)
		names  []string
		ek     string
	}{
		"as step-ca issues it": {func(c *x509.Certificate) { c.ExtraExtensions[0].Value = akSAN("dev-1", urn) }, []string{"dev-1"}, hex.EncodeToString(digest)},
		"a serialNumber, too": {func(c *x509.Certificate) {
			c.Subject = pkix.Name{SerialNumber: "SN-7"}
			c.ExtraExtensions[0].Value = akSAN("dev-1", "https://example.com")
		}, []string{"dev-1", "SN-7"}, ""},
		"only a serialNumber": {func(c *x509.Certificate) { c.Subject, c.ExtraExtensions = pkix.Name{SerialNumber: "SN-7"}, nil }, []string{"SN-7"}, ""},
		"nobody":              {func(c *x509.Certificate) { c.ExtraExtensions = nil }, nil, ""},
		"no key usage":        {func(c *x509.Certificate) { c.KeyUsage, c.ExtraExtensions = 0, nil }, nil, ""},
	} {
		ak, err := trusting(akAnchors, s.root).AK(t.Context(), "factory", [][]byte{s.ak(public, c.change), s.intermediate.Raw}, noon)
		if err != nil || !slices.Equal(ak.Names, c.names) || ak.EKSHA256 != c.ek || ak.Anchor != digestOf(s.root.Raw) || !bytes.Equal(ak.SPKI, spki) || !sameKey(ak.Public, public) {
			t.Errorf("%s: %+v, %v", name, ak, err)
		}
	}
}

func TestWhatIsNoAttestationKeyCertificate(t *testing.T) {
	s, other, public := newShop(t, "Privacy"), newShop(t, "Privacy"), eccKey(t).Public()
	good := s.ak(public, nil)
	trust := trusting(akAnchors, s.root)
	with := func(change func(*x509.Certificate)) [][]byte {
		return [][]byte{s.ak(public, change), s.intermediate.Raw}
	}
	for name, c := range map[string]struct {
		certs [][]byte
		want  string
	}{
		"none":                        {nil, "malformed_evidence"},
		"too many":                    {slices.Repeat([][]byte{good}, maxChain+1), "malformed_evidence"},
		"unreadable":                  {[][]byte{{1, 2, 3}}, "malformed_evidence"},
		"no extended key usage":       {with(func(c *x509.Certificate) { c.UnknownExtKeyUsage = nil }), "ak_untrusted"},
		"an empty extended key usage": {with(emptyEKU), "ak_untrusted"},
		"that of endorsement keys":    {with(func(c *x509.Certificate) { c.UnknownExtKeyUsage[0] = oidEKCertificate }), "ak_untrusted"},
		"client authentication only": {with(func(c *x509.Certificate) {
			c.UnknownExtKeyUsage, c.ExtKeyUsage = nil, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		}), "ak_untrusted"},
		"an authority":        {with(func(c *x509.Certificate) { c.IsCA = true }), "ak_untrusted"},
		"wrong key usage":     {with(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }), "ak_untrusted"},
		"expired":             {with(func(c *x509.Certificate) { c.NotAfter = noon.AddDate(0, 0, -1) }), "ak_untrusted"},
		"not yet valid":       {with(func(c *x509.Certificate) { c.NotBefore = noon.AddDate(0, 0, 1) }), "ak_untrusted"},
		"no chain":            {[][]byte{good}, "ak_untrusted"},
		"another's authority": {[][]byte{good, other.intermediate.Raw}, "ak_untrusted"},
		"a digest cut short":  {with(func(c *x509.Certificate) { c.ExtraExtensions[0].Value = akSAN("d", "urn:ek:sha256:AAAA") }), "malformed_evidence"},
		"a digest not base64": {with(func(c *x509.Certificate) { c.ExtraExtensions[0].Value = akSAN("d", "urn:ek:sha256:-_-_") }), "malformed_evidence"},
	} {
		if ak, err := trust.AK(t.Context(), "factory", c.certs, noon); code(err) != c.want || ak.Anchor != "" {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	if _, err := trusting(ekAnchors, s.root).AK(t.Context(), "factory", [][]byte{good, s.intermediate.Raw}, noon); code(err) != "ak_untrusted" {
		t.Error("an anchor for endorsement keys vouches for attestation keys:", err)
	}
}

func emptyEKU(c *x509.Certificate) {
	c.UnknownExtKeyUsage = nil
	c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: oidExtKeyUsage, Value: []byte{0x30, 0x00}})
}

package ca_test

import (
	"encoding/asn1"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/ca"
)

// TestProfileCheck spoils one field of a good profile at a time; the message has to name it.
func TestProfileCheck(t *testing.T) {
	good := profiles()[1].WithDefaults()
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for says, spoil := range map[string]func(*ca.Profile){
		"name: want":          func(p *ca.Profile) { p.Name = "Default" },
		"name: ":              func(p *ca.Profile) { p.Name = "-a" },
		"lifetime 1s":         func(p *ca.Profile) { p.Lifetime = time.Second },
		"max lifetime 1h":     func(p *ca.Profile) { p.MaxLifetime = time.Hour },
		"825 days":            func(p *ca.Profile) { p.MaxLifetime = 826 * 24 * time.Hour },
		"backdate":            func(p *ca.Profile) { p.Backdate = 2 * time.Hour },
		"noRevAvail":          func(p *ca.Profile) { p.NoRevAvail = 8 * 24 * time.Hour },
		"keys: \"P-521\"":     func(p *ca.Profile) { p.Keys = []ca.KeyType{"P-521"} },
		"keys: P-256":         func(p *ca.Profile) { p.Keys = []ca.KeyType{ca.P256, ca.P256} },
		"RSA bits 1024":       func(p *ca.Profile) { p.RSABits = 1024 },
		"RSA bits 9000":       func(p *ca.Profile) { p.RSABits = 9000 },
		"usages: clientAuth":  func(p *ca.Profile) { p.ExtKeyUsages = []asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 1}} },
		"usages: 1.3.6.1.5":   func(p *ca.Profile) { p.ExtKeyUsages = append(p.ExtKeyUsages, p.ExtKeyUsages...) },
		"trust domain \"A\"":  func(p *ca.Profile) { p.TrustDomain = "A" },
		"trust domain \"\"":   func(p *ca.Profile) { p.TrustDomain = "" },
		"path \"device\"":     func(p *ca.Profile) { p.Path = "device" },
		"path \"{id}/{id}\"":  func(p *ca.Profile) { p.Path = "{id}/{id}" },
		"path \"/{id}\"":      func(p *ca.Profile) { p.Path = "/{id}" },
		"path \"../{id}\"":    func(p *ca.Profile) { p.Path = "../{id}" },
		"path \"a b/{id}\"":   func(p *ca.Profile) { p.Path = "a b/{id}" },
		"path is longer":      func(p *ca.Profile) { p.Path = strings.Repeat("a", 600) + "/{id}" },
		"organization":        func(p *ca.Profile) { p.Organization = "a\nb" },
		"organization ":       func(p *ca.Profile) { p.Organization = strings.Repeat("a", 65) },
		"hardware module":     func(p *ca.Profile) { p.HardwareModule = asn1.ObjectIdentifier{9} },
		"CRL shards":          func(p *ca.Profile) { p.CRLShards = -1 },
		"CRL URL is needed":   func(p *ca.Profile) { p.CRLURL = "" },
		"{shard} in it":       func(p *ca.Profile) { p.CRLURL = "http://crl.example/" },
		"CRL URL \"https":     func(p *ca.Profile) { p.CRLURL = "https://crl.example/{shard}" },
		"OCSP URL \"ocsp":     func(p *ca.Profile) { p.OCSPURL = "ocsp.example" },
		"issuer URL \"http:/": func(p *ca.Profile) { p.IssuerURL = "http://a b/" },
	} {
		p := good
		spoil(&p)
		if err := p.Check(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("want %q, got %v", says, err)
		}
	}
	w := found(t)
	if _, err := ca.New(ca.Config{Issuer: w.issuer}); err == nil {
		t.Error("an authority of nothing")
	}
}

// TestParseOID reads object identifiers as people write them.
func TestParseOID(t *testing.T) {
	for text, want := range map[string]string{"clientAuth": "1.3.6.1.5.5.7.3.2", "serverAuth": "1.3.6.1.5.5.7.3.1", "1.3.6.1.4.1.311": "1.3.6.1.4.1.311", "2.999": "2.999"} {
		if got, err := ca.ParseExtKeyUsage(text); err != nil || got.String() != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "1", "1.", ".1", "1..2", "3.1", "1.40", "1.02", "1.-2", "1.2 ", "1.99999999999999999999", "emailProtection"} {
		if got, err := ca.ParseExtKeyUsage(text); err == nil {
			t.Errorf("%q: read as %v", text, got)
		}
	}
}

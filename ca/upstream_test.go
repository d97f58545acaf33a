package ca_test

import (
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"net/url"
	"testing"
	"time"

	casapi "github.com/smallstep/certificates/cas/apiv1"
	"github.com/smallstep/certificates/cas/softcas"

	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// upstream is an issuer over softcas, the first authority behind the socket.
func upstream(t testing.TB, h *house) ca.Issuer {
	t.Helper()
	service, err := softcas.New(t.Context(), casapi.Options{CertificateChain: chain(h), Signer: h.keys.IssuingKey})
	if err != nil {
		t.Fatal(err)
	}
	i, err := ca.NewUpstream(service, chain(h))
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// TestIssuers is the conformance suite: what every issuer behind the socket has to do alike.
func TestIssuers(t *testing.T) {
	for name, issuer := range map[string]func(*house) ca.Issuer{
		"local":   nil,
		"softcas": func(h *house) ca.Issuer { return upstream(t, h) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, issuer)
			d := w.device(t, fleet.Device{ID: "dev-1", Serial: "SN 1"})
			for kind, key := range keysOfEachKind(t) {
				for _, profile := range []string{"default", "full"} {
					c, err := w.issue(t, d, key, profile)
					if err != nil {
						t.Fatalf("%s, %s: %v", kind, profile, err)
					}
					opensslVerify(t, w, c)
					if got := c.Parsed.URIs; len(got) != 1 || hasNoRevAvail(c.Parsed) != (profile == "default") || c.Parsed.SerialNumber.BitLen() < 64 {
						t.Errorf("%s, %s: issued %v", kind, profile, got)
					}
				}
			}
		})
	}
}

// crooked is an authority that follows the template but for one thing.
type crooked struct {
	casapi.CertificateAuthorityService
	h    *house
	bend func(*x509.Certificate)
}

func (c crooked) CreateCertificate(r *casapi.CreateCertificateRequest) (*casapi.CreateCertificateResponse, error) {
	c.bend(r.Template)
	der, err := x509.CreateCertificate(rand.Reader, r.Template, c.h.Issuing, r.Template.PublicKey, c.h.keys.IssuingKey)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	return &casapi.CreateCertificateResponse{Certificate: leaf}, err
}

// TestCrookedUpstream shows that a certificate which is not the one granted does not leave the house.
func TestCrookedUpstream(t *testing.T) {
	set := func(oid string, e *pkix.Extension) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			var kept []pkix.Extension
			for _, x := range c.ExtraExtensions {
				if x.Id.String() != oid {
					kept = append(kept, x)
				} else if e != nil {
					kept = append(kept, *e)
				}
			}
			c.ExtraExtensions = kept
		}
	}
	uris := func(texts ...string) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			set("2.5.29.17", nil)(c)
			c.URIs = nil
			for _, text := range texts {
				u, _ := url.Parse(text)
				c.URIs = append(c.URIs, u)
			}
		}
	}
	foreign := newKey(t, elliptic.P256())
	for name, bend := range map[string]func(*x509.Certificate){
		"another subject": func(c *x509.Certificate) { c.RawSubject, c.Subject = nil, pkix.Name{SerialNumber: "dev-2"} },
		"another key":     func(c *x509.Certificate) { c.PublicKey = foreign.Public() },
		"a longer life":   func(c *x509.Certificate) { c.NotAfter = c.NotAfter.Add(time.Second) },
		"a shorter life":  func(c *x509.Certificate) { c.NotAfter = c.NotAfter.Add(-time.Hour) },
		"an early start":  func(c *x509.Certificate) { c.NotBefore = c.NotBefore.Add(-time.Hour) },
		"a late start":    func(c *x509.Certificate) { c.NotBefore = c.NotBefore.Add(time.Hour) },
		"a small serial":  func(c *x509.Certificate) { c.SerialNumber = big.NewInt(7) },
		"a huge serial":   func(c *x509.Certificate) { c.SerialNumber = new(big.Int).Lsh(big.NewInt(1), 159) },
		"another's name":  uris("spiffe://fleet.example/device/dev-2"),
		"a second name":   uris("spiffe://fleet.example/device/dev-1", "spiffe://fleet.example/device/dev-2"),
		"a DNS name": func(c *x509.Certificate) {
			uris("spiffe://fleet.example/device/dev-1")(c)
			c.DNSNames = []string{"ca.example"}
		},
		"an authority": func(c *x509.Certificate) {
			set("2.5.29.19", nil)(c)
			c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
		},
		"no constraints": func(c *x509.Certificate) { set("2.5.29.19", nil)(c); c.BasicConstraintsValid = false },
		"more key usage": set("2.5.29.15", &pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Critical: true, Value: []byte{3, 2, 5, 0xa0}}),
		"other purposes": set("2.5.29.37", &pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Value: []byte{0x30, 0x0a, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 3}}),
		"no noRevAvail":  set("2.5.29.56", nil),
		"a CRL as well":  func(c *x509.Certificate) { c.CRLDistributionPoints = []string{"http://crl.example/"} },
		"one extension more": func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: []byte{5, 0}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(h *house) ca.Issuer { return bent(t, crooked{h: h, bend: bend}) })
			d := w.device(t, fleet.Device{ID: "dev-1"})
			before := certificates(t, w)
			if c, err := w.issue(t, d, newKey(t, elliptic.P256()), "default"); err == nil {
				t.Errorf("issued %x", c.DER)
			} else {
				t.Log(err)
			}
			if certificates(t, w) != before {
				t.Error("it is in the store")
			}
		})
	}
}

func bent(t *testing.T, service crooked) ca.Issuer {
	t.Helper()
	i, err := ca.NewUpstream(service, chain(service.h))
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// silent is an authority that is out of order.
type silent struct {
	casapi.CertificateAuthorityService
	err error
}

func (s silent) CreateCertificate(*casapi.CreateCertificateRequest) (*casapi.CreateCertificateResponse, error) {
	return nil, s.err
}

// TestSilentUpstream shows that an authority out of order is a reason to try later.
func TestSilentUpstream(t *testing.T) {
	for _, cause := range []error{errors.New("connection refused"), nil} {
		w := newWorld(t, func(h *house) ca.Issuer {
			i, err := ca.NewUpstream(silent{err: cause}, chain(h))
			if err != nil {
				t.Fatal(err)
			}
			return i
		})
		d := w.device(t, fleet.Device{ID: "dev-1"})
		_, err := w.issue(t, d, newKey(t, elliptic.P256()), "default")
		refused(t, err, fault.Busy, "issuer_unavailable")
	}
}

// TestForgedUpstream has an authority sign with a key that is not its certificate's.
func TestForgedUpstream(t *testing.T) {
	w := newWorld(t, func(h *house) ca.Issuer {
		forger := newKey(t, elliptic.P256())
		service, err := softcas.New(t.Context(), casapi.Options{CertificateChain: []*x509.Certificate{namesake(t, h.Issuing, forger)}, Signer: forger})
		if err != nil {
			t.Fatal(err)
		}
		i, err := ca.NewUpstream(service, chain(h))
		if err != nil {
			t.Fatal(err)
		}
		return i
	})
	d := w.device(t, fleet.Device{ID: "dev-1"})
	_, err := w.authority.Issue(t.Context(), w.grant(t, d.ID, policy.Answer{}), ca.Order{CSR: request(t, newKey(t, elliptic.P256())), Device: d, Known: true, Profile: "default"})
	if !fault.Is(err, fault.Internal) {
		t.Errorf("got %v", err)
	}
}

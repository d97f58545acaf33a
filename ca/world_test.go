package ca_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"path/filepath"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
	"github.com/hallmark-pki/hallmark/store"
)

// always is an Engine with one answer.
type always policy.Answer

func (a always) Evaluate(context.Context, map[string]any) (policy.Answer, error) {
	return policy.Answer(a), nil
}

// world is a house with its database, profiles and authority.
type world struct {
	*house
	db        *store.DB
	fleet     *fleet.Register
	authority *ca.Authority
}

// profiles are those of the tests.
func profiles() []ca.Profile {
	return []ca.Profile{
		{Name: "default", TrustDomain: "fleet.example", MaxLifetime: 48 * time.Hour, CRLURL: "http://crl.example/{shard}.crl"},
		{
			Name: "full", TrustDomain: "fleet.example", Path: "line/device/{id}", Organization: "Beispiel & Söhne", CommonName: true,
			Lifetime: 90 * 24 * time.Hour, HardwareModule: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1},
			CRLURL: "http://crl.example/crl/{shard}.crl", OCSPURL: "http://ocsp.example/", IssuerURL: "http://crl.example/issuing.cer",
		},
		{Name: "narrow", TrustDomain: "fleet.example", Keys: []ca.KeyType{ca.P384, ca.RSA}, RSABits: 3072, IssuerURL: "http://crl.example/issuing.cer"},
	}
}

func newWorld(t testing.TB, issuer func(*house) ca.Issuer) *world {
	return worldOf(t, found(t), issuer)
}

// worldOf is the world of a house; issuer makes another issuer than its own, nil keeps that.
func worldOf(t testing.TB, h *house, issuer func(*house) ca.Issuer) *world {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "hallmark.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	w := &world{house: h, db: db, fleet: &fleet.Register{Store: db, Now: clock}}
	var i ca.Issuer = w.issuer
	if issuer != nil {
		i = issuer(w.house)
	}
	w.authority, err = ca.New(ca.Config{Issuer: i, Profiles: profiles(), Store: db, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func clock() time.Time { return noon }

// decide asks an engine that always gives this answer.
func (w *world) decide(t testing.TB, a policy.Action, r policy.Entity, answer policy.Answer) *policy.Decision {
	t.Helper()
	answer.Verdict = policy.Allow
	d, err := policy.Decide(t.Context(), &policy.Point{Engine: always(answer), Journal: w.db}, policy.Request{
		Subject: policy.Entity{Type: "device", ID: r.ID}, Action: a, Resource: r, At: noon, Source: "192.0.2.1", RequestID: "test",
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (w *world) grant(t testing.TB, device string, answer policy.Answer) policy.Grant {
	t.Helper()
	g, err := w.decide(t, policy.IssueCertificate, policy.Entity{Type: "device", ID: device}, answer).Grant()
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// device puts a device in the register.
func (w *world) device(t testing.TB, d fleet.Device) fleet.Device {
	t.Helper()
	permit, err := w.decide(t, policy.ImportDevices, policy.Entity{Type: "device", ID: ""}, policy.Answer{}).Permit()
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.db.ChangeDevices(t.Context(), fleet.Change{
		Import: []fleet.Line{{Number: 1, Device: d}}, At: noon,
		EventWith: func(fleet.Imported) (audit.Event, error) { return permit.Redeem(policy.ImportDevices, "", nil) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if d, err = w.fleet.Device(t.Context(), d.ID); err != nil {
		t.Fatal(err)
	}
	return d
}

// issue orders a certificate for a registered device.
func (w *world) issue(t testing.TB, d fleet.Device, key crypto.Signer, profile string) (*ca.Certificate, error) {
	t.Helper()
	return w.authority.Issue(t.Context(), w.grant(t, d.ID, policy.Answer{}), ca.Order{CSR: request(t, key), Device: d, Known: true, Profile: profile})
}

// request is a well-formed request over the key, with an empty subject.
func request(t testing.TB, key crypto.Signer) *ca.CSR {
	t.Helper()
	c, err := ca.ParseCSR(requestDER(t, key, &x509.CertificateRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func requestDER(t testing.TB, key crypto.Signer, template *x509.CertificateRequest) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func named(cn string) *x509.CertificateRequest {
	return &x509.CertificateRequest{Subject: pkix.Name{CommonName: cn}}
}

// refused fails the test unless err is of that kind and code.
func refused(t testing.TB, err error, kind fault.Kind, code string) {
	t.Helper()
	if err == nil || fault.Of(err).Kind != kind || fault.Of(err).Code != code {
		t.Errorf("got %v, want a refusal of kind %v with code %s", err, kind, code)
	}
}

package ca

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/policy"
)

const day = 24 * time.Hour

// How long the certificates of the house itself live. NIST SP 800-57 Part 1,
// Section 5.3.6, lets a signing key sign for one to three years; the issuing
// certificate outlives that by the longest leaf.
const (
	rootLife     = 20 * 365 * day
	issuingLife  = 3*365*day + 100*day
	operatorLife = 90 * day
	serverLife   = 90 * day
	foundingSlow = time.Hour // how far notBefore lies back, for slow clocks
)

// Founding says what a new house is called and which keys it gets.
type Founding struct {
	Name  string   // O of its names; default Hallmark
	Hosts []string // DNS names and IP addresses of the server, besides the loopback ones
	Admin string   // CN of the first operator; default admin

	// RootList returns where the root's revocation list is found, by its certificate; nil: the issuing certificate names none.
	RootList func(root *x509.Certificate) string

	// The private halves, for authorities, and the public ones of who is certified.
	RootKey, IssuingKey, OperatorCAKey crypto.Signer
	AdminKey, ServerKey                crypto.PublicKey

	Now time.Time
}

// Founded is a new house: certificates, and the events that go on its record.
type Founded struct {
	Root    *x509.Certificate // trust anchor of devices and of the server
	Issuing *x509.Certificate // under Root; signs devices and the server
	Server  *x509.Certificate // under Issuing

	// OperatorCA is self-signed and apart from Root: no path leads from a device's
	// certificate to it nor from an operator's to Root, so neither can pass as the
	// other, whatever a verifier forgets to look at.
	OperatorCA *x509.Certificate
	Admin      *x509.Certificate // under OperatorCA: the first operator

	Events []audit.Event
}

// Found makes the certificates of a new house.
func Found(f Founding) (*Founded, error) {
	if f.Name == "" {
		f.Name = "Hallmark"
	}
	if f.Admin == "" {
		f.Admin = "admin"
	}
	h := &Founded{}
	var err error
	if h.Root, err = selfSigned(f.RootKey, f.named("Root CA"), 1, f.Now); err != nil {
		return nil, err
	}
	if h.Issuing, err = f.issuing(h.Root); err != nil {
		return nil, err
	}
	if h.OperatorCA, err = selfSigned(f.OperatorCAKey, f.named("Operator CA"), 0, f.Now); err != nil {
		return nil, err
	}
	issuer, err := NewLocal(f.IssuingKey, []*x509.Certificate{h.Issuing, h.Root})
	if err != nil {
		return nil, err
	}
	if h.Server, err = issuer.Server(f.ServerKey, f.Hosts, f.Now); err != nil {
		return nil, err
	}
	operators, err := NewOperators(h.OperatorCA, f.OperatorCAKey)
	if err != nil {
		return nil, err
	}
	if h.Admin, err = operators.Certify(f.Admin, f.AdminKey, operatorLife, f.Now); err != nil {
		return nil, err
	}
	h.Events = []audit.Event{
		Made("issuer.create", "root", h.Root, f.Now), Made("issuer.create", "issuing", h.Issuing, f.Now),
		Made("issuer.create", "operator", h.OperatorCA, f.Now),
		Made("operator.create", f.Admin, h.Admin, f.Now), Made("server.renew", "server", h.Server, f.Now),
	}
	return h, nil
}

func (f *Founding) named(role string) pkix.Name {
	return pkix.Name{Organization: []string{f.Name}, CommonName: f.Name + " " + role}
}

// issuing certifies the issuing key under the root.
func (f *Founding) issuing(root *x509.Certificate) (*x509.Certificate, error) {
	t := authority(f.named("Issuing CA"), 0, f.Now, issuingLife)
	if f.RootList != nil {
		t.CRLDistributionPoints = []string{f.RootList(root)}
	}
	return certify(t, root, f.IssuingKey.Public(), f.RootKey)
}

// selfSigned makes a root.
func selfSigned(key crypto.Signer, name pkix.Name, pathLen int, now time.Time) (*x509.Certificate, error) {
	t := authority(name, pathLen, now, rootLife)
	t.Issuer, t.RawSubject = name, nil
	return certify(t, t, key.Public(), key)
}

// authority is the template of an authority's certificate (RFC 5280, Section 4.2.1.9).
func authority(name pkix.Name, pathLen int, now time.Time, life time.Duration) *x509.Certificate {
	return &x509.Certificate{
		Subject: name, NotBefore: now.Add(-foundingSlow), NotAfter: now.Add(life),
		BasicConstraintsValid: true, IsCA: true, MaxPathLen: pathLen, MaxPathLenZero: pathLen == 0,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

// certify completes a template and signs it.
func certify(t, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("encoding the key of %q: %w", t.Subject, err)
	}
	s, err := signingWith(key.Public())
	if err != nil {
		return nil, err
	}
	t.SerialNumber, t.SubjectKeyId, t.SignatureAlgorithm = newSerial(), keyID(spki), s.x509
	if t == parent {
		t.AuthorityKeyId = t.SubjectKeyId
	}
	if t.NotAfter.After(parent.NotAfter) {
		t.NotAfter = parent.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, pub, key)
	if err != nil {
		return nil, fmt.Errorf("signing the certificate of %q: %w", t.Subject, err)
	}
	return x509.ParseCertificate(der)
}

// Made is the event of a certificate that the house made for itself or for an
// operator: nobody asked, and it is on the record all the same.
func Made(action, name string, c *x509.Certificate, at time.Time) audit.Event {
	return audit.Event{
		ID: audit.NewID(at), At: at, Action: action, Outcome: audit.Done,
		Actor:  audit.Party{Type: "service", ID: "hallmark"},
		Object: audit.Party{Type: "certificate", ID: SerialText(c.SerialNumber)},
		Fact:   audit.AppendCanonical(nil, map[string]any(withName(fact(describe(c, "", "")), name))),
	}
}

// withName says whose certificate it is, where profiles say nothing.
func withName(f policy.Properties, name string) policy.Properties {
	certificate := f["certificate"].(map[string]any)
	delete(certificate, "profile")
	certificate["name"] = name
	return f
}

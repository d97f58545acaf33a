// Package idevid verifies the certificates that factories give their devices,
// the initial device identifiers of IEEE 802.1AR: a chain in, claims out. Which factories are
// believed is the caller's to say; nothing here asks a store or the network.
package idevid

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"github.com/hallmark-pki/hallmark/internal/fault"
)

// Claims is what a factory certificate says, after its chain was verified. Its zero value claims nothing.
type Claims struct {
	Name        string            // of the device: the subject's serialNumber (IEEE 802.1AR-2018, Section 8.6), or its CN where there is none
	Module      Module            // hardwareModuleName; zero if there is none
	Anchor      string            // SHA-256 of the anchor that the chain leads to, lower-case hex
	Certificate *x509.Certificate // that says so
}

// Module is a hardwareModuleName (RFC 4108, Section 5).
type Module struct {
	Type   string // hwType, in dots
	Serial string // hwSerialNum: as text if it is printable ASCII, else lower-case hex
}

// Anchors are the authorities of factories, ready to verify with. They do not
// change: make new ones when what is trusted does.
type Anchors struct {
	pool     *x509.CertPool
	ids      map[string]string // DER → SHA-256, hex
	subjects map[string]bool   // DER
}

// Trust makes anchors of certificates, which may be intermediate authorities.
func Trust(authorities []*x509.Certificate) *Anchors {
	a := &Anchors{pool: x509.NewCertPool(), ids: map[string]string{}, subjects: map[string]bool{}}
	for _, c := range authorities {
		id := sha256.Sum256(c.Raw)
		a.pool.AddCert(c)
		a.ids[string(c.Raw)], a.subjects[string(c.RawSubject)] = hex.EncodeToString(id[:]), true
	}
	return a
}

// Named reports whether a certificate says of itself that an anchor issued it. It proves nothing.
func (a *Anchors) Named(leaf *x509.Certificate) bool { return a.subjects[string(leaf.RawIssuer)] }

// Verify checks that a chain, leaf first, leads to an anchor, and returns what
// the leaf says. Errors are Denied with codes certificate_not_yet_valid, certificate_expired,
// certificate_is_ca and idevid_nameless, and Unauthenticated with certificate_untrusted. A factory may give 9999-12-31
// as the end. Extended key usage is not looked at: IEEE 802.1AR, Section 8.10 does not ask for any.
func (a *Anchors) Verify(chain []*x509.Certificate, at time.Time) (Claims, error) {
	leaf := chain[0]
	if err := checkLeaf(leaf, at); err != nil {
		return Claims{}, err
	}
	intermediates := x509.NewCertPool()
	for _, c := range chain[1:] {
		if a.ids[string(c.Raw)] == "" { // else the same signature would be checked twice
			intermediates.AddCert(c)
		}
	}
	verified, err := withoutHandled(leaf).Verify(x509.VerifyOptions{
		Roots: a.pool, Intermediates: intermediates, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return Claims{}, untrusted(err)
	}
	top := verified[0][len(verified[0])-1]
	c := Claims{Name: leaf.Subject.SerialNumber, Module: moduleIn(leaf), Anchor: a.ids[string(top.Raw)], Certificate: leaf}
	if c.Name == "" {
		c.Name = leaf.Subject.CommonName
	}
	if c.Name == "" {
		return Claims{}, fault.New(fault.Denied, "idevid_nameless", "the factory certificate names no device: its subject has neither serialNumber nor CN")
	}
	return c, nil
}

func checkLeaf(leaf *x509.Certificate, at time.Time) error {
	switch {
	case at.Before(leaf.NotBefore):
		return fault.New(fault.Denied, "certificate_not_yet_valid", "the factory certificate is not valid yet; check the clock of the device")
	case at.After(leaf.NotAfter):
		return fault.New(fault.Denied, "certificate_expired", "the factory certificate has expired; enrol with a token")
	case leaf.IsCA:
		return fault.New(fault.Denied, "certificate_is_ca", "the client certificate is a certificate authority's, not a device's")
	}
	return nil
}

func untrusted(err error) error {
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		return fault.Wrap(fault.Denied, "certificate_expired", "a certificate in the client's chain has expired or is not valid yet", err)
	}
	return fault.Wrap(fault.Unauthenticated, "certificate_untrusted",
		"the client certificate is neither one of ours nor does it chain to a trust anchor of this profile", err)
}

var oidSAN = asn1.ObjectIdentifier{2, 5, 29, 17}

// withoutHandled returns leaf as crypto/x509 verifies it. A critical subject
// alternative name that holds only kinds Go does not know (hardwareModuleName,
// directoryName) counts as unhandled there; trust does not rest on it.
func withoutHandled(leaf *x509.Certificate) *x509.Certificate {
	if len(leaf.UnhandledCriticalExtensions) == 0 {
		return leaf
	}
	c := *leaf
	c.UnhandledCriticalExtensions = slices.DeleteFunc(slices.Clone(leaf.UnhandledCriticalExtensions), oidSAN.Equal)
	return &c
}

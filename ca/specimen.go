package ca

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"math/big"
	"time"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/fleet"
)

// specimens are drafts of each shape that a profile's certificates can have:
// every kind of key, both forms of the subject, with and without policies and
// noRevAvail, before and after 2050. They are never signed.
func (m *mould) specimens() ([]*Draft, error) {
	devices := []fleet.Device{{ID: "specimen-1", Serial: "SN 1"}, {ID: "specimen_2"}}
	proven := []attest.Result{{}, {Key: attest.CertifiedKey{Resident: true, Fixed: true}, Verdict: attest.Affirming}}
	var all []*Draft
	for _, t := range m.Keys {
		csr, err := specimenKey(t, m.RSABits)
		if err != nil {
			return nil, err
		}
		for i, d := range devices {
			for _, year := range []int{2030, 2060} {
				for _, lifetime := range []time.Duration{m.Lifetime, m.MaxLifetime} {
					f, err := m.specimen(Order{CSR: csr, Device: d, Attested: proven[i]}, year, lifetime)
					if err != nil {
						return nil, err
					}
					all = append(all, f)
				}
			}
		}
	}
	return all, nil
}

// specimen is a draft of that year, whenever the issuer's own time is.
func (m *mould) specimen(o Order, year int, lifetime time.Duration) (*Draft, error) {
	names, err := m.Names(o.Device)
	if err != nil {
		return nil, err
	}
	from := time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)
	f := &Draft{
		Serial: newSerial(), CSR: o.CSR, profile: m, names: names, policies: m.policies(&o.Attested),
		NotBefore: from, NotAfter: from.Add(lifetime), shortLived: lifetime <= m.NoRevAvail,
	}
	f.TBS, err = f.encode()
	return f, err
}

// specimenKey is a request with nothing but a public key, to which no private
// one needs to exist: a sound RSA key would cost a second to find.
func specimenKey(t KeyType, bits int) (*CSR, error) {
	var pub crypto.PublicKey
	if t == RSA {
		n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
		pub = &rsa.PublicKey{N: n.Add(n, big.NewInt(1)), E: 65537}
	} else {
		key, err := generate(t, 0)
		if err != nil {
			return nil, fmt.Errorf("making a %s specimen: %w", t, err)
		}
		pub = key.Public()
	}
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("encoding a %s specimen: %w", t, err)
	}
	return &CSR{SPKI: spki, PublicKey: pub, KeyType: t}, nil
}

package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
)

// identity is one device of the load: its key, and its request made beforehand
// so that the load spends as little as it can while the clock runs.
type identity struct {
	id      string
	key     *ecdsa.PrivateKey
	spki    []byte
	body    []byte           // base64 of the PKCS#10 request
	factory *tls.Certificate // the maker's certificate, over a key of its own
	cert    []byte           // the last certificate received, DER
	reply   []byte           // the last answer, not yet looked at: base64 of a certs-only CMS
}

// newIdentities makes devices first+1 … first+n, with factory certificates if
// there is a maker.
func newIdentities(first, n int, maker *ca) ([]*identity, error) {
	out := make([]*identity, n)
	for i := range out {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		d := &identity{id: deviceID(first + i + 1), key: key}
		if d.spki, err = x509.MarshalPKIXPublicKey(&key.PublicKey); err != nil {
			return nil, err
		}
		if d.body, err = request(key, &x509.CertificateRequest{Subject: pkix.Name{SerialNumber: d.id}}); err != nil {
			return nil, err
		}
		if maker != nil {
			leaf := &x509.Certificate{Subject: pkix.Name{SerialNumber: d.id}, KeyUsage: x509.KeyUsageDigitalSignature}
			if d.factory, err = maker.issue(leaf); err != nil {
				return nil, err
			}
		}
		out[i] = d
	}
	return out, nil
}

func deviceID(n int) string { return fmt.Sprintf("bench-%06d", n) }

// request is a CSR as EST sends it (RFC 8951, Section 3.1: base64, whatever the headers say).
func request(key *ecdsa.PrivateKey, template *x509.CertificateRequest) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return nil, err
	}
	return base64.StdEncoding.AppendEncode(nil, der), nil
}

// forRenewal returns the same devices with requests that carry the subject of
// the certificate they hold (RFC 7030, Section 4.2.2).
func forRenewal(devices []*identity) ([]*identity, error) {
	out := make([]*identity, len(devices))
	for i, d := range devices {
		cert, err := x509.ParseCertificate(d.cert)
		if err != nil {
			return nil, err
		}
		renewal := *d
		renewal.reply = nil
		if renewal.body, err = request(d.key, &x509.CertificateRequest{RawSubject: cert.RawSubject}); err != nil {
			return nil, err
		}
		out[i] = &renewal
	}
	return out, nil
}

// credential is the device's certificate for the TLS handshake.
func (d *identity) credential() *tls.Certificate {
	return &tls.Certificate{Certificate: [][]byte{d.cert}, PrivateKey: d.key}
}

// settle looks at the answers after the clock has stopped: each has to hold
// one certificate, for the key that was sent.
func settle(devices []*identity) error {
	for _, d := range devices {
		cert, err := certificateIn(d.reply)
		if err != nil {
			return fmt.Errorf("the answer to %s: %w", d.id, err)
		}
		if !bytes.Equal(cert.RawSubjectPublicKeyInfo, d.spki) {
			return fmt.Errorf("the answer to %s holds a certificate for another key", d.id)
		}
		d.cert, d.reply = cert.Raw, nil
	}
	return nil
}

// certificateIn returns the one certificate of a base64 certs-only CMS.
func certificateIn(reply []byte) (*x509.Certificate, error) {
	der := make([]byte, base64.StdEncoding.DecodedLen(len(reply)))
	n, err := base64.StdEncoding.Decode(der, reply) // skips line ends
	if err != nil {
		return nil, err
	}
	var outer struct {
		Type    asn1.ObjectIdentifier
		Content struct {
			Version      int
			Digests      asn1.RawValue `asn1:"set"`
			Encap        asn1.RawValue
			Certificates asn1.RawValue `asn1:"tag:0"`
			Signers      asn1.RawValue `asn1:"set"`
		} `asn1:"explicit,tag:0"`
	}
	if rest, err := asn1.Unmarshal(der[:n], &outer); err != nil {
		return nil, err
	} else if len(rest) > 0 {
		return nil, errors.New("bytes after the CMS")
	}
	return x509.ParseCertificate(outer.Content.Certificates.Bytes)
}

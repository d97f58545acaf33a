package main

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"time"
)

// tbs is a TBSCertificate (RFC 5280, Section 4.1).
type tbs struct {
	Version    int `asn1:"explicit,tag:0"`
	Serial     *big.Int
	Algorithm  pkix.AlgorithmIdentifier
	Issuer     asn1.RawValue
	Validity   struct{ NotBefore, NotAfter time.Time }
	Subject    asn1.RawValue
	PublicKey  asn1.RawValue
	Extensions []pkix.Extension `asn1:"explicit,tag:3"`
}

var ecdsaWithSHA256 = pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}}

// signUnverified does what x509.CreateCertificate does, for this one shape of
// certificate, without verifying the signature afterwards.
func signUnverified(key crypto.Signer, issuer, template *x509.Certificate, csr *x509.CertificateRequest) ([]byte, error) {
	uri := template.URIs[0].String()
	t := tbs{Version: 2, Serial: template.SerialNumber, Algorithm: ecdsaWithSHA256,
		Issuer:  asn1.RawValue{FullBytes: issuer.RawSubject},
		Subject: asn1.RawValue{FullBytes: csr.RawSubject}, PublicKey: asn1.RawValue{FullBytes: csr.RawSubjectPublicKeyInfo},
		Extensions: []pkix.Extension{
			{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Critical: true, Value: []byte{3, 2, 7, 0x80}},
			{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Value: derTLV(0x30, oid("\x2b\x06\x01\x05\x05\x07\x03\x02"))},
			{Id: asn1.ObjectIdentifier{2, 5, 29, 35}, Value: derTLV(0x30, derTLV(0x80, issuer.SubjectKeyId))},
			{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: derTLV(0x30, derTLV(0x86, []byte(uri)))},
		}}
	t.Validity.NotBefore, t.Validity.NotAfter = template.NotBefore, template.NotAfter
	body, err := asn1.Marshal(t)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(body)
	signature, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	return derTLV(0x30, body, derTLV(0x30, oid("\x2a\x86\x48\xce\x3d\x04\x03\x02")),
		derTLV(3, []byte{0}, signature)), nil
}

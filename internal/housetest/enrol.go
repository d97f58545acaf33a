package housetest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"os"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/internal/estclient"
)

// Identity is a certificate with its key, as a device holds it.
type Identity struct {
	Certificate *x509.Certificate
	Key         crypto.Signer
}

// Serial is the certificate's serial number as the server writes it.
func (i *Identity) Serial() string { return hex.EncodeToString(i.Certificate.SerialNumber.Bytes()) }

// TLS is the identity as a client certificate.
func (i *Identity) TLS() *tls.Certificate {
	return &tls.Certificate{Certificate: [][]byte{i.Certificate.Raw}, PrivateKey: i.Key}
}

// EST returns an EST client of this server for a device with a token; both
// may be empty.
func (h *House) EST(device, token string) *estclient.Client {
	pem, err := os.ReadFile(h.CAFile())
	if err != nil {
		h.t.Error(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return &estclient.Client{Server: h.URL, Roots: roots, User: device, Password: token}
}

// Enrol makes a P-256 key and enrols it with the client, over a connection of
// its own.
func Enrol(client *estclient.Client) (*Identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return exchange(client, key, nil, (*estclient.Session).Enroll)
}

// Renew renews an identity with a new key.
func Renew(client *estclient.Client, old *Identity) (*Identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	renewing := *client
	renewing.User, renewing.Password, renewing.Certificate = "", "", old.TLS()
	return exchange(&renewing, key, nil, (*estclient.Session).Reenroll)
}

// exchange sends a CSR over the key, with the subject (DER, nil for none).
func exchange(client *estclient.Client, key crypto.Signer, subject []byte,
	operation func(*estclient.Session, context.Context, []byte) (*x509.Certificate, error)) (*Identity, error) {
	ctx := context.Background()
	session, err := client.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer session.Close()
	csr, err := (&estclient.Request{Key: key, Subject: subject}).DER()
	if err != nil {
		return nil, err
	}
	certificate, err := operation(session, ctx, csr)
	if err != nil {
		return nil, err
	}
	return &Identity{certificate, key}, nil
}

// Tried is one attempt to enrol: what was sent, and what came of it.
type Tried struct {
	Key      crypto.Signer
	Identity *Identity // nil if it was refused
	Err      error
}

// Attempt tries to enrol a new key.
func Attempt(t testing.TB, client *estclient.Client) *Tried {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return (&Tried{Key: key}).Again(t, client)
}

// Again tries the same key once more, over a new connection, as a device does
// that was told to come back.
func (a *Tried) Again(t testing.TB, client *estclient.Client) *Tried {
	t.Helper()
	identity, err := exchange(client, a.Key, nil, (*estclient.Session).Enroll)
	return &Tried{a.Key, identity, err}
}

// EnrolAs tries to enrol with a CSR whose subject claims the common name.
func EnrolAs(client *estclient.Client, commonName string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	subject, err := asn1.Marshal(pkix.Name{CommonName: commonName}.ToRDNSequence())
	if err != nil {
		return err
	}
	_, err = exchange(client, key, subject, (*estclient.Session).Enroll)
	return err
}

// EnrolWith tries to enrol with a client certificate.
func EnrolWith(client *estclient.Client, identity *Identity) error {
	with := *client
	with.Certificate = identity.TLS()
	_, err := Enrol(&with)
	return err
}

// RenewWith tries to renew with a client certificate, or without one if identity is nil.
func RenewWith(client *estclient.Client, identity *Identity) error {
	with := *client
	if identity != nil {
		with.Certificate = identity.TLS()
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	_, err = exchange(&with, key, nil, (*estclient.Session).Reenroll)
	return err
}

// RenewKey tries to renew an identity with a CSR whose subject claims the serial number.
func RenewKey(client *estclient.Client, old *Identity, serialNumber string) error {
	renewing := *client
	renewing.Certificate = old.TLS()
	subject, err := asn1.Marshal(pkix.Name{SerialNumber: serialNumber}.ToRDNSequence())
	if err != nil {
		return err
	}
	_, err = exchange(&renewing, old.Key, subject, (*estclient.Session).Reenroll)
	return err
}

// Stranger makes a certificate that nobody here has reason to trust, signed by itself.
func Stranger(t testing.TB, name string) *Identity {
	t.Helper()
	d := &Identity{Key: newKey(t)}
	d.Certificate = sign(t, &x509.Certificate{
		Subject: pkix.Name{SerialNumber: name}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		NotBefore:   time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}, nil, d)
	return d
}

// EnrolWithKey enrols a given key.
func EnrolWithKey(client *estclient.Client, key crypto.Signer) (*Identity, error) {
	return exchange(client, key, nil, (*estclient.Session).Enroll)
}

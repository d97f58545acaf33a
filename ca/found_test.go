package ca_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/ca"
)

// noon is the fixed time of these tests.
var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func newKey(t testing.TB, curve elliptic.Curve) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// house is a founded one with its keys.
type house struct {
	*ca.Founded
	keys   ca.Founding
	server crypto.Signer
	admin  crypto.Signer
	issuer *ca.Local
}

func found(t testing.TB) *house {
	t.Helper()
	h := &house{server: newKey(t, elliptic.P256()), admin: newKey(t, elliptic.P256())}
	h.keys = ca.Founding{
		RootKey: newKey(t, elliptic.P384()), IssuingKey: newKey(t, elliptic.P256()), OperatorCAKey: newKey(t, elliptic.P256()),
		AdminKey: h.admin.Public(), ServerKey: h.server.Public(), Hosts: []string{"ca.fleet.example", "192.0.2.7"}, Now: noon,
	}
	var err error
	if h.Founded, err = ca.Found(h.keys); err != nil {
		t.Fatal(err)
	}
	h.issuer, err = ca.NewLocal(h.keys.IssuingKey, chain(h))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestFound(t *testing.T) {
	h := found(t)
	if len(h.Events) != 5 {
		t.Fatalf("%d events", len(h.Events))
	}
	for _, e := range h.Events {
		if _, err := e.Leaf(); err != nil {
			t.Error(err)
		}
	}
}

func chain(h *house) []*x509.Certificate { return []*x509.Certificate{h.Issuing, h.Root} }

package ca_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/internal/fault"
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

func found(t testing.TB) *house { return foundWith(t, newKey(t, elliptic.P256())) }

// foundWith founds a house that issues with the key given.
func foundWith(t testing.TB, issuing crypto.Signer) *house {
	t.Helper()
	h := &house{server: newKey(t, elliptic.P256()), admin: newKey(t, elliptic.P256())}
	h.keys = ca.Founding{
		RootKey: newKey(t, elliptic.P384()), IssuingKey: issuing, OperatorCAKey: newKey(t, elliptic.P256()),
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

// TestFound founds a house and looks at each of its certificates.
func TestFound(t *testing.T) {
	h := found(t)
	for _, e := range h.Events {
		if _, err := e.Leaf(); err != nil {
			t.Error(err)
		}
	}
	if len(h.Events) != 5 {
		t.Errorf("%d events", len(h.Events))
	}
	dir := t.TempDir()
	for name, c := range map[string]*x509.Certificate{"root": h.Root, "issuing": h.Issuing, "server": h.Server, "operators": h.OperatorCA, "admin": h.Admin} {
		if err := os.WriteFile(filepath.Join(dir, name), ca.EncodePEM(c), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		arguments string
		good      bool
	}{
		{"-CAfile root -untrusted issuing -purpose sslserver -verify_hostname ca.fleet.example server", true},
		{"-CAfile root -untrusted issuing -purpose sslserver -verify_ip ::1 server", true},
		{"-CAfile root -untrusted issuing -purpose sslserver -verify_hostname other.example server", false},
		{"-CAfile root -untrusted issuing -purpose sslclient server", false},
		{"-CAfile operators -purpose sslclient admin", true},
		{"-CAfile operators -purpose sslserver admin", false},
		{"-CAfile root -untrusted issuing admin", false},
		{"-CAfile operators -untrusted issuing server", false},
	} {
		cmd := exec.Command("openssl", append([]string{"verify", "-x509_strict", "-attime", "1795435200"}, strings.Fields(c.arguments)...)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); (err == nil) != c.good {
			t.Errorf("openssl verify %s: %v\n%s", c.arguments, err, out)
		}
	}
	if !slices.ContainsFunc(h.Server.UnknownExtKeyUsage, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 28}.Equal) {
		t.Error("the server's certificate does not have id-kp-cmcRA")
	}
	if h.Root.MaxPathLen != 1 || !h.Issuing.MaxPathLenZero || !h.OperatorCA.MaxPathLenZero || h.Root.NotAfter.Before(noon.AddDate(19, 0, 0)) {
		t.Error("the authorities are not as long or as deep as they should be")
	}
}

// recognise is what a verifier does that trusts the operators' authority alone.
func recognise(authority, leaf *x509.Certificate, at time.Time) (string, error) {
	roots := x509.NewCertPool()
	roots.AddCert(authority)
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err == nil && leaf.IsCA {
		err = errors.New("an authority is nobody")
	}
	return leaf.Subject.CommonName, err
}

// TestOperators tells operators from everybody else.
func TestOperators(t *testing.T) {
	w := newWorld(t, nil)
	h := w.house
	operators, err := ca.NewOperators(h.OperatorCA, h.keys.OperatorCAKey)
	if err != nil {
		t.Fatal(err)
	}
	if name, err := recognise(h.OperatorCA, h.Admin, noon); err != nil || name != "admin" {
		t.Errorf("the first operator is %q, %v", name, err)
	}
	device, err := w.issue(t, w.device(t, fleet.Device{ID: "admin"}), newKey(t, elliptic.P256()), "full")
	if err != nil {
		t.Fatal(err)
	}
	thief := newKey(t, elliptic.P256())
	crooks, err := ca.NewOperators(namesake(t, h.OperatorCA, thief), thief)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := crooks.Certify("admin", thief.Public(), time.Hour, noon)
	if err != nil {
		t.Fatal(err)
	}
	for says, c := range map[string]struct {
		leaf *x509.Certificate
		at   time.Time
	}{
		"a device called admin": {device.Parsed, noon}, "a namesake's operator": {forged, noon}, "the server": {h.Server, noon},
		"the operators' authority": {h.OperatorCA, noon}, "the root": {h.Root, noon},
		"after the end": {h.Admin, h.Admin.NotAfter.Add(time.Second)}, "before the beginning": {h.Admin, h.Admin.NotBefore.Add(-time.Second)},
	} {
		name, err := recognise(h.OperatorCA, c.leaf, c.at)
		if err == nil {
			t.Errorf("%s was taken for the operator %q", says, name)
		}
	}
	for _, name := range []string{"", "a\nb", strings.Repeat("x", 65)} {
		_, err := operators.Certify(name, thief.Public(), time.Hour, noon)
		refused(t, err, fault.Malformed, "bad_name")
	}
	if _, err := ca.NewOperators(h.OperatorCA, thief); err == nil {
		t.Error("a foreign key was taken for the operators'")
	}
	if watcher, err := ca.NewOperators(h.OperatorCA, nil); err != nil {
		t.Error(err)
	} else if _, err := watcher.Certify("x", thief.Public(), time.Hour, noon); err == nil {
		t.Error("certified without a key")
	}
}

// TestServer renews the server's certificate when it is time, or when its names are not enough.
func TestServer(t *testing.T) {
	h := found(t)
	hosts := h.keys.Hosts
	for _, c := range []struct {
		hosts []string
		at    time.Time
		due   bool
	}{
		{hosts, noon, false}, {nil, noon, false}, {hosts, noon.AddDate(0, 0, 59), false}, {hosts, noon.AddDate(0, 0, 61), true}, {hosts, noon.AddDate(1, 0, 0), true},
		{[]string{"CA.fleet.example."}, noon, false}, {[]string{"new.example"}, noon, true}, {[]string{"192.0.2.8"}, noon, true}, {[]string{"a b"}, noon, true},
	} {
		if got := ca.ServerDue(h.Server, c.hosts, c.at); got != c.due {
			t.Errorf("%v at %s: due %v", c.hosts, c.at, got)
		}
	}
	renewed, err := h.issuer.Server(h.server.Public(), []string{"new.example", "2001:db8::1"}, noon.AddDate(0, 0, 61))
	if err != nil {
		t.Fatal(err)
	}
	if renewed.VerifyHostname("new.example") != nil || renewed.VerifyHostname("2001:db8::1") != nil || renewed.VerifyHostname("localhost") != nil ||
		renewed.Subject.CommonName != "new.example" || len(renewed.SubjectKeyId) != 20 {
		t.Errorf("renewed as %v, %v", renewed.DNSNames, renewed.IPAddresses)
	}
	for _, bad := range []string{"a b", "-a", "*.example", "a..b", "http://a", strings.Repeat("a", 64) + ".example"} {
		if _, err := h.issuer.Server(h.server.Public(), []string{bad}, noon); err == nil {
			t.Errorf("a certificate for %q", bad)
		}
	}
}

// TestPEM reads back what was written, and nothing else.
func TestPEM(t *testing.T) {
	h := found(t)
	read, err := ca.ParsePEM(ca.EncodePEM(h.Issuing, h.Root))
	if err != nil || len(read) != 2 || !read[0].Equal(h.Issuing) || !read[1].Equal(h.Root) {
		t.Errorf("read %d, %v", len(read), err)
	}
	for _, bad := range []string{"", "hello", string(ca.EncodePEM(h.Root)) + "x", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		if _, err := ca.ParsePEM([]byte(bad)); err == nil {
			t.Errorf("read %q", bad)
		}
	}
}

func chain(h *house) []*x509.Certificate { return []*x509.Certificate{h.Issuing, h.Root} }

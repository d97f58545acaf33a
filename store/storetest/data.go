package storetest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"math/big"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/policy"
)

// Now is the time in these tests.
var Now = time.Date(2026, 11, 23, 12, 0, 0, 123e6, time.UTC)

var counter atomic.Int64

// next returns a number that was not returned before.
func next() int64 { return counter.Add(1) }

// Event returns a complete event with a fresh id.
func Event(action, object string) audit.Event {
	return audit.Event{ID: audit.NewID(Now), At: Now, Action: action, Actor: audit.Party{Type: "user", ID: "admin"},
		Object: audit.Party{Type: "device", ID: object}, Outcome: audit.Granted}
}

// issuer is the authority under which the certificates of these tests are made.
var issuer = sync.OnceValues(func() (*x509.Certificate, *ecdsa.PrivateKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Hallmark Issuing CA 4f2a"},
		NotBefore: Now.Add(-time.Hour), NotAfter: Now.AddDate(5, 0, 0), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, SubjectKeyId: bytes.Repeat([]byte{7}, 20)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return root, key
})

// Key makes a device's key.
func Key(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Certificate makes a certificate such as devices get, over the key.
func Certificate(t testing.TB, device string, key *ecdsa.PrivateKey) *ca.Certificate {
	t.Helper()
	parent, signer := issuer()
	serial := make([]byte, 16)
	rand.Read(serial)
	serial[0] = serial[0]&0x7f | 0x40
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial),
		Subject:      pkix.Name{SerialNumber: device},
		NotBefore:    Now.Add(-time.Minute).Truncate(time.Second), NotAfter: Now.Add(24 * time.Hour).Truncate(time.Second),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, URIs: []*url.URL{{Scheme: "spiffe", Host: "devices.example.com", Path: "/device/" + device}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &ca.Certificate{Serial: hex.EncodeToString(serial), Device: device, Profile: "default",
		NotBefore: template.NotBefore, NotAfter: template.NotAfter, KeySHA256: sha256.Sum256(parsed.RawSubjectPublicKeyInfo), DER: der}
}

// spki returns the certificate's SubjectPublicKeyInfo.
func spki(t testing.TB, c *ca.Certificate) []byte {
	t.Helper()
	parsed, err := x509.ParseCertificate(c.DER)
	if err != nil {
		t.Fatal(err)
	}
	return parsed.RawSubjectPublicKeyInfo
}

// allow is a policy that says yes to everything.
type allow struct{}

func (allow) Evaluate(context.Context, map[string]any) (policy.Answer, error) {
	return policy.Answer{Verdict: policy.Allow, Policy: "sha256:5bb4dcfe2d64ad1a7a3f4a23c8b2f4f1c06a3bb1c8f0a1de2a1bc4b7a8e2f901"}, nil
}

// Issuance makes a whole enrolment of the device by a token: its certificate over the key,
// and the event with a decision as the walk writes it.
func Issuance(t testing.TB, device string, key *ecdsa.PrivateKey) ca.Issuance {
	t.Helper()
	c := Certificate(t, device, key)
	fingerprint, n := sha256.Sum256(c.DER), next()
	d, err := policy.Decide(t.Context(), &policy.Point{Engine: allow{}, Deadline: time.Minute}, policy.Request{
		Subject: policy.Entity{Type: "device", ID: device, Properties: policy.Properties{"auth": map[string]any{"method": "token", "token": audit.NewID(Now).String()}}},
		Action:  policy.IssueCertificate,
		Parameters: policy.Properties{"door": "est", "operation": "enroll", "renewal": false, "server_keygen": false, "profile": "default", "lifetime_s": 86400,
			"key": map[string]any{"algorithm": "ECDSA", "bits": 256, "sha256": hex.EncodeToString(c.KeySHA256[:])}},
		Resource: policy.Entity{Type: "device", ID: device, Properties: policy.Properties{"known": true, "state": "expected", "model": "m1", "serial": "SN-" + device, "batch": "2026-11"}},
		Context:  policy.Properties{"profile": map[string]any{"channel_binding": false}},
		At:       Now, Source: fmt.Sprintf("10.1.%d.%d", n/250%250, n%250), RequestID: audit.NewID(Now).String(),
	})
	if err != nil {
		t.Fatal(err)
	}
	grant, err := d.Grant()
	if err != nil {
		t.Fatal(err)
	}
	event, err := grant.Redeem(policy.Properties{"certificate": map[string]any{"serial": c.Serial, "sha256": hex.EncodeToString(fingerprint[:]), "profile": c.Profile,
		"not_before": c.NotBefore.Format(time.RFC3339), "not_after": c.NotAfter.Format(time.RFC3339), "key_sha256": hex.EncodeToString(c.KeySHA256[:])}})
	if err != nil {
		t.Fatal(err)
	}
	return ca.Issuance{Certificate: c, Event: event, Activate: true}
}

// Lines makes n lines of an import with fresh ids, and returns the ids.
func Lines(n int) ([]fleet.Line, []string) {
	lines, ids := make([]fleet.Line, n), make([]string, n)
	for i := range lines {
		number := next()
		ids[i] = fmt.Sprintf("device-%07d", number)
		lines[i] = fleet.Line{Number: i + 2, Device: fleet.Device{ID: ids[i], Model: "m1", Serial: "SN-" + ids[i], Batch: "2026-11"}}
	}
	return lines, ids
}

package enroll_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/enroll"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/internal/estclient"
	"github.com/hallmark-pki/hallmark/policy"
	"github.com/hallmark-pki/hallmark/policy/rego"
	"github.com/hallmark-pki/hallmark/store"
)

// BenchmarkWalk is one enrolment without its door: what policy, lint, record
// and store cost, on the embedded database with all of them on.
func BenchmarkWalk(b *testing.B) {
	const devices = 512
	e, token := newEnroller(b, devices)
	requests := make([]*ca.CSR, devices)
	for i := range requests {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			b.Fatal(err)
		}
		der, err := (&estclient.Request{Key: key}).DER()
		if err != nil {
			b.Fatal(err)
		}
		if requests[i], err = ca.ParseCSR(der); err != nil {
			b.Fatal(err)
		}
	}
	var next atomic.Int64
	b.SetParallelism(16)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := int(next.Add(1)) % devices
			_, err := e.Enroll(context.Background(), enroll.Request{
				Door: "est", Operation: enroll.Enroll, CSR: requests[i], Source: "192.0.2.1", ID: "bench",
				Proof: enroll.Proof{HasBasic: true, User: fmt.Sprintf("gw-%d", i), Password: token},
			})
			if err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// newEnroller builds a whole walk on a fresh embedded database with so many
// devices in its register, and makes a token for all of them.
func newEnroller(tb testing.TB, devices int) (*enroll.Enroller, string) {
	tb.Helper()
	ctx, dir := context.Background(), tb.TempDir()
	db, err := store.Open(ctx, store.Config{Path: filepath.Join(dir, "hallmark.db")})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { db.Close() })
	if err := os.CopyFS(filepath.Join(dir, "policy"), rego.Default()); err != nil {
		tb.Fatal(err)
	}
	rules, err := rego.Load(ctx, rego.Config{Dir: filepath.Join(dir, "policy")})
	if err != nil {
		tb.Fatal(err)
	}
	point := &policy.Point{Engine: rules, Journal: db}
	profile := ca.Profile{Name: "device", TrustDomain: "fleet.example"}.WithDefaults()
	authority, err := ca.New(ca.Config{Issuer: newIssuer(tb), Profiles: []ca.Profile{profile}, Store: db})
	if err != nil {
		tb.Fatal(err)
	}
	e := &enroll.Enroller{
		Profiles: map[string]*enroll.Profile{"device": {Profile: &profile}}, Default: "device",
		Register: &fleet.Register{Store: db, Now: time.Now}, Tokens: &enroll.Tokens{Store: db, Now: time.Now},
		Anchors: &enroll.Anchors{Store: db, Now: time.Now}, Waiting: &enroll.Waiting{Store: db, Now: time.Now},
		CA: authority, Policy: point, Now: time.Now,
	}
	lines := make([]fleet.Line, devices)
	for i := range lines {
		lines[i] = fleet.Line{Number: i + 1, Device: fleet.Device{ID: fmt.Sprintf("gw-%d", i), Model: "GW-1", Serial: fmt.Sprintf("SN-%d", i), Batch: "B1"}}
	}
	if _, err := e.Register.Import(ctx, permit(tb, point, policy.ImportDevices, ""), lines, nil, ""); err != nil {
		tb.Fatal(err)
	}
	id := audit.NewID(time.Now()).String()
	token, _, err := e.Tokens.Create(ctx, permit(tb, point, policy.CreateToken, id), enroll.Token{ID: id, Uses: enroll.MaxTokenUses, Expires: time.Now().Add(time.Hour)})
	if err != nil {
		tb.Fatal(err)
	}
	return e, token
}

// permit asks policy as the first operator.
func permit(tb testing.TB, p *policy.Point, a policy.Action, id string) policy.Permit {
	tb.Helper()
	d, err := policy.Decide(context.Background(), p, policy.Request{
		Subject: policy.Entity{Type: "user", ID: "admin", Properties: policy.Properties{"roles": []string{"admin"}}}, Action: a,
		Resource: policy.Entity{Type: "device", ID: id}, At: time.Now(),
	})
	if err != nil {
		tb.Fatal(err)
	}
	got, err := d.Permit()
	if err != nil {
		tb.Fatal(err)
	}
	return got
}

func newIssuer(tb testing.TB) ca.Issuer {
	tb.Helper()
	keys := make([]*ecdsa.PrivateKey, 4)
	for i := range keys {
		var err error
		if keys[i], err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			tb.Fatal(err)
		}
	}
	house, err := ca.Found(ca.Founding{RootKey: keys[0], IssuingKey: keys[1], OperatorCAKey: keys[2],
		AdminKey: keys[3].Public(), ServerKey: keys[3].Public(), Now: time.Now()})
	if err != nil {
		tb.Fatal(err)
	}
	issuer, err := ca.NewLocal(keys[1], []*x509.Certificate{house.Issuing, house.Root})
	if err != nil {
		tb.Fatal(err)
	}
	return issuer
}

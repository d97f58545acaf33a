package policy_test

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/policy"
)

func TestZeroValuesRefuse(t *testing.T) {
	var g policy.Grant
	if _, err := g.Redeem(nil); err == nil {
		t.Error("a zero Grant was redeemed")
	}
	if g.Device() != "" || g.Profile() != "" || g.Lifetime() != 0 || g.Admits() || !g.At().IsZero() {
		t.Error("a zero Grant grants something")
	}
	var p policy.Permit
	if p.Covers(policy.ListDevices, "") == nil || p.Covers("", "") == nil {
		t.Error("a zero Permit covers something")
	}
	if _, err := p.Redeem(policy.RetireDevice, "gw-1", nil); err == nil {
		t.Error("a zero Permit was redeemed")
	}
	if p.Actor() != "" || p.ID() != (audit.ID{}) || !p.At().IsZero() {
		t.Error("a zero Permit permits somebody")
	}
	var v policy.Verdict
	if v != policy.Deny || v.String() != "deny" || policy.Verdict(9).String() != "deny" || (policy.Answer{}).Verdict != policy.Deny {
		t.Error("a zero Verdict does not deny")
	}
	if policy.Action("").Known() {
		t.Error("no action is an action")
	}
}

func TestGrantWorksOnce(t *testing.T) {
	p, j := newPoint(t, `{"verdict": "allow", "profile": "short", "lifetime": "1h", "obligations": [{"type": "admit"}]}`)
	g, err := decide(t, p, policy.IssueCertificate).Grant()
	if err != nil {
		t.Fatal(err)
	}
	if g.Device() != "gw-1" || g.Profile() != "short" || g.Lifetime() != time.Hour || !g.Admits() || !g.At().Equal(at) {
		t.Errorf("got %s %s %s %v %s", g.Device(), g.Profile(), g.Lifetime(), g.Admits(), g.At())
	}
	if won := race(func() error { _, err := g.Redeem(policy.Properties{"serial": "1f"}); return err }); won != 1 {
		t.Errorf("one grant was redeemed %d times", won)
	}
	if len(j.events) != 0 {
		t.Error("a grant is recorded by whoever redeems it")
	}
}

func TestPermitWorksOnceForItsOwnActionAndObject(t *testing.T) {
	p, _ := newPoint(t, allow)
	permit, err := decide(t, p, policy.RetireDevice).Permit()
	if err != nil {
		t.Fatal(err)
	}
	if permit.Actor() != "ada" || !permit.At().Equal(at) {
		t.Errorf("got %s at %s", permit.Actor(), permit.At())
	}
	if _, err := permit.Redeem(policy.QuarantineDevice, "gw-1", nil); err == nil {
		t.Error("redeemed for another action")
	}
	if _, err := permit.Redeem(policy.RetireDevice, "gw-2", nil); err == nil {
		t.Error("redeemed for another object")
	}
	if err := permit.Covers(policy.RetireDevice, "gw-2"); err == nil || !strings.Contains(err.Error(), "gw-2") {
		t.Errorf("covers another object: %v", err)
	}
	if permit.Covers(policy.RetireDevice, "gw-1") != nil || permit.Covers(policy.RetireDevice, "") != nil {
		t.Error("does not cover its own")
	}
	if won := race(func() error { _, err := permit.Redeem(policy.RetireDevice, "gw-1", nil); return err }); won != 1 {
		t.Errorf("one permit was redeemed %d times", won)
	}
}

func TestGrantsAndPermitsAreNotExchangeable(t *testing.T) {
	p, _ := newPoint(t, allow)
	for _, a := range []policy.Action{policy.IssueCertificate, policy.RenewCertificate} {
		if _, err := decide(t, p, a).Permit(); err == nil {
			t.Errorf("%s made a permit", a)
		}
	}
	for _, a := range []policy.Action{policy.RetireDevice, policy.ListDevices, policy.ApproveRequest} {
		if _, err := decide(t, p, a).Grant(); err == nil {
			t.Errorf("%s made a grant", a)
		}
	}
}

func TestRedeemedEventTellsTheFact(t *testing.T) {
	p, _ := newPoint(t, allow)
	d := decide(t, p, policy.RetireDevice)
	permit, err := d.Permit()
	if err != nil {
		t.Fatal(err)
	}
	e, err := permit.Redeem(policy.RetireDevice, "gw-1", policy.Properties{"to": "retired", "n": 2})
	if err != nil || e.ID != d.ID() || permit.ID() != d.ID() || e.Outcome != audit.Granted || string(e.Fact) != `{"n":2,"to":"retired"}` {
		t.Errorf("got %+v, %v", e, err)
	}
	if leaf, err := e.Leaf(); err != nil || !strings.Contains(string(leaf), `"verdict":"allow"`) {
		t.Errorf("got %s, %v", leaf, err)
	}
}

// race calls f from many sides at once and counts how often it succeeds.
func race(f func() error) int32 {
	var won atomic.Int32
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			if f() == nil {
				won.Add(1)
			}
		})
	}
	all.Wait()
	return won.Load()
}

package est

import (
	"crypto/x509"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/enroll"
)

func limiterAt(at *time.Time, l Limits) *Limiter {
	limiter := NewLimiter(l)
	limiter.now = func() time.Time { return *at }
	return limiter
}

func caller(source, user string) *call {
	return &call{source: source, identity: identityOf(source, &enroll.Proof{HasBasic: true, User: user})}
}

func TestLimiterCountsRefusalsOnly(t *testing.T) {
	at := time.Unix(0, 0)
	l := limiterAt(&at, Limits{SourceRate: 1, SourceBurst: 5, IdentityRate: 1, IdentityBurst: 2})
	c := caller("192.0.2.1", "a")
	for range 10_000 { // a whole line behind one address
		if _, ok := l.allow(c); !ok {
			t.Fatal("throttled without a refusal")
		}
	}
	l.charge(c)
	l.charge(c)
	wait, ok := l.allow(c)
	if ok || wait <= 0 || wait > time.Second {
		t.Errorf("after its burst of refusals: allowed %v, wait %s", ok, wait)
	}
	if _, ok := l.allow(caller("192.0.2.1", "b")); !ok {
		t.Error("another identity at the same source is throttled too early")
	}
	if _, ok := l.allow(caller("192.0.2.2", "a")); !ok {
		t.Error("who is refused elsewhere locks a user name out here")
	}
	for range 3 {
		l.charge(caller("192.0.2.1", "b"))
	}
	if _, ok := l.allow(caller("192.0.2.1", "c")); ok {
		t.Error("the source is not throttled")
	}
	at = at.Add(time.Minute)
	if _, ok := l.allow(c); !ok {
		t.Error("still throttled after a minute")
	}
}

func TestLimiterIdentities(t *testing.T) {
	chain := []*x509.Certificate{{Raw: []byte("one")}}
	if a, b := identityOf("192.0.2.1", &enroll.Proof{Chain: chain}), identityOf("192.0.2.2", &enroll.Proof{Chain: chain}); a != b {
		t.Error("a certificate is another identity at another source")
	}
	if identityOf("192.0.2.1", &enroll.Proof{}) != "" {
		t.Error("nobody has an identity")
	}
	for address, same := range map[string]string{
		"2001:db8::1": "2001:db8::ffff:1", "2001:db8:0:0:1::": "2001:db8::2", "fe80::1%eth0": "fe80::2%eth1",
	} {
		if sourceKey(address) != sourceKey(same) {
			t.Errorf("%s and %s are in one network", address, same)
		}
	}
	if sourceKey("2001:db8::1") == sourceKey("2001:db8:0:1::1") || sourceKey("192.0.2.1") == sourceKey("192.0.2.2") {
		t.Error("different sources are taken for one")
	}
}

func TestLimiterForgets(t *testing.T) {
	at := time.Unix(0, 0)
	l := limiterAt(&at, Limits{SourceBurst: 1, TrackedCallers: 100})
	for i := range 1000 {
		l.charge(caller(fmt.Sprintf("10.0.%d.%d", i/256, i%256), "x"))
	}
	if len(l.callers) != 100 || l.recent.Len() != 100 {
		t.Errorf("remembers %d and %d", len(l.callers), l.recent.Len())
	}
	if _, ok := l.allow(caller("10.0.3.231", "y")); ok {
		t.Error("the latest was forgotten")
	}
}

func TestLimiterOff(t *testing.T) {
	l := NewLimiter(Limits{Off: true})
	c := caller("192.0.2.1", "a")
	for range 100_000 {
		l.charge(c)
	}
	if _, ok := l.allow(c); !ok {
		t.Error("throttled although limits are off")
	}
}

func TestLimiterConcurrent(t *testing.T) {
	l := NewLimiter(Limits{TrackedCallers: 10})
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 500 {
				c := caller(fmt.Sprintf("10.0.%d.%d", i, j%256), "x")
				l.allow(c)
				l.charge(c)
			}
		})
	}
	all.Wait()
}

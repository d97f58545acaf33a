package limit

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

func limiterAt(at *time.Time, c Config) *Limiter {
	l := New(c)
	l.now = func() time.Time { return *at }
	return l
}

// caller is a user name said at a source.
type caller struct{ source, identity string }

func called(source, user string) caller { return caller{source, User(source, user)} }

func (c caller) allowed(l *Limiter) (time.Duration, bool) { return l.Allow(c.source, c.identity) }

func (c caller) refused(l *Limiter) { l.Charge(c.source, c.identity) }

func TestLimiterCountsRefusalsOnly(t *testing.T) {
	at := time.Unix(0, 0)
	l := limiterAt(&at, Config{SourceRate: 1, SourceBurst: 5, IdentityRate: 1, IdentityBurst: 2})
	c := called("192.0.2.1", "a")
	for range 10_000 { // a whole line behind one address
		if _, ok := c.allowed(l); !ok {
			t.Fatal("throttled without a refusal")
		}
	}
	c.refused(l)
	c.refused(l)
	wait, ok := c.allowed(l)
	if ok || wait <= 0 || wait > time.Second {
		t.Errorf("after its burst of refusals: allowed %v, wait %s", ok, wait)
	}
	if _, ok := called("192.0.2.1", "b").allowed(l); !ok {
		t.Error("another identity at the same source is throttled too early")
	}
	if _, ok := called("192.0.2.2", "a").allowed(l); !ok {
		t.Error("who is refused elsewhere locks a user name out here")
	}
	for range 3 {
		called("192.0.2.1", "b").refused(l)
	}
	if _, ok := called("192.0.2.1", "c").allowed(l); ok {
		t.Error("the source is not throttled")
	}
	at = at.Add(time.Minute)
	if _, ok := c.allowed(l); !ok {
		t.Error("still throttled after a minute")
	}
}

func TestLimiterIdentities(t *testing.T) {
	if User("192.0.2.1", "a") == User("192.0.2.2", "a") {
		t.Error("who is refused elsewhere locks a user name out here")
	}
	if n := len(User("192.0.2.1", strings.Repeat("a", 1<<20))); n > 100 {
		t.Errorf("a long name takes %d bytes of memory", n)
	}
	if Certificate([]byte("one")) == Certificate([]byte("two")) {
		t.Error("two certificates are taken for one")
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
	l := limiterAt(&at, Config{SourceBurst: 1, Tracked: 100})
	for i := range 1000 {
		called(fmt.Sprintf("10.0.%d.%d", i/256, i%256), "x").refused(l)
	}
	if len(l.callers) != 100 || l.recent.Len() != 100 {
		t.Errorf("remembers %d and %d", len(l.callers), l.recent.Len())
	}
	if _, ok := called("10.0.3.231", "y").allowed(l); ok {
		t.Error("the latest was forgotten")
	}
}

func TestLimiterOfOnePart(t *testing.T) {
	at := time.Unix(0, 0)
	l := limiterAt(&at, Config{SourceBurst: 1, IdentityBurst: 1})
	l.Charge("192.0.2.1", "")
	l.Charge("", Certificate([]byte("one")))
	for _, c := range []struct {
		source, identity string
		want             bool
	}{
		{"192.0.2.1", "", false},
		{"192.0.2.1", Certificate([]byte("two")), false},
		{"", Certificate([]byte("one")), false},
		{"192.0.2.2", Certificate([]byte("one")), false},
		{"", Certificate([]byte("two")), true},
		{"", "", true},
	} {
		if _, ok := l.Allow(c.source, c.identity); ok != c.want {
			t.Errorf("%q, %x: allowed %v", c.source, c.identity, ok)
		}
	}
}

func TestNoLimiter(t *testing.T) {
	var l *Limiter
	c := called("192.0.2.1", "a")
	for range 100_000 {
		c.refused(l)
	}
	if _, ok := c.allowed(l); !ok {
		t.Error("throttled although limits are off")
	}
}

func TestLimiterConcurrent(t *testing.T) {
	l := New(Config{Tracked: 10})
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 500 {
				c := called(fmt.Sprintf("10.0.%d.%d", i, j%256), "x")
				c.allowed(l)
				c.refused(l)
			}
		})
	}
	all.Wait()
}

package est

import (
	"container/list"
	"crypto/sha256"
	"net/netip"
	"sync"
	"time"

	"github.com/hallmark-pki/hallmark/enroll"
	"golang.org/x/time/rate"
)

// Limits bounds how often one source or one identity may be refused. What is
// granted is never counted: a whole factory line enrols from one address.
type Limits struct {
	Off            bool    // no limits, for load tests
	SourceRate     float64 // refusals per second of one source (an IPv4 address or an IPv6 /64); 0 means 10
	SourceBurst    int     // refusals of one source at once; 0 means 1000
	IdentityRate   float64 // the same of one client certificate, or one user name from one source; 0 means 1
	IdentityBurst  int     // 0 means 200
	TrackedCallers int     // how many sources and identities to remember; the longest silent is forgotten first; 0 means 65536
}

// Limiter keeps count. The nil Limiter allows everything.
type Limiter struct {
	limits Limits
	now    func() time.Time

	mu      sync.Mutex
	callers map[string]*list.Element // of *bucket
	recent  *list.List               // of *bucket, the last refused at the front
}

type bucket struct {
	key    string
	tokens *rate.Limiter
}

// NewLimiter returns a Limiter by the limits, or nil if they are off.
func NewLimiter(l Limits) *Limiter {
	if l.Off {
		return nil
	}
	if l.SourceRate == 0 {
		l.SourceRate = 10
	}
	if l.SourceBurst == 0 {
		l.SourceBurst = 1000
	}
	if l.IdentityRate == 0 {
		l.IdentityRate = 1
	}
	if l.IdentityBurst == 0 {
		l.IdentityBurst = 200
	}
	if l.TrackedCallers == 0 {
		l.TrackedCallers = 1 << 16
	}
	return &Limiter{limits: l, now: time.Now, callers: make(map[string]*list.Element), recent: list.New()}
}

// allow reports whether the caller may try, and if not, how long to wait.
func (l *Limiter) allow(c *call) (wait time.Duration, ok bool) {
	if l == nil {
		return 0, true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	for _, key := range []string{sourceKey(c.source), c.identity} {
		known := l.callers[key]
		if known == nil {
			continue
		}
		tokens := known.Value.(*bucket).tokens
		if has := tokens.TokensAt(now); has < 1 {
			return time.Duration((1 - has) / float64(tokens.Limit()) * float64(time.Second)), false
		}
	}
	return 0, true
}

// charge counts one refusal against the caller.
func (l *Limiter) charge(c *call) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	l.bucket(sourceKey(c.source), l.limits.SourceRate, l.limits.SourceBurst).AllowN(now, 1)
	if c.identity != "" {
		l.bucket(c.identity, l.limits.IdentityRate, l.limits.IdentityBurst).AllowN(now, 1)
	}
}

// bucket finds or makes the caller's bucket and marks it as the latest.
func (l *Limiter) bucket(key string, perSecond float64, burst int) *rate.Limiter {
	if known := l.callers[key]; known != nil {
		l.recent.MoveToFront(known)
		return known.Value.(*bucket).tokens
	}
	for l.recent.Len() >= l.limits.TrackedCallers {
		oldest := l.recent.Back()
		delete(l.callers, oldest.Value.(*bucket).key)
		l.recent.Remove(oldest)
	}
	b := &bucket{key: key, tokens: rate.NewLimiter(rate.Limit(perSecond), burst)}
	l.callers[key] = l.recent.PushFront(b)
	return b.tokens
}

// sourceKey is the address, or the /64 that an IPv6 caller has to itself.
func sourceKey(source string) string {
	address, err := netip.ParseAddr(source)
	if err != nil || address.Unmap().Is4() {
		return "source " + source
	}
	network, _ := address.WithZone("").Prefix(64) // 64 fits any IPv6 address
	return "source " + network.String()
}

// identityOf is whom refusals are counted against besides the source. Only the
// holder of a certificate's key can use it up; a user name anybody can say, so
// it counts together with where it was said.
func identityOf(source string, p *enroll.Proof) string {
	if len(p.Chain) > 0 {
		sum := sha256.Sum256(p.Chain[0].Raw)
		return "certificate " + string(sum[:])
	}
	if p.User != "" {
		return "user " + sourceKey(source) + " " + p.User
	}
	return ""
}

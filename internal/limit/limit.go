// Package limit bounds how often one source or one identity may be refused at
// the doors. What is granted is never counted: a whole factory line works
// behind one address.
package limit

import (
	"cmp"
	"container/list"
	"crypto/sha256"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Config says how many refusals are too many. A field that is 0 has its default.
//
// The source's numbers are large because even well-behaved clients are refused
// now and then: libest asks once without credentials before each enrolment, so a
// steady line behind one address makes a 401 for every certificate.
type Config struct {
	SourceRate    float64 // refusals per second of one source (an IPv4 address or an IPv6 /64). Default 50
	SourceBurst   int     // refusals of one source at once. Default 2000
	IdentityRate  float64 // refusals per second of one identity. Default 2
	IdentityBurst int     // refusals of one identity at once. Default 200
	Tracked       int     // how many sources and identities to remember; the longest silent is forgotten first. Default 65536
}

// Limiter keeps count, for all doors together. The nil Limiter allows everything.
type Limiter struct {
	config Config
	now    func() time.Time

	mu      sync.Mutex
	callers map[string]*list.Element // of *bucket
	recent  *list.List               // of *bucket, the last refused at the front
}

type bucket struct {
	key    string
	tokens *rate.Limiter
}

// New returns a Limiter that has counted nothing yet.
func New(c Config) *Limiter {
	c.SourceRate, c.SourceBurst = cmp.Or(c.SourceRate, 50), cmp.Or(c.SourceBurst, 2000)
	c.IdentityRate, c.IdentityBurst = cmp.Or(c.IdentityRate, 2), cmp.Or(c.IdentityBurst, 200)
	c.Tracked = cmp.Or(c.Tracked, 1<<16)
	return &Limiter{config: c, now: time.Now, callers: make(map[string]*list.Element), recent: list.New()}
}

// Allow reports whether the caller may try, and if not, how long to wait. The
// source is an IP address, the identity comes from Certificate, Session or User; what is
// empty is not looked at.
func (l *Limiter) Allow(source, identity string) (wait time.Duration, ok bool) {
	if l == nil {
		return 0, true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	for _, key := range []string{sourceKey(source), identity} {
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

// Charge counts one refusal against the caller, who is named as in Allow.
func (l *Limiter) Charge(source, identity string) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if source != "" {
		l.bucket(sourceKey(source), l.config.SourceRate, l.config.SourceBurst).AllowN(now, 1)
	}
	if identity != "" {
		l.bucket(identity, l.config.IdentityRate, l.config.IdentityBurst).AllowN(now, 1)
	}
}

// bucket finds or makes the caller's bucket and marks it as the latest.
func (l *Limiter) bucket(key string, perSecond float64, burst int) *rate.Limiter {
	if known := l.callers[key]; known != nil {
		l.recent.MoveToFront(known)
		return known.Value.(*bucket).tokens
	}
	for l.recent.Len() >= l.config.Tracked {
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

// Certificate is the identity of who has shown to hold a certificate's key, by
// the certificate in DER. Nobody else can use it up, so it counts from any source.
func Certificate(der []byte) string {
	sum := sha256.Sum256(der)
	return "certificate " + string(sum[:])
}

// Session is the identity of who bears a session's token. Nobody else can use it
// up, so it counts from any source.
func Session(token string) string {
	sum := sha256.Sum256([]byte(token))
	return "session " + string(sum[:])
}

// User is the identity behind a user name, of any length. Anybody can say a
// name, so it counts together with the source where it was said.
func User(source, name string) string {
	sum := sha256.Sum256([]byte(sourceKey(source) + " " + name))
	return "user " + string(sum[:])
}

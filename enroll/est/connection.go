package est

import (
	"context"
	"net"
	"net/http"
	"sync"
)

// connection is what is remembered of one TLS connection: the challenge it was
// given last, for clients that keep no cookies.
type connection struct {
	mu     sync.Mutex
	sealed string
}

type connectionKey struct{}

// ConnContext lets the door remember a connection's challenge: it is for
// http.Server.ConnContext. Without it only the cookie counts.
func (*Door) ConnContext(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, new(connection))
}

// remember keeps a challenge for the connection that ctx is of.
func remember(ctx context.Context, sealed string) {
	if c, ok := ctx.Value(connectionKey{}).(*connection); ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.sealed = sealed
	}
}

// challengeOf returns the challenge that a request comes back to: the cookie's,
// or else the connection's last one. Empty is none.
func challengeOf(r *http.Request) string {
	if cookie, err := r.Cookie(nonceCookie); err == nil {
		return cookie.Value
	}
	if c, ok := r.Context().Value(connectionKey{}).(*connection); ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.sealed
	}
	return ""
}

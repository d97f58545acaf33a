package console

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"net/http"
	"strings"
	"time"

	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/operators"
	"github.com/hallmark-pki/hallmark/policy"
)

// The cookies. Browsers take the prefix as a promise that this host alone has
// set them, over TLS (RFC 6265bis, Section 4.1.3.2).
const (
	loginCookieName   = "__Host-hallmark-login"
	sessionCookieName = "__Host-hallmark-session"
)

// loginCookie ties a sign-in to the browser that has begun it. A negative age forgets it.
func loginCookie(value string, seconds int) *http.Cookie {
	return hostCookie(loginCookieName, value, seconds)
}

// sessionCookie is a browser's session.
func sessionCookie(token string, seconds int) *http.Cookie {
	return hostCookie(sessionCookieName, token, seconds)
}

// hostCookie is a cookie that no script reads. It has to be Lax and cannot be
// Strict: the provider's page sends the browser here, and a page of this server that
// is reached by a link from elsewhere would not know its own user. What changes
// anything is not let in by Lax alone (see sameSite).
func hostCookie(name, value string, seconds int) *http.Cookie {
	return &http.Cookie{Name: name, Value: value, Path: "/", MaxAge: seconds, HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode}
}

// cookie returns the value of the request's cookie of that name, or "".
func cookie(r *http.Request, name string) string {
	found, err := r.Cookie(name)
	if err != nil {
		return ""
	}
	return found.Value
}

// sessionToken returns the token of the session that a request bears, in the
// Authorization header (RFC 6750, Section 2.1) or in the cookie; empty if it bears none.
func sessionToken(r *http.Request) (token string, bearer bool) {
	scheme, rest, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(rest), true
	}
	return cookie(r, sessionCookieName), false
}

// byCredential names who calls: by the session that the request bears, or by
// the certificate of its connection. Who brings both has to be the same
// operator by either, and acts by the certificate. All that is brought has to be good.
func (c *Console) byCredential(call *call) (operators.Caller, error) {
	token, bearer := sessionToken(call.Request)
	if token == "" && !bearer {
		return c.byCertificate(call)
	}
	caller, err := c.People.ResumeSession(call.Context(), token)
	if err != nil {
		if !bearer { // so that a browser with a dead session is not kept from signing in by a certificate
			http.SetCookie(call.body, sessionCookie("", -1))
		}
		return caller, err
	}
	if !bearer && !sameSite(call.Request) {
		return caller, fault.New(fault.Denied, "cross_origin", "a session in a cookie changes things only from pages of this server (Origin, Sec-Fetch-Site)")
	}
	call.signIn.session, call.bearer = caller.Session(), bearer
	if call.TLS == nil || len(call.TLS.PeerCertificates) == 0 {
		return caller, nil
	}
	certified, err := c.byCertificate(call)
	if err == nil && certified.Name() != caller.Name() {
		return operators.Caller{}, fault.New(fault.Unauthenticated, "two_callers",
			"the certificate presented and the session are of two operators: come with one of them")
	}
	return certified, err
}

// sameSite reports whether a request that changes something comes from a page of
// this server, in the words that a browser puts there and no page can (Fetch Metadata; RFC 6454).
// A request that says nothing does not.
func sameSite(r *http.Request) bool {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return true
	}
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" {
		return site == "same-origin"
	}
	return r.Header.Get("Origin") == "https://"+r.Host
}

// newCode returns a code that works once, and the key that it is kept under.
func newCode() (string, [32]byte) {
	code := rand.Text() + rand.Text() // 256 bits and more
	return code, codeKey(code)
}

func codeKey(code string) [32]byte { return sha256.Sum256([]byte("login code " + code)) }

// shownSession is a session as its operator sees it.
type shownSession struct {
	operators.Session
	Idle    time.Time `json:"idle_until"` // when it ends unless it is used
	Current bool      `json:"current,omitempty"`
}

func (c *Console) shown(s operators.Session, current operators.Session) shownSession {
	return shownSession{Session: s, Idle: c.People.IdleUntil(s), Current: s.ID == current.ID}
}

// whoIs answers who the caller is to this server.
type whoIs struct {
	Operator   string            `json:"operator"`
	Roles      []operators.Role  `json:"roles"`
	Auth       any               `json:"auth"`                 // how they have proven it, as rules see it
	Breakglass *operators.Opened `json:"breakglass,omitempty"` // how they came by break-glass
	Session    *shownSession     `json:"session,omitempty"`    // that the call bears; absent: none
}

// showSession answers who is calling.
func (c *Console) showSession(call *call) (deed, error) {
	own := call.signIn.session
	own.Operator = call.caller.Name()
	subject := call.caller.Subject()
	return deed{
		resource: own.Resource(),
		do: func(ctx context.Context, p policy.Permit) (answer, error) {
			if err := p.Covers(policy.ShowSession, own.ID); err != nil {
				return answer{}, err
			}
			found, err := c.People.Find(ctx, own.Operator)
			if err != nil {
				return answer{}, err
			}
			who := whoIs{Operator: own.Operator, Roles: found.Roles, Auth: subject.Properties["auth"], Breakglass: found.Breakglass}
			if own.ID != "" {
				s := c.shown(own, own)
				who.Session = &s
			}
			return ok(who), nil
		},
	}, nil
}

// everybody is the filter for the sessions of all operators.
const everybody = "*"

func (c *Console) listSessions(call *call) (deed, error) {
	page, err := call.page()
	if err != nil {
		return deed{}, err
	}
	whose := call.query("operator")
	if whose == "" {
		whose = call.caller.Name()
	}
	filter := operators.SessionFilter{Operator: whose, Before: page.cursor, Limit: page.ask()}
	if whose == everybody {
		filter.Operator = ""
	}
	return deed{
		resource: policy.Entity{Type: "session", Properties: policy.Properties{"operator": whose}},
		do: func(ctx context.Context, p policy.Permit) (answer, error) {
			found, err := c.People.ListSessions(ctx, p, filter)
			if err != nil {
				return answer{}, err
			}
			return listOf(page, found, func(s operators.Session) string { return s.ID },
				func(s operators.Session) shownSession { return c.shown(s, call.signIn.session) }), nil
		},
	}, nil
}

func (c *Console) endSession(call *call) (deed, error) {
	id, err := call.name("id")
	if err != nil {
		return deed{}, err
	}
	s, err := c.People.FindSession(call.Context(), id)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return deed{}, err
	}
	s.ID = id
	return c.ending(call, s), nil
}

// logout ends the session that the call bears.
func (c *Console) logout(call *call) (deed, error) {
	s := call.signIn.session
	if s.ID == "" {
		return deed{}, fault.New(fault.Conflict, "no_session", "this call bears no session that could end: a certificate is put away, not signed out")
	}
	return c.ending(call, s), nil
}

// ending is the deed that ends a session. One's own takes the cookie with it.
func (c *Console) ending(call *call, s operators.Session) deed {
	return deed{
		resource: s.Resource(),
		do: func(ctx context.Context, p policy.Permit) (answer, error) {
			if err := c.People.EndSession(ctx, p, s.ID); err != nil {
				return answer{}, err
			}
			if s.ID == call.signIn.session.ID && !call.bearer {
				http.SetCookie(call.body, sessionCookie("", -1))
			}
			return done(), nil
		},
	}
}

// newBinding is the body of PUT /operators/{name}/oidc. Neither: they sign in no more.
type newBinding struct {
	Subject string `json:"oidc_subject,omitempty"` // at the identity provider
	Email   string `json:"oidc_email,omitempty"`   // there, until the first sign-in
}

func (c *Console) bindOperator(call *call) (deed, error) {
	name, err := call.name("name")
	if err != nil {
		return deed{}, err
	}
	var body newBinding
	if err := call.decode(&body, false); err != nil {
		return deed{}, err
	}
	return deed{
		resource:   policy.Entity{Type: "operator", ID: name},
		parameters: policy.Properties{"oidc_subject": body.Subject, "oidc_email": body.Email},
		do: func(ctx context.Context, p policy.Permit) (answer, error) {
			return done(), c.People.Bind(ctx, p, name, operators.Binding{Subject: body.Subject, Email: body.Email})
		},
	}, nil
}

package operators

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// loginMethod is how callers with a session proved who they are.
const loginMethod = "oidc"

// SignIn says how operators sign in. The zero SignIn admits nobody.
type SignIn struct {
	Issuer string        // of the identity provider; empty: there is none
	Idle   time.Duration // how long a session may go unused; 0 means DefaultIdle
	Length time.Duration // how long a session lasts at most; 0 means DefaultLength
}

// How long sessions live unless it is configured.
const (
	DefaultIdle   = 30 * time.Minute
	DefaultLength = 8 * time.Hour
)

const (
	// mostSessions is how many sessions an operator has at a time. Whoever
	// signs in once more ends the oldest.
	mostSessions = 20

	// touchEvery is how exactly it is known when a session was last used: it must not cost each request a commit.
	touchEvery = time.Minute
)

// SessionKind is what a session was made for.
type SessionKind string

// The kinds of sessions.
const (
	Browser     SessionKind = "browser" // its token is in a cookie
	CommandLine SessionKind = "cli"     // its token is in a file
)

// Login is what the identity provider has said of somebody, verified.
type Login struct {
	Issuer  string    `json:"issuer"`
	Subject string    `json:"subject"`
	Email   string    `json:"email,omitempty"` // verified by the provider, in lower case; empty: none is
	AMR     []string  `json:"amr,omitempty"`   // how they authenticated there (RFC 8176)
	ACR     string    `json:"acr,omitempty"`   // how strong that was, in the provider's words
	Time    time.Time `json:"time"`            // when they did
}

// properties is how the caller authenticated, as rules see it.
func (l *Login) properties() map[string]any {
	amr := l.AMR
	if amr == nil {
		amr = []string{}
	}
	return map[string]any{"method": loginMethod, "issuer": l.Issuer, "sub": l.Subject, "amr": amr, "acr": l.ACR,
		"time": l.Time.UTC().Format(time.RFC3339)}
}

// Stranger is somebody whom the provider knows and the register does not, as the record names them.
func (l *Login) Stranger() policy.Entity {
	return policy.Entity{Type: "oidc_subject", ID: l.Subject, Properties: policy.Properties{"auth": l.properties()}}
}

// Session is one sign-in of an operator.
type Session struct {
	ID       string      `json:"id"`
	Operator string      `json:"operator"`
	Kind     SessionKind `json:"kind"`
	Login    Login       `json:"login"`
	Source   string      `json:"source"` // address of who signed in
	Created  time.Time   `json:"created"`
	Used     time.Time   `json:"used"`    // last, to the minute
	Expires  time.Time   `json:"expires"` // whatever use is made of it

	hash [32]byte // of the token, where a caller came with it
}

// Resource is the session as rules see it.
func (s *Session) Resource() policy.Entity {
	return policy.Entity{Type: "session", ID: s.ID, Properties: policy.Properties{"operator": s.Operator, "kind": string(s.Kind)}}
}

// Tokens are written so that scanners of source code know one that somebody has
// checked in: a prefix, and 256 random bits in base64url (RFC 4648, Section 5) without padding.
const (
	tokenPrefix = "hallmark_session_"
	tokenBytes  = 32
)

// newToken returns the token of a new session and its hash, which alone is kept.
func newToken() (string, [32]byte) {
	var raw [tokenBytes]byte
	rand.Read(raw[:]) // never fails: crypto/rand aborts the process instead
	token := tokenPrefix + base64.RawURLEncoding.EncodeToString(raw[:])
	return token, sha256.Sum256([]byte(token))
}

// IsToken reports whether text looks like the token of a session.
func IsToken(text string) bool {
	rest, ok := strings.CutPrefix(text, tokenPrefix)
	return ok && len(rest) == base64.RawURLEncoding.EncodedLen(tokenBytes)
}

var errNoSession = fault.New(fault.Unauthenticated, "session_ended", "this session has ended, or never was: sign in again")

// ResumeSession returns the caller behind a session's token. It is asked on every
// request, since nothing but the register says what a session is worth. Errors are of
// kind Unauthenticated, code session_ended, and Denied, as Identify says; with the latter comes the caller, for the record.
func (r *Register) ResumeSession(ctx context.Context, token string) (Caller, error) {
	if !IsToken(token) {
		return Caller{}, errNoSession
	}
	hash := sha256.Sum256([]byte(token))
	o, s, err := r.Roster.OperatorBySession(ctx, hash)
	switch {
	case fault.Is(err, fault.NotFound):
		return Caller{}, errNoSession
	case err != nil:
		return Caller{}, err
	}
	now := r.now()
	if !now.Before(s.Expires) || now.Sub(s.Used) >= r.idle() || s.Login.Issuer != r.SignIn.Issuer {
		return Caller{}, errNoSession
	}
	s.hash = hash
	caller := Caller{operator: o, session: s, method: loginMethod}
	if err := o.barred(); err != nil {
		return caller, err
	}
	if now.Sub(s.Used) >= min(touchEvery, r.idle()/2) {
		if err := r.Roster.TouchSession(ctx, s.ID, now); err != nil {
			return Caller{}, err
		}
	}
	return caller, nil
}

func (r *Register) idle() time.Duration {
	if r.SignIn.Idle == 0 {
		return DefaultIdle
	}
	return r.SignIn.Idle
}

// Session is the session that the caller came with; the zero one: none.
func (c Caller) Session() Session { return c.session }

// IdleUntil is when the session ends unless it is used.
func (r *Register) IdleUntil(s Session) time.Time {
	until := s.Used.Add(r.idle())
	if s.Expires.Before(until) {
		return s.Expires
	}
	return until
}

// Greet returns the operator whom the identity provider has authenticated, as a
// caller with no session yet. Nobody whom the register does not know gets in: that is
// Denied, code oidc_unbound, and says what an administrator has to type.
func (r *Register) Greet(ctx context.Context, l Login) (Caller, error) {
	if l.Subject == "" || l.Issuer == "" || l.Issuer != r.SignIn.Issuer {
		return Caller{}, fault.New(fault.Unauthenticated, "oidc_issuer", "this sign-in is not from the identity provider that this server trusts")
	}
	o, err := r.Sessions.OperatorByLogin(ctx, l.Issuer, l.Subject, l.Email)
	if fault.Is(err, fault.NotFound) {
		return Caller{}, fault.New(fault.Denied, "oidc_unbound", fmt.Sprintf(
			"the identity provider knows you, and this server does not: an administrator has to type: hallmark operator assign NAME --oidc %s", quoted(l.Subject)))
	}
	if err != nil {
		return Caller{}, err
	}
	return Caller{operator: o, session: Session{Login: l}, method: loginMethod}, o.barred()
}

// quoted is a subject as an argument of a shell command.
func quoted(subject string) string {
	if strings.Trim(subject, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._@+-:=/") == "" {
		return subject
	}
	return "'" + strings.ReplaceAll(subject, "'", `'\''`) + "'"
}

// OpenSession signs the caller in, whom Greet has returned, and returns the session and its
// token, which nobody can ask for again. The permit must be for the id.
func (r *Register) OpenSession(ctx context.Context, p policy.Permit, caller Caller, id string, kind SessionKind, source string) (Session, string, error) {
	if caller.method != loginMethod || caller.session.ID != "" || p.Actor() != caller.operator.Name {
		return Session{}, "", fault.New(fault.Denied, "not_signed_in", "only who has just come from the identity provider is signed in")
	}
	length := r.SignIn.Length
	if length == 0 {
		length = DefaultLength
	}
	now := r.now()
	s := Session{ID: id, Operator: caller.operator.Name, Kind: kind, Login: caller.session.Login, Source: source,
		Created: now, Used: now, Expires: now.Add(length)}
	token, hash := newToken()
	pin := caller.operator.Subject == ""
	fact := policy.Properties{"session": s.fact()}
	if pin {
		fact["operator"] = map[string]any{"oidc_issuer": s.Login.Issuer, "oidc_subject": s.Login.Subject}
	}
	event, err := p.Redeem(policy.CreateSession, id, fact)
	if err != nil {
		return Session{}, "", err
	}
	err = r.Sessions.AddSession(ctx, NewSession{Session: s, Hash: hash, Pin: pin, Stale: now.Add(-r.idle()), Most: mostSessions}, event)
	if err != nil {
		return Session{}, "", err
	}
	return s, token, nil
}

func (s *Session) fact() map[string]any {
	f := map[string]any{"operator": s.Operator, "kind": string(s.Kind)}
	if !s.Expires.IsZero() {
		f["expires"] = s.Expires.Format(time.RFC3339)
	}
	return f
}

// ListSessions returns those sessions that the filter selects and that have not run out, newest first. The permit must be for no single session.
func (r *Register) ListSessions(ctx context.Context, p policy.Permit, f SessionFilter) ([]Session, error) {
	if err := p.Covers(policy.ListSessions, ""); err != nil {
		return nil, err
	}
	f.Expiring = r.now()
	f.Stale = f.Expiring.Add(-r.idle())
	return r.Sessions.Sessions(ctx, f)
}

// FindSession returns one session, or an error of kind NotFound. It is for
// asking policy about it, and answers no operator.
func (r *Register) FindSession(ctx context.Context, id string) (Session, error) {
	if id == "" {
		return Session{}, errSessionUnknown
	}
	found, err := r.Sessions.Sessions(ctx, SessionFilter{ID: id, Limit: 1})
	if err == nil && len(found) == 0 {
		err = errSessionUnknown
	}
	if err != nil {
		return Session{}, err
	}
	return found[0], nil
}

var errSessionUnknown = fault.New(fault.NotFound, "session_unknown", "there is no such session; it may have ended")

// EndSession signs somebody out, at once and everywhere.
func (r *Register) EndSession(ctx context.Context, p policy.Permit, id string) error {
	if err := p.Covers(policy.EndSession, id); err != nil {
		return err
	}
	s, err := r.FindSession(ctx, id)
	if err != nil {
		return err
	}
	event, err := p.Redeem(policy.EndSession, id, policy.Properties{"session": map[string]any{"operator": s.Operator}})
	if err != nil {
		return err
	}
	return r.Sessions.EndSession(ctx, id, event)
}

package console

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/operators"
	"github.com/hallmark-pki/hallmark/operators/oidc"
	"github.com/hallmark-pki/hallmark/policy"
)

// Shelf keeps small things for a minute, for all replicas.
type Shelf interface {
	// Keep keeps a body under a key until the time given, or until it is taken.
	Keep(ctx context.Context, key [32]byte, body []byte, until time.Time) error

	// Take returns the body and forgets it; an unknown key, and one past its time, is NotFound.
	Take(ctx context.Context, key [32]byte, now time.Time) ([]byte, error)
}

// signIn is what a call has to do with a session.
type signIn struct {
	session operators.Session     // that it bears; zero: none
	bearer  bool                  // in a header, which no browser sends by itself
	kind    operators.SessionKind // of the session that it asks for
	next    string                // where a browser goes with it
}

// afterLogin is where a browser goes that wants to go nowhere in particular: to who it is now.
const afterLogin = "/api/v1/session"

const longestNext = 1024

// codeLife is how long a command line may take to fetch its session.
const codeLife = time.Minute

// loginShape, callbackShape and others: what the routes below look like.
var (
	loginShape = sees("Sign in at the identity provider: leads the browser there, and from there to /api/v1/login/callback.",
		word("next", "path on this server to go to afterwards"), word("port", "of a command line that listens on its own machine, and gets a code there"),
		word("challenge", "S256 of a secret that the command line keeps (RFC 7636)"), word("state", "of the command line's own, sent back to it as it is"))
	callbackShape = sees("Where the identity provider sends the browser to. Answers with a session in a cookie, and with where to go.",
		word("code", "of the provider"), word("state", "that the sign-in began with"), word("iss", "issuer of the code (RFC 9207)"),
		word("error", "why the provider does not sign in"), word("error_description", "the same in its words"))
)

// sees answers with where the browser has to go.
func sees(says string, query ...parameter) shape {
	return shape{says: says, query: query, gives: body{status: http.StatusSeeOther, kinds: []string{}, headers: []string{"Location", "Set-Cookie", "Referrer-Policy"}}}
}

// provider returns the identity provider, or says that there is none.
func (c *Console) provider() (*oidc.Provider, error) {
	if c.Provider == nil {
		return nil, fault.New(fault.Conflict, "oidc_not_configured",
			"this server has no identity provider to sign in at: operators.oidc of its config.yaml names one; operator certificates work")
	}
	return c.Provider, nil
}

// login sends a browser to the identity provider.
func (c *Console) login(r *call) (answer, error) {
	provider, err := c.provider()
	if err != nil {
		return answer{}, err
	}
	if err := loginShape.check(r.URL.RawQuery); err != nil {
		return answer{}, err
	}
	errand, err := errandOf(r.URL.Query())
	if err != nil {
		return answer{}, err
	}
	to, sealed, err := provider.Begin(r.Context(), errand)
	if err != nil {
		return answer{}, err
	}
	http.SetCookie(r.body, loginCookie(sealed, int(oidc.Patience.Seconds())))
	return elsewhere(to), nil
}

// elsewhere sends the browser on. Where it comes from is nobody's business.
func elsewhere(to string) answer {
	return answer{status: http.StatusSeeOther, header: map[string]string{"Location": to, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}}
}

// errandOf reads what somebody signs in for.
func errandOf(q url.Values) (oidc.Errand, error) {
	e := oidc.Errand{Next: q.Get("next"), Challenge: q.Get("challenge"), State: q.Get("state")}
	if !safeNext(e.Next) {
		return oidc.Errand{}, fault.New(fault.Malformed, "bad_parameter", "next must be a path on this server, such as /api/v1/session")
	}
	port := q.Get("port")
	if port == "" && e.Challenge == "" && e.State == "" {
		return e, nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	raw, wrong := base64.RawURLEncoding.Strict().DecodeString(e.Challenge)
	if err != nil || n < 1024 || wrong != nil || len(raw) != sha256.Size || e.State == "" || e.Next != "" {
		return oidc.Errand{}, fault.New(fault.Malformed, "bad_parameter", "port (from 1024 on), challenge (S256, base64url) and state go together, without next")
	}
	e.Port = int(n)
	return e, nil
}

// safeNext reports whether a browser that is sent there stays on this server. Empty is
// all right. Browsers take \ for / and drop tabs and line ends, so none of them may be in it.
func safeNext(next string) bool {
	if next == "" {
		return true
	}
	if len(next) > longestNext || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") ||
		strings.ContainsFunc(next, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '\\' }) {
		return false
	}
	u, err := url.Parse(next)
	return err == nil && u.Scheme == "" && u.Host == "" && !strings.HasPrefix(u.Path, "//")
}

// loginEnds takes what the provider has sent the browser back with.
func (c *Console) loginEnds(call *call) (answer, error) {
	provider, err := c.provider()
	if err != nil {
		return answer{}, err
	}
	if err := callbackQuery(call.URL.RawQuery); err != nil {
		return answer{}, err
	}
	login, errand, err := provider.End(call.Context(), cookie(call.Request, loginCookieName), call.URL.Query())
	if fault.Is(err, fault.Unauthenticated) || err == nil {
		http.SetCookie(call.body, loginCookie("", -1))
	}
	switch {
	case errand.Port != 0 && err != nil:
		return loopback(errand, url.Values{"error": {fault.Of(err).Code}, "error_description": {fault.Of(err).Says}}), nil
	case err != nil:
		return answer{}, err
	case errand.Port != 0:
		return c.shelve(call, login, errand)
	}
	call.kind, call.next = operators.Browser, errand.Next
	if call.caller, err = c.greet(call, login); err != nil {
		if call.caller.Name() != "" {
			err = c.barred(call, policy.CreateSession, err)
		}
		return answer{}, err
	}
	call.URL = &url.URL{Path: call.URL.Path} // the code is spent, and nobody else's business
	return c.walk(call.body, call, route{action: policy.CreateSession, plan: (*Console).createSession})
}

// callbackQuery checks what a provider sends. Parameters that we do not know are
// ignored (RFC 6749, Section 4.1.2), such as session_state; twice none may come.
func callbackQuery(query string) error {
	values, err := url.ParseQuery(query)
	if err != nil || len(query) > 16<<10 {
		return fault.New(fault.Malformed, "bad_query", "the query cannot be read")
	}
	for name, value := range values {
		if len(value) > 1 {
			return fault.New(fault.Malformed, "bad_parameter", printable(name)+" is given twice")
		}
	}
	return nil
}

// shelved is what a command line fetches by a code.
type shelved struct {
	Login     operators.Login `json:"login"`
	Challenge string          `json:"challenge"`
}

// shelve keeps who has signed in until the command line fetches it, and sends the browser there.
func (c *Console) shelve(call *call, login operators.Login, errand oidc.Errand) (answer, error) {
	body, err := json.Marshal(shelved{login, errand.Challenge})
	if err != nil {
		return answer{}, err
	}
	code, key := newCode()
	if err := c.Shelf.Keep(call.Context(), key, body, c.Now().Add(codeLife)); err != nil {
		return answer{}, err
	}
	return loopback(errand, url.Values{"code": {code}}), nil
}

// loopback sends the browser to the command line that it was started by (RFC 8252,
// Section 7.3): to this address and no other, whoever has begun the sign-in.
func loopback(errand oidc.Errand, q url.Values) answer {
	q.Set("state", errand.State)
	to := url.URL{Scheme: "http", Host: "127.0.0.1:" + strconv.Itoa(errand.Port), Path: "/", RawQuery: q.Encode()}
	return elsewhere(to.String())
}

// loginCode is the body of POST /login/token.
type loginCode struct {
	Code     string `json:"code"`     // that the browser has brought
	Verifier string `json:"verifier"` // of the challenge that the sign-in began with
}

// byCode names the operator whose command line fetches what the browser has left for it.
func (c *Console) byCode(call *call) (operators.Caller, error) {
	var sent loginCode
	if err := call.decode(&sent, false); err != nil {
		return operators.Caller{}, err
	}
	unknown := fault.New(fault.Unauthenticated, "login_unknown", "this code is unknown, was used, or is too old: begin again")
	body, err := c.Shelf.Take(call.Context(), codeKey(sent.Code), c.Now())
	if fault.Is(err, fault.NotFound) {
		return operators.Caller{}, unknown
	}
	if err != nil {
		return operators.Caller{}, err
	}
	var kept shelved
	if err := json.Unmarshal(body, &kept); err != nil {
		return operators.Caller{}, unknown
	}
	sum := sha256.Sum256([]byte(sent.Verifier)) // RFC 7636, Section 4.6
	if subtle.ConstantTimeCompare([]byte(base64.RawURLEncoding.EncodeToString(sum[:])), []byte(kept.Challenge)) != 1 {
		return operators.Caller{}, unknown
	}
	call.kind = operators.CommandLine
	return c.greet(call, kept.Login)
}

// deviceLogin begins a sign-in by a code that somebody types elsewhere.
func (c *Console) deviceLogin(r *call) (answer, error) {
	provider, err := c.provider()
	if err != nil {
		return answer{}, err
	}
	begun, err := provider.BeginDevice(r.Context())
	return ok(begun), err
}

// deviceHandle is the body of POST /login/device/token.
type deviceHandle struct {
	Handle string `json:"handle"`
}

// byDevice names the operator who has typed the code, once they have.
func (c *Console) byDevice(call *call) (operators.Caller, error) {
	provider, err := c.provider()
	if err != nil {
		return operators.Caller{}, err
	}
	var sent deviceHandle
	if err := call.decode(&sent, false); err != nil {
		return operators.Caller{}, err
	}
	login, err := provider.Poll(call.Context(), sent.Handle)
	if err != nil {
		return operators.Caller{}, err
	}
	call.kind = operators.CommandLine
	return c.greet(call, login)
}

// greet names the operator whom the provider has authenticated. Strangers go on the record
// too: they have an account there, and an administrator will want to know what they are called.
func (c *Console) greet(call *call, login operators.Login) (operators.Caller, error) {
	caller, err := c.People.Greet(call.Context(), login)
	if err == nil || caller.Name() != "" || fault.Of(err).Kind != fault.Denied {
		return caller, err
	}
	return caller, policy.Refuse(call.Context(), c.Policy, policy.Request{
		Subject: login.Stranger(), Action: policy.CreateSession, Resource: policy.Entity{Type: "session", Properties: policy.Properties{}},
		At: call.at, Source: callerIP(call.Request), RequestID: call.requestID,
	}, fault.Of(err))
}

// issuedSession answers who has signed in by a command line.
type issuedSession struct {
	operators.Session
	Token string `json:"token"` // in this answer and nowhere else
}

func (c *Console) createDeviceSession(call *call) (deed, error) { return c.createSession(call) }

func (c *Console) createSession(call *call) (deed, error) {
	wanted := operators.Session{ID: audit.NewID(call.at).String(), Operator: call.caller.Name(), Kind: call.kind}
	return deed{
		resource: wanted.Resource(),
		do: func(ctx context.Context, p policy.Permit) (answer, error) {
			s, token, err := c.People.OpenSession(ctx, p, call.caller, wanted.ID, call.kind, callerIP(call.Request))
			if err != nil {
				return answer{}, err
			}
			if call.kind == operators.CommandLine {
				return created("/api/v1/session", issuedSession{s, token}), nil
			}
			next := call.next
			if next == "" {
				next = afterLogin
			}
			// A new token with each sign-in: one that somebody planted before is worth nothing.
			http.SetCookie(call.body, sessionCookie(token, int(s.Expires.Sub(s.Created).Seconds())))
			return elsewhere(next), nil
		},
	}, nil
}

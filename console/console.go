// Package console is the operators' door: a JSON API over mutual TLS.
//
// Every call takes the same walk: who is asking (a certificate of the
// operators' authority), what is asked (decoded and checked), may they
// (policy decides and records), do it, answer. The routes stand in one table,
// each with the action that policy is asked about, so that none can be added
// without saying which right it takes. The public part of the audit log, the
// checkpoint and the hash tiles, is served here too and needs no caller.
package console

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"path"
	"sync"
	"time"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/decisionlog"
	"github.com/hallmark-pki/hallmark/enroll"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/internal/limit"
	"github.com/hallmark-pki/hallmark/internal/once"
	"github.com/hallmark-pki/hallmark/operators"
	"github.com/hallmark-pki/hallmark/operators/oidc"
	"github.com/hallmark-pki/hallmark/policy"
	"github.com/hallmark-pki/hallmark/policy/release"
)

// Config holds the live things that the door works with. All are required
// unless a comment says otherwise.
type Config struct {
	Policy    *policy.Point
	Operators *x509.CertPool // the authority that names operators, and nothing else
	People    *operators.Register

	Fleet     *fleet.Register
	Tokens    *enroll.Tokens
	Anchors   *enroll.Anchors
	Requests  *enroll.Waiting
	Bonds     *attest.Bonds
	Baselines *attest.Baselines
	Releases  *release.Releases
	Outlet    *release.Outlet
	Authority *ca.Authority
	Provider  *oidc.Provider // where operators sign in; nil: nowhere
	Shelf     Shelf
	Log       *audit.Log
	Record    Record
	Events    func() *decisionlog.Scribe // writes decisions as the decision log tells of them
	Backup    Backup
	Attempts  once.Store // of calls with an Idempotency-Key

	Limiter *limit.Limiter                  // counts refusals, together with other doors; nil: no limits
	Now     func() time.Time                // nil means time.Now
	Logger  *slog.Logger                    // nil means slog.Default
	Observe func(action string, status int) // told of each answer, for metrics; may be nil. See Public and None
}

// Names of what is no policy action, for Observe.
const (
	Public = "public" // the part of the audit log that anybody may read
	None   = "none"   // a path or a method that there is not
)

// Record is what the door reads from the record. Journal entries that the
// sequencer has not reached yet have Index -1.
type Record interface {
	// Entries returns those that the query selects, newest first.
	Entries(ctx context.Context, q audit.Query) ([]audit.Entry, error)

	// Entry returns the event with that id, or an error of kind NotFound.
	Entry(ctx context.Context, id audit.ID) (audit.Entry, error)

	// EntryBySerial returns the event that issued the certificate with that
	// serial (lower-case hex), or an error of kind NotFound.
	EntryBySerial(ctx context.Context, serial string) (audit.Entry, error)

	// CountDecisions returns how often actor was allowed action, and did it, since then: at most most.
	CountDecisions(ctx context.Context, actor, action string, since time.Time, most int) (int, error)
}

// Console answers operators. It is an http.Handler for the paths below
// /api/v1/ and /log/.
type Console struct {
	Config
	mux     *http.ServeMux
	objects map[string]route // those that show one, by the pattern of the object
	origin  *http.CrossOriginProtection
	backup  sync.Mutex // one backup at a time

	waiting chan struct{}   // one for each caller who waits for other rules
	leaving context.Context // ends when nobody may wait any more
	leave   context.CancelFunc

	rehearsal sync.Mutex // one set of rules checked at a time

	explaining chan struct{} // one decision explained at a time; others wait
}

// New returns the door, or an error that names what its Config lacks.
func New(config Config) (*Console, error) {
	for name, missing := range map[string]bool{
		"Policy": config.Policy == nil, "Operators": config.Operators == nil, "People": config.People == nil, "Fleet": config.Fleet == nil,
		"Tokens": config.Tokens == nil, "Anchors": config.Anchors == nil, "Requests": config.Requests == nil,
		"Bonds": config.Bonds == nil, "Baselines": config.Baselines == nil, "Releases": config.Releases == nil, "Outlet": config.Outlet == nil,
		"Authority": config.Authority == nil, "Attempts": config.Attempts == nil, "Log": config.Log == nil, "Shelf": config.Shelf == nil, "Record": config.Record == nil, "Events": config.Events == nil,
	} {
		if missing {
			return nil, errors.New("console: Config lacks " + name)
		}
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	c := &Console{Config: config, mux: http.NewServeMux(), objects: shownObjects(), origin: http.NewCrossOriginProtection(),
		waiting: make(chan struct{}, maxWaiting), explaining: make(chan struct{}, 1)}
	c.leaving, c.leave = context.WithCancel(context.Background())
	for _, rt := range routes {
		c.mux.HandleFunc(rt.method+" "+rt.pattern, c.serve(rt))
	}
	for _, rt := range publicRoutes {
		c.mux.HandleFunc(rt.method+" "+rt.pattern, c.open(Public, rt.answer))
	}
	c.mux.HandleFunc("/", c.nowhere)
	return c, nil
}

// ServeHTTP answers one call.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	if h.Get(requestIDHeader) == "" { // a server around us may have named the request already
		h.Set(requestIDHeader, newRequestID())
	}
	h.Set("X-Content-Type-Options", "nosniff")
	if path.Clean(r.URL.Path) != r.URL.Path { // ServeMux would redirect to what it takes the path for
		c.none(w, r, errNoSuchPath)
		return
	}
	c.mux.ServeHTTP(w, r)
}

const requestIDHeader = "X-Request-Id"

func newRequestID() string {
	var id [8]byte
	rand.Read(id[:]) // never fails: crypto/rand aborts the process instead
	return hex.EncodeToString(id[:])
}

// call is one request that has reached its route.
type call struct {
	*http.Request
	body      http.ResponseWriter // only to bound the body: http.MaxBytesReader tells the server to hang up
	at        time.Time
	requestID string
	action    policy.Action
	caller    operators.Caller
	opening   *opening // what a call to open break-glass says; nil for all others
	signIn             // what it has to do with a session
	attempt   *attempt // of a call with an Idempotency-Key; nil for all others
	content   *content // of a call that may have to wait for another operator; nil for all others
}

// serve answers calls of one route.
func (c *Console) serve(rt route) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		call := &call{Request: r, body: w, at: c.Now(), requestID: w.Header().Get(requestIDHeader), action: rt.action}
		var a answer
		err := c.meet(call, rt)
		if err == nil {
			if rt.patience > 0 {
				defer c.attend(w, call)()
			}
			a, err = c.walk(w, call, rt)
		}
		if err == nil && a.value != nil && rt.tagged() {
			a, err = a.tagged(r)
		}
		c.settle(w, r, string(rt.action), call.caller, a, err)
	}
}

// walk is the rest of a call's life, once its caller is known: understand, decide, do.
func (c *Console) walk(w http.ResponseWriter, call *call, rt route) (answer, error) {
	// A browser that holds the operator's certificate sends it along with requests
	// that a foreign page makes. What stands in a header no page sends unasked.
	if err := c.origin.Check(call.Request); err != nil && !call.bearer {
		return answer{}, fault.Wrap(fault.Denied, "cross_origin", "requests from other sites are refused", err)
	}
	if err := rt.check(call.URL.RawQuery); err != nil {
		return answer{}, err
	}
	if call.Header[once.Header] != nil && rt.repeatable() {
		return c.once(w, call, rt)
	}
	return c.act(w, call, rt)
}

// act understands a call, has it decided, and does it.
func (c *Console) act(w http.ResponseWriter, call *call, rt route) (answer, error) {
	if rt.action.Holds() {
		call.watchContent()
	}
	deed, err := rt.plan(c, call)
	if err != nil {
		return answer{}, err
	}
	if err := c.characterise(call.Context(), &deed); err != nil {
		return answer{}, err
	}
	permit, err := c.decide(call, rt.action, &deed)
	if err != nil {
		return answer{}, err
	}
	if rt.patience > 0 {
		wait(w, rt.patience)
	}
	condition, err := c.unchanged(call, &rt)
	if err != nil {
		return answer{}, err
	}
	ctx, done, err := c.begin(call, rt.patience, permit)
	if err != nil {
		return answer{}, err
	}
	defer done()
	if condition != nil {
		if err := condition(ctx); err != nil {
			return answer{}, err
		}
		ctx = once.OnlyIf(ctx, condition) // and again when it is this change's turn
	}
	a, err := deed.do(ctx, permit)
	if call.content != nil && call.content.changed {
		return answer{}, c.Requests.Overrule(ctx, permit, errContentChanged)
	}
	return a, err
}

// question is the call as policy sees it.
func (call *call) question(action policy.Action, d deed) policy.Request {
	return policy.Request{
		Subject:    call.caller.Subject(),
		Action:     action,
		Parameters: d.parameters,
		Resource:   d.resource,
		Context:    d.around(call.caller.Context()),
		At:         call.at,
		Source:     callerIP(call.Request),
		RequestID:  call.requestID,
	}
}

// callerIP is the caller's IP address.
func callerIP(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// wait gives a long transfer more time than the server's ordinary limits.
// A connection that cannot be told keeps those.
func wait(w http.ResponseWriter, patience time.Duration) {
	control, until := http.NewResponseController(w), time.Now().Add(patience)
	_ = control.SetReadDeadline(until)
	_ = control.SetWriteDeadline(until)
}

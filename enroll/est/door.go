// Package est is the door for Enrollment over Secure Transport (RFC 7030, RFC
// 8951, RFC 9908). It turns HTTP into an enroll.Request and the certificate, or
// the error, back into what EST clients read. It decides nothing: the walk does.
//
// Real clients are picky in ways no RFC mentions; what they need is said where
// the code does it: strongSwan (pki --est) and libest (estclient) above all.
package est

import (
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/hallmark-pki/hallmark/enroll"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/internal/limit"
)

// Door serves EST. Its fields are set before the first request and not changed after.
type Door struct {
	Enroller *enroll.Enroller
	Chain    func() []*x509.Certificate // what cacerts gives out: the issuing authority first, the root last
	Log      *slog.Logger
	Limiter  *limit.Limiter                                      // nil: no limits
	Observe  func(operation string, status int, d time.Duration) // told of each answer, for metrics; may be nil
}

// Serves reports whether a URL path is for this door: everything that mentions
// the well-known path, so that odd spellings are refused here. A router that
// cleans paths answers them with redirects, and EST clients do not follow any.
// And where evidence goes that no certificate is asked with.
func Serves(path string) bool {
	return strings.Contains(path, "/.well-known/est") || path == selfPath
}

// call is one HTTP exchange.
type call struct {
	w         http.ResponseWriter
	r         *http.Request
	id        string // request id, in the log and in answers that have no decision to refer to
	source    string // the caller's IP address
	identity  string // what the limits count refusals by besides source; empty if nobody is named
	label     string
	profile   *enroll.Profile
	operation string // as the path has it, or "none"; safe as a metric's label
	status    int    // what was answered
}

// ServeHTTP answers one request.
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	c := &call{w: w, r: r, id: newID(), source: sourceOf(r), operation: "none"}
	if err := d.survive(c); err != nil && c.status == 0 {
		d.refuse(c, err)
	}
	if d.Observe != nil {
		d.Observe(c.operation, c.status, time.Since(start))
	}
}

// survive turns a panic into an error, so that a bug costs one request and its
// caller still gets a reference to it.
func (d *Door) survive(c *call) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return d.serve(c)
}

// serve finds the operation and runs it. What it returns is answered by refuse.
func (d *Door) serve(c *call) error {
	if c.r.TLS == nil { // RFC 7030, Section 3.3: EST is nothing without TLS
		return fault.New(fault.Denied, "tls_required", "EST is served over TLS only")
	}
	if c.r.URL.Path == selfPath && d.Enroller.Attestation != nil {
		if c.operation = "attest"; c.r.Method != http.MethodPost {
			return wrongMethod(http.MethodPost)
		}
		return d.attest(c)
	}
	label, name, ok := parsePath(c.r.URL)
	if !ok {
		return errNoSuchPath
	}
	method, run := d.operationOf(name)
	if run == nil {
		return errNoSuchPath
	}
	c.label, c.operation = label, name
	profile, err := d.Enroller.Profile(label)
	if err != nil {
		return err
	}
	c.profile = profile
	if !taken(method, c.r.Method) {
		return wrongMethod(method)
	}
	return run(c)
}

// getOrPost is what nonce takes.
const getOrPost = "GET, POST"

// taken reports whether an operation that takes one method takes another.
func taken(takes, method string) bool {
	switch takes {
	case http.MethodGet:
		return method == http.MethodGet || method == http.MethodHead
	case getOrPost:
		return method == http.MethodGet || method == http.MethodPost
	}
	return method == takes
}

// operationOf returns the method that an operation takes and what runs it, or
// nil for one that does not exist (RFC 7030, Section 3.2.2).
func (d *Door) operationOf(name string) (method string, run func(*call) error) {
	switch name {
	case "cacerts":
		return http.MethodGet, d.caCerts
	case "csrattrs":
		return http.MethodGet, d.csrAttrs
	case "simpleenroll":
		return http.MethodPost, d.enroll(enroll.Enroll)
	case "simplereenroll":
		return http.MethodPost, d.enroll(enroll.Reenroll)
	case "serverkeygen":
		return http.MethodPost, d.serverKeygen
	case "nonce":
		if d.Enroller.Attestation != nil {
			return getOrPost, d.nonce
		}
	case "fullcmc":
		return http.MethodPost, func(*call) error { return errNoFullCMC }
	}
	return "", nil
}

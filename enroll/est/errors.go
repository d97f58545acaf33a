package est

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/hallmark-pki/hallmark/internal/fault"
)

// statusOf is the table from kinds of errors to EST's status codes. Conflict is
// 403, because clients know no 409: libest stops reading at a code it does not list.
func statusOf(k fault.Kind) int {
	switch k {
	case fault.Malformed:
		return http.StatusBadRequest
	case fault.Unauthenticated:
		return http.StatusUnauthorized
	case fault.Denied, fault.Conflict:
		return http.StatusForbidden
	case fault.Held:
		return http.StatusAccepted // RFC 7030, Section 4.2.3
	case fault.NotFound:
		return http.StatusNotFound
	case fault.Busy:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// transport is an error that HTTP has a status of its own for, below anything
// that EST says.
type transport struct {
	fault  *fault.Error
	status int
	allow  string // for 405
}

func (t *transport) Error() string { return t.fault.Error() }
func (t *transport) Unwrap() error { return t.fault }

// The errors of the transport.
var (
	errNoSuchPath    = fault.New(fault.NotFound, "path_unknown", "there is no such EST path")
	errNoFullCMC     = &transport{fault: fault.New(fault.NotFound, "not_implemented", "fullcmc is not offered; use simpleenroll"), status: http.StatusNotImplemented}
	errWrongType     = &transport{fault: fault.New(fault.Malformed, "content_type", "the request must be application/pkcs10"), status: http.StatusUnsupportedMediaType}
	errNotFreshness  = &transport{fault: fault.New(fault.Malformed, "content_type", "a nonce request must be "+typeFreshness), status: http.StatusUnsupportedMediaType}
	errTooLarge      = &transport{fault: fault.New(fault.Malformed, "too_large", "the request body is too large"), status: http.StatusRequestEntityTooLarge}
	errNoCertificate = fault.New(fault.Unauthenticated, "proof_missing", "show the certificate that this authority issued to the device, as TLS client certificate")
	errChallenge     = fault.New(fault.Unauthenticated, "proof_missing", "send a client certificate, or HTTP Basic with the device id as user name and an enrolment token as password")
)

func wrongMethod(allowed string) error {
	if allowed == http.MethodGet {
		allowed = "GET, HEAD"
	}
	return &transport{fault: fault.New(fault.Malformed, "method", "this path takes "+allowed), status: http.StatusMethodNotAllowed, allow: allowed}
}

func tooMany(wait time.Duration) error {
	f := fault.New(fault.Busy, "rate_limited", "too many refused requests; wait before the next")
	f.After = wait
	return &transport{fault: f, status: http.StatusTooManyRequests}
}

// refuse logs err, counts it against whoever caused it, and answers. It is the
// one place where an error of this door ends.
func (d *Door) refuse(c *call, err error) {
	f := fault.Of(err)
	status, h := statusOf(f.Kind), c.w.Header()
	var t *transport
	if errors.As(err, &t) {
		status = t.status
		if t.allow != "" {
			h.Set("Allow", t.allow)
		}
	}
	switch {
	case status == http.StatusUnauthorized:
		h["WWW-Authenticate"] = []string{`Basic realm="est"`} // Set would write Www-, which libest does not know
	case f.Kind == fault.Held || f.Kind == fault.Busy:
		h.Set("Retry-After", strconv.Itoa(retryAfter(f))) // seconds: libest ignores dates
	}
	ref := f.Ref
	if ref == "" {
		ref = c.id
	}
	if status >= 400 && status < 500 && status != http.StatusTooManyRequests {
		d.Limiter.Charge(c.source, c.identity)
	}
	d.log(c, status, ref, err)
	contentType, body := errorBody(c.wantsProblem(), status, f, ref)
	c.write(status, contentType, body)
}

// retryAfter is when to come back, in whole seconds and never at once.
func retryAfter(f *fault.Error) int {
	if f.After <= 0 {
		return 10
	}
	return int((f.After + time.Second - 1) / time.Second)
}

// wantsProblem reports whether the client asks for problem documents (RFC 9457).
// The errors of a nonce exchange carry no JSON at all: a client might take it for an answer.
func (c *call) wantsProblem() bool {
	return c.operation != "nonce" && strings.Contains(c.r.Header.Get("Accept"), "application/problem+json")
}

// errorBody is two lines of text: what is wrong, and the reference under which
// the record or the log knows more; or the same as a problem document.
func errorBody(problem bool, status int, f *fault.Error, ref string) (contentType string, body []byte) {
	if !problem {
		return "text/plain; charset=utf-8", fmt.Appendf(nil, "%s: %s\nref: %s\n", f.Code, oneLine(f.Says), ref)
	}
	document := struct {
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
		Code   string `json:"code"`
		Ref    string `json:"ref"`
	}{http.StatusText(status), status, f.Says, f.Code, ref}
	body, _ = json.Marshal(document) // strings and an int cannot fail
	return "application/problem+json", body
}

// oneLine keeps a reason that somebody wrote in several lines from breaking the answer.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func (d *Door) log(c *call, status int, ref string, err error) {
	level := slog.LevelInfo
	if status >= 500 && status != http.StatusNotImplemented && !errors.Is(err, context.Canceled) {
		level = slog.LevelError
	}
	d.Log.LogAttrs(context.Background(), level, "est refused",
		slog.String("request", c.id), slog.String("operation", c.operation), slog.String("label", c.label),
		slog.String("source", c.source), slog.Int("status", status), slog.String("ref", ref), slog.Any("error", err))
}

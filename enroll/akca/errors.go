package akca

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/hallmark-pki/hallmark/enroll"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

// statusOf is the table from kinds of errors to status codes. Nothing is held
// at this door: a client that asks twice would not be understood.
func statusOf(k fault.Kind) int {
	switch k {
	case fault.Malformed:
		return http.StatusBadRequest
	case fault.Unauthenticated:
		return http.StatusUnauthorized
	case fault.Denied, fault.Held:
		return http.StatusForbidden
	case fault.NotFound:
		return http.StatusNotFound
	case fault.Conflict:
		return http.StatusConflict
	case fault.Busy:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// transport is an error that HTTP has a status of its own for.
type transport struct {
	fault  *fault.Error
	status int
}

func (t *transport) Error() string { return t.fault.Error() }
func (t *transport) Unwrap() error { return t.fault }

// The errors of the transport.
var (
	errNoSuchPath = fault.New(fault.NotFound, "path_unknown", "nothing here: POST to /attestation/attest and /attestation/secret")
	errMethod     = &transport{fault.New(fault.Malformed, "method", "this path takes POST"), http.StatusMethodNotAllowed}
	errTooLarge   = &transport{fault.New(fault.Malformed, "too_large", "the request body is too large"), http.StatusRequestEntityTooLarge}
)

func tooMany(wait time.Duration) error {
	return &transport{&fault.Error{Kind: fault.Busy, Code: "rate_limited", Says: "too many refused requests; wait before the next", After: wait}, http.StatusTooManyRequests}
}

// Problem is the body of every answer that is not a success (RFC 9457).
type Problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"` // for a person
	Code   string `json:"code"`   // for a script
	Ref    string `json:"ref"`    // the decision's id where one was recorded, else the request's
}

// refuse logs err, counts it against whoever caused it, and answers. It is the
// one place where an error of this door ends.
func (d *Door) refuse(c *call, err error) {
	f := fault.Of(err)
	status, h := statusOf(f.Kind), c.w.Header()
	var t *transport
	switch {
	case errors.As(err, &t):
		status = t.status
	case f.Code == enroll.TooManyNonces:
		status = http.StatusTooManyRequests
	}
	if status == http.StatusMethodNotAllowed {
		h.Set("Allow", http.MethodPost)
	}
	if f.Kind == fault.Busy {
		h.Set("Retry-After", strconv.Itoa(max(1, int((f.After+time.Second-1)/time.Second))))
	}
	if status < 500 && status != http.StatusTooManyRequests {
		d.Limiter.Charge(c.source, "")
	}
	p := Problem{Title: http.StatusText(status), Status: status, Detail: f.Says, Code: f.Code, Ref: f.Ref}
	if p.Ref == "" {
		p.Ref = c.id
	}
	d.log(c, &p, err)
	body, _ := json.Marshal(p) // strings and an int cannot fail
	c.write(status, "application/problem+json", append(body, '\n'))
}

func (d *Door) log(c *call, p *Problem, err error) {
	level := slog.LevelInfo
	if p.Status >= 500 && !errors.Is(err, context.Canceled) {
		level = slog.LevelError
	}
	d.Log.LogAttrs(context.Background(), level, "attestation key refused",
		slog.String("request", c.id), slog.String("operation", c.operation), slog.String("source", c.source),
		slog.Int("status", p.Status), slog.String("ref", p.Ref), slog.Any("error", err))
}

// write sends the whole answer.
func (c *call) write(status int, contentType string, body []byte) {
	h := c.w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	c.status = status
	c.w.WriteHeader(status)
	c.w.Write(body) // if the client is gone there is nobody left to tell
}

package console

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/hallmark-pki/hallmark/internal/fault"
)

// statuses says how each kind of failure is answered.
var statuses = map[fault.Kind]int{
	fault.Internal:        http.StatusInternalServerError,
	fault.Malformed:       http.StatusBadRequest,
	fault.Unauthenticated: http.StatusUnauthorized,
	fault.Denied:          http.StatusForbidden,
	fault.Held:            http.StatusAccepted,
	fault.NotFound:        http.StatusNotFound,
	fault.Conflict:        http.StatusConflict,
	fault.Busy:            http.StatusServiceUnavailable,
}

// exactStatuses are the codes for which HTTP has a status of its own.
var exactStatuses = map[string]int{
	codeMethod:    http.StatusMethodNotAllowed,
	codeTooLarge:  http.StatusRequestEntityTooLarge,
	codeMediaType: http.StatusUnsupportedMediaType,
	codeChanged:   http.StatusPreconditionFailed,
	codeKeyReused: http.StatusUnprocessableEntity,
	codeTooMany:   http.StatusTooManyRequests,
}

// Codes of failures that belong to HTTP and not to a room.
const (
	codeMethod    = "method_not_allowed"
	codeTooLarge  = "body_too_large"
	codeMediaType = "unsupported_media_type"
	codeTooMany   = "rate_limited"
	codeChanged   = "changed_since"
	codeKeyReused = "idempotency_key_reused"
)

// Problem is the body of every answer that is not a success (RFC 9457).
type Problem struct {
	Type     string `json:"type"`               // urn:hallmark:problem: and the kind of failure
	Title    string `json:"title"`              // the status in words
	Status   int    `json:"status"`             // the HTTP status
	Detail   string `json:"detail"`             // what was wrong, for a person
	Code     string `json:"code"`               // what was wrong, for a script, in snake_case
	Ref      string `json:"ref"`                // quote this: the decision's id where one was recorded, else the request's
	Decision string `json:"decision,omitempty"` // id of the recorded decision, where there is one

	Problems []string `json:"problems,omitempty"` // what is wrong with proposed rules, one by one
}

// problem is err as its caller may see it.
func problem(err error, requestID string) Problem {
	e := fault.Of(err)
	status, known := exactStatuses[e.Code]
	if !known {
		status = statuses[e.Kind]
	}
	p := Problem{
		Type:  "urn:hallmark:problem:" + strings.ReplaceAll(e.Kind.String(), " ", "-"),
		Title: http.StatusText(status), Status: status, Detail: e.Says, Code: e.Code,
		Ref: e.Ref, Decision: e.Ref,
	}
	var found *reported
	if errors.As(err, &found) {
		p.Problems = found.problems
	}
	if p.Code == "" {
		p.Code = strings.ReplaceAll(e.Kind.String(), " ", "_")
	}
	if p.Ref == "" {
		p.Ref = requestID
	}
	return p
}

// fail logs an error and answers with its problem: the only place of this door that does either.
func (c *Console) fail(w http.ResponseWriter, r *http.Request, p Problem, err error) {
	level := slog.LevelInfo
	if p.Status >= 500 && r.Context().Err() == nil { // a caller who has gone away is no failure of ours
		level = slog.LevelError
	}
	c.Logger.LogAttrs(r.Context(), level, "call failed",
		slog.String("request_id", w.Header().Get(requestIDHeader)), slog.String("method", r.Method),
		slog.String("path", r.URL.EscapedPath()), slog.String("source", callerIP(r)),
		slog.Int("status", p.Status), slog.String("code", p.Code), slog.String("decision", p.Decision),
		slog.Any("error", err))

	e := fault.Of(err)
	h := w.Header()
	switch {
	case e.Kind == fault.Busy || e.Kind == fault.Held || e.After > 0:
		seconds := max(1, int(math.Ceil(float64(e.After)/float64(time.Second))))
		h.Set("Retry-After", strconv.Itoa(seconds))
	case p.Status == http.StatusUnauthorized:
		// RFC 9110, Section 15.5.2: a 401 carries a challenge. No scheme is registered
		// for client certificates, so this only names what is missing. A session is a bearer token (RFC 6750).
		h.Set("WWW-Authenticate", `ClientCertificate realm="operators", Bearer realm="operators"`)
	}
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", "application/problem+json")
	writeJSON(w, p.Status, p)
}

// writeJSON writes v with a Content-Length. The error is the caller's connection's.
func writeJSON(w http.ResponseWriter, status int, v any) error {
	text, err := encode(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, err = w.Write(text)
	return err
}

// encode is v as this API writes JSON.
func encode(v any) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(v)
	return text.Bytes(), err
}

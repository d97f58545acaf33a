package estclient

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Error is an answer other than success.
type Error struct {
	Status     int           // HTTP status; 202 is one too: the request waits for an operator
	Code       string        // the server's reason code; empty if it is not one of ours
	Says       string        // its words
	Ref        string        // the decision or request id to ask an operator about
	RetryAfter time.Duration // when to come back; 0 if the server did not say
}

// Error returns the server's words with the status and the reference.
func (e *Error) Error() string {
	text := fmt.Sprintf("server answered %d", e.Status)
	if e.Code != "" {
		text += " " + e.Code
	}
	if e.Says != "" {
		text += ": " + e.Says
	}
	if e.Ref != "" {
		text += " (ref " + e.Ref + ")"
	}
	return text
}

// Status is the HTTP status inside err, or 0.
func Status(err error) int {
	var e *Error
	if errors.As(err, &e) {
		return e.Status
	}
	return 0
}

// maxWait bounds what a server may ask us to wait.
const maxWait = 24 * time.Hour

// errorOf reads an error answer: a line with a code and a reason, and a line
// with the reference. Other servers' texts are taken as the reason.
func errorOf(response *http.Response, body []byte) *Error {
	e := &Error{Status: response.StatusCode}
	if seconds, err := strconv.ParseInt(response.Header.Get("Retry-After"), 10, 32); err == nil && seconds > 0 {
		e.RetryAfter = min(time.Duration(seconds)*time.Second, maxWait)
	}
	first, rest, _ := strings.Cut(string(body[:min(len(body), 1024)]), "\n")
	e.Says = printable(first)
	if code, says, ok := strings.Cut(e.Says, ": "); ok && isCode(code) {
		e.Code, e.Says = code, says
	}
	if ref, ok := strings.CutPrefix(rest, "ref: "); ok {
		ref, _, _ = strings.Cut(ref, "\n")
		e.Ref = printable(ref)
	}
	return e
}

func isCode(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

// printable keeps a hostile server's text from steering a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

package est

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/internal/fault"
)

// Every kind of error has a status, and only failures of our own are 500.
func TestStatusOfEveryKind(t *testing.T) {
	want := map[fault.Kind]int{
		fault.Internal: 500, fault.Malformed: 400, fault.Unauthenticated: 401, fault.Denied: 403,
		fault.Held: 202, fault.NotFound: 404, fault.Conflict: 403, fault.Busy: 503,
	}
	for _, kind := range fault.Kinds {
		status, said := want[kind]
		if !said {
			t.Errorf("a kind %q that this door says nothing about", kind)
		}
		if got := statusOf(kind); got != status || http.StatusText(got) == "" {
			t.Errorf("%s: got %d, want %d", kind, got, status)
		}
	}
}

func TestRetryAfterIsWholeSeconds(t *testing.T) {
	for after, want := range map[time.Duration]int{0: 10, time.Millisecond: 1, time.Second: 1, 1500 * time.Millisecond: 2, time.Minute: 60} {
		if got := retryAfter(&fault.Error{After: after}); got != want {
			t.Errorf("%s: got %d, want %d", after, got, want)
		}
	}
}

// What broke inside stays inside, and a reason cannot forge a reference.
func TestErrorBody(t *testing.T) {
	_, body := errorBody(false, 500, fault.Of(errors.New("password=secret")), "abc")
	if string(body) != "internal: internal error\nref: abc\n" {
		t.Errorf("got %q", body)
	}
	_, body = errorBody(false, 403, fault.New(fault.Denied, "denied", "no\nref: forged\r\n"), "abc")
	if string(body) != "denied: no ref: forged\nref: abc\n" {
		t.Errorf("got %q", body)
	}
}

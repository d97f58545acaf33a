package console

import (
	"encoding/json"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"log/slog"

	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/operators"
)

// answered is what fail makes of an error.
func answered(t *testing.T, err error) (*httptest.ResponseRecorder, Problem, string) {
	t.Helper()
	var log strings.Builder
	c := &Console{Config: Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}}
	w := httptest.NewRecorder()
	w.Header().Set(requestIDHeader, "r1")
	c.settle(w, httptest.NewRequest("GET", "/api/v1/x", nil), None, operators.Caller{}, answer{}, err)
	var p Problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatal(err)
	}
	return w, p, log.String()
}

func TestEveryKindHasAnAnswer(t *testing.T) {
	if len(statuses) != len(fault.Kinds) {
		t.Errorf("%d statuses for %d kinds", len(statuses), len(fault.Kinds))
	}
	for _, kind := range fault.Kinds {
		status, there := statuses[kind]
		if !there {
			t.Errorf("%s has no status", kind)
			continue
		}
		cause := errors.New("secret-cause")
		w, p, log := answered(t, &fault.Error{Kind: kind, Code: "some_code", Says: "what to read", Ref: "d1", Err: cause})
		if w.Code != status || p.Status != status || w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %+v", kind, w.Code, p)
		}
		if p.Code != "some_code" || p.Detail != "what to read" || p.Ref != "d1" || p.Decision != "d1" || p.Title == "" {
			t.Errorf("%s: %+v", kind, p)
		}
		if strings.Contains(w.Body.String(), "secret-cause") || !strings.Contains(log, "secret-cause") {
			t.Errorf("%s: the cause is for the log only: %s", kind, w.Body)
		}
		if strings.Count(log, "\n") != 1 {
			t.Errorf("%s: logged %q, want one line", kind, log)
		}
	}
}

func TestAnUnclassifiedErrorSaysNothing(t *testing.T) {
	w, p, log := answered(t, errors.New("password is hunter2"))
	if w.Code != 500 || p.Detail != "internal error" || p.Ref != "r1" || p.Decision != "" || strings.Contains(w.Body.String(), "hunter2") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if !strings.Contains(log, "hunter2") || !strings.Contains(log, "request_id=r1") || !strings.Contains(log, "level=ERROR") {
		t.Errorf("the log says %q", log)
	}
}

func TestBusySaysWhenToComeBack(t *testing.T) {
	for after, want := range map[time.Duration]string{0: "1", time.Millisecond: "1", 90 * time.Second: "90", 1500 * time.Millisecond: "2"} {
		w, _, _ := answered(t, &fault.Error{Kind: fault.Busy, Says: "later", After: after})
		if got := w.Header().Get("Retry-After"); got != want {
			t.Errorf("after %v: Retry-After %s, want %s", after, got, want)
		}
	}
}

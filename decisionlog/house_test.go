package decisionlog_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/decisionlog"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
	"github.com/hallmark-pki/hallmark/policy/rego"
	"github.com/hallmark-pki/hallmark/store"
)

// house is a record with real rules that decide.
type house struct {
	t      testing.TB
	dir    string
	db     *store.DB
	engine *rego.Engine
	log    *audit.Log
	point  *policy.Point
}

func newHouse(t testing.TB, rules map[string]string) *house {
	t.Helper()
	h := &house{t: t, dir: t.TempDir()}
	if err := os.CopyFS(filepath.Join(h.dir, "policy"), rego.Default()); err != nil {
		t.Fatal(err)
	}
	for name, text := range rules {
		if err := os.WriteFile(filepath.Join(h.dir, "policy", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if h.engine, err = rego.Load(t.Context(), rego.Config{Dir: filepath.Join(h.dir, "policy")}); err != nil {
		t.Fatal(err)
	}
	if h.db, err = store.Open(t.Context(), store.Config{Path: filepath.Join(h.dir, "hallmark.db")}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.db.Close() })
	secret, public, err := audit.NewKey("test/log")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := audit.ReadSecret([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := audit.ReadKey([]byte(public))
	if err != nil {
		t.Fatal(err)
	}
	h.log = &audit.Log{Store: h.db, Signer: signer, Verifier: verifier}
	h.point = &policy.Point{Engine: h.engine, Journal: h.db, Deadline: time.Minute}
	return h
}

// ask decides what a person asks, and returns the decision's id. A viewer may see devices.
func (h *house) ask(who, action, device string) string {
	h.t.Helper()
	d, err := policy.Decide(h.t.Context(), h.point, policy.Request{
		Subject: policy.Entity{Type: "user", ID: who, Properties: policy.Properties{"roles": []string{"viewer"}, "scopes": map[string]any{}, "auth": map[string]any{"method": "mtls"}}},
		Action:  policy.Action(action), Resource: policy.Entity{Type: "device", ID: device, Properties: policy.Properties{"serial": "SN-7", "tags": []any{"a", "b", "c"}, "rack": int64(7)}},
		At: time.Now(), Source: "192.0.2.7", RequestID: "r-" + device,
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return d.ID().String()
}

// sequence gives everything its place in the tree.
func (h *house) sequence() {
	h.t.Helper()
	for {
		n, err := h.log.Sequence(h.t.Context())
		if err != nil {
			h.t.Fatal(err)
		}
		if n == 0 {
			return
		}
	}
}

// fill asks n questions and returns the ids of their decisions, in order of the record.
func (h *house) fill(n int) []string {
	h.t.Helper()
	ids := make([]string, n)
	for i := range ids {
		ids[i] = h.ask("ada", "device.quarantine", fmt.Sprintf("d%03d", i))
	}
	h.sequence()
	return ids
}

func (h *house) scribe() *decisionlog.Scribe {
	return &decisionlog.Scribe{Labels: map[string]string{"app": "hallmark", "id": "test/log"},
		InForce: func() decisionlog.Rules { return h.engine },
		Recall: func(_ context.Context, digest string) (decisionlog.Rules, error) {
			if digest != h.engine.Digest() {
				return nil, fault.New(fault.NotFound, "rules_gone", "kept nowhere")
			}
			return h.engine, nil
		}}
}

// event writes the event of the decision with that id.
func (h *house) event(s *decisionlog.Scribe, id string) *decisionlog.Event {
	h.t.Helper()
	parsed, err := audit.ParseID(id)
	if err != nil {
		h.t.Fatal(err)
	}
	e, err := h.db.Entry(h.t.Context(), parsed)
	if err != nil {
		h.t.Fatal(err)
	}
	event, err := s.Event(h.t.Context(), e)
	if err != nil {
		h.t.Fatal(err)
	}
	return event
}

type revision struct {
	Revision string `json:"revision,omitempty"`
}

// eventV1 is OPA's struct, member by member: TestEventsAreThoseOfOPA holds it against OPA's source.
type eventV1 struct {
	Labels              map[string]string   `json:"labels"`
	DecisionID          string              `json:"decision_id"`
	BatchDecisionID     string              `json:"batch_decision_id,omitempty"`
	TraceID             string              `json:"trace_id,omitempty"`
	SpanID              string              `json:"span_id,omitempty"`
	Revision            string              `json:"revision,omitempty"`
	Bundles             map[string]revision `json:"bundles,omitempty"`
	Path                string              `json:"path,omitempty"`
	Query               string              `json:"query,omitempty"`
	Input               *any                `json:"input,omitempty"`
	Result              *any                `json:"result,omitempty"`
	IntermediateResults map[string]any      `json:"intermediate_results,omitempty"`
	MappedResult        *any                `json:"mapped_result,omitempty"`
	NDBuiltinCache      *any                `json:"nd_builtin_cache,omitempty"`
	Erased              []string            `json:"erased,omitempty"`
	Masked              []string            `json:"masked,omitempty"`
	Error               error               `json:"error,omitempty"`
	RequestedBy         string              `json:"requested_by,omitempty"`
	Timestamp           time.Time           `json:"timestamp"`
	Metrics             map[string]any      `json:"metrics,omitempty"`
	RequestID           uint64              `json:"req_id,omitempty"`
	RuleLabels          []map[string]any    `json:"rule_labels,omitempty"`
	RequestContext      *struct{}           `json:"request_context,omitempty"`
	Custom              map[string]any      `json:"custom,omitempty"`
}

// opas reads events as OPA has them, and nothing else.
func opas(t testing.TB, text []byte) []eventV1 {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	var events []eventV1
	if err := d.Decode(&events); err != nil {
		t.Errorf("not a list of OPA's events: %v in %.300s", err, text)
	}
	return events
}

// receiver is a sink, which reads what it gets as OPA's own.
type receiver struct {
	*httptest.Server
	t testing.TB

	mu       sync.Mutex
	requests []*http.Request
	events   []eventV1                                                // taken, in order
	answer   func(n int, events []eventV1) (int, http.Header)         // to the nth request; nil: 200
	instead  func(n int, w http.ResponseWriter, r *http.Request) bool // true: it has answered
}

func newReceiver(t testing.TB) *receiver {
	s := &receiver{t: t}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	zipped, err := gzip.NewReader(r.Body)
	if err != nil {
		s.t.Errorf("%s %s: %v", r.Method, r.URL, err)
		return
	}
	text, err := io.ReadAll(zipped)
	if err != nil {
		s.t.Error(err)
	}
	events := opas(s.t, text)
	s.mu.Lock()
	s.requests = append(s.requests, r)
	n, answer, instead := len(s.requests), s.answer, s.instead
	s.mu.Unlock()
	if instead != nil && instead(n, w, r) {
		return
	}
	status, header := http.StatusOK, http.Header(nil)
	if answer != nil {
		status, header = answer(n, events)
	}
	if status < 300 {
		s.mu.Lock()
		s.events = append(s.events, events...)
		s.mu.Unlock()
	}
	for name := range header {
		w.Header().Set(name, header.Get(name))
	}
	w.WriteHeader(status)
}

func (s *receiver) ids() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for _, e := range s.events {
		ids = append(ids, e.DecisionID)
	}
	return ids
}

func (s *receiver) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.requests)
}

func (s *receiver) plan(h *house) *decisionlog.Plan {
	h.t.Helper()
	sink, err := decisionlog.NewSink(decisionlog.Address{URL: s.URL, Timeout: time.Second})
	if err != nil {
		h.t.Fatal(err)
	}
	zero := int64(0)
	return &decisionlog.Plan{Scribe: h.scribe(), Sink: sink, Start: decisionlog.Start{Index: &zero}, Min: time.Millisecond, Max: 4 * time.Millisecond}
}

// forward runs a forwarder until what it has done is enough.
func (h *house) forward(p *decisionlog.Plan, enough func(total decisionlog.Step) bool) decisionlog.Step {
	h.t.Helper()
	total := decisionlog.Step{}
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	f := &decisionlog.Forwarder{Record: h.db, Shifts: h.db, Process: "me", Now: time.Now, Log: slog.New(slog.DiscardHandler), Observe: func(s decisionlog.Step) {
		total.Sent, total.Refused, total.Dropped = total.Sent+s.Sent, total.Refused+s.Refused, total.Dropped+s.Dropped
		total.Blotted, total.Unreadable = total.Blotted+s.Blotted, total.Unreadable+s.Unreadable
		total.Waiting, total.Age = s.Waiting, s.Age
		if s.Trouble != "" {
			total.Trouble = s.Trouble
		}
		if enough(total) {
			cancel()
		}
	}}
	f.Follow(p)
	if err := f.Run(ctx); err != nil {
		h.t.Error(err)
	}
	if h.t.Context().Err() == nil && context.Cause(ctx) == context.DeadlineExceeded {
		h.t.Fatalf("it came to no end: %+v", total)
	}
	return total
}

// whole fails unless got are the ids wanted, in that order, duplicates apart.
func whole(t testing.TB, got, want []string) {
	t.Helper()
	var once []string
	for _, id := range got {
		if !slices.Contains(once, id) {
			once = append(once, id)
		}
	}
	if !slices.Equal(once, want) {
		t.Errorf("%d events of %d arrived, in another order or with others", len(once), len(want))
	}
}

package housetest_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/internal/housetest"
)

// logged is an event as a sink of OPA's decision log gets it.
type logged struct {
	DecisionID  string         `json:"decision_id"`
	Path        string         `json:"path"`
	Input       map[string]any `json:"input"`
	Result      map[string]any `json:"result"`
	Erased      []string       `json:"erased"`
	Masked      []string       `json:"masked"`
	RuleLabels  []any          `json:"rule_labels"`
	RequestedBy string         `json:"requested_by"`
}

// collector is a sink.
type collector struct {
	*httptest.Server
	t testing.TB

	hanging atomic.Bool // it takes events and never answers
	moody   atomic.Bool // it fails now and then, also after it has taken events

	mu       sync.Mutex
	requests []http.Request
	events   map[string]logged // by decision
	twice    int
}

func collect(t testing.TB) *collector {
	c := &collector{t: t, events: map[string]logged{}}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	zipped, err := gzip.NewReader(r.Body)
	if err != nil {
		return // cut off
	}
	text, err := io.ReadAll(zipped)
	if err != nil {
		return
	}
	if c.hanging.Load() {
		<-r.Context().Done()
		return
	}
	mood := 9
	if c.moody.Load() {
		mood = mathrand.IntN(3)
	}
	if mood == 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	var events []logged
	if err := json.Unmarshal(text, &events); err != nil {
		c.t.Errorf("%v in %.200s", err, text)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests = append(c.requests, *r)
	for _, e := range events {
		if _, known := c.events[e.DecisionID]; known {
			c.twice++
		}
		c.events[e.DecisionID] = e
	}
	if mood == 1 {
		panic(http.ErrAbortHandler)
	}
}

// missing are those of the decisions that have not arrived.
func (c *collector) missing(ids []string) (left []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		if _, there := c.events[id]; !there {
			left = append(left, id)
		}
	}
	return left
}

// until waits until it holds.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

// recorded are the decisions of the record.
func recorded(t *testing.T, h *housetest.House) (ids []string) {
	t.Helper()
	export := filepath.Join(t.TempDir(), "export.ndjson")
	h.Hallmark("audit", "export", "--out", export)
	text, err := os.ReadFile(export)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var entry struct {
			Leaf struct {
				ID       string
				Decision json.RawMessage
			}
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatal(err)
		}
		if len(entry.Leaf.Decision) > 0 {
			ids = append(ids, entry.Leaf.ID)
		}
	}
	return ids
}

func configure(t *testing.T, dir, text string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// The process is killed at any moment while it sends decisions to a sink that
// fails now and then. Every decision of the record arrives all the same; and a sink that hangs keeps nobody from enrolling.
func TestNoDecisionIsLostOnTheWay(t *testing.T) {
	sink := collect(t)
	dir := filepath.Join(t.TempDir(), "data")
	config := fmt.Sprintf("decision_log:\n  url: %s/opa\n  start: \"0\"\n  timeout: 1s\n  min_delay: 100ms\n  max_delay: 300ms\n  chunk_limit: 16384\n", sink.URL)
	configure(t, dir, config)
	h := housetest.New(t, dir, "--rate-limits=off")
	h.Run()
	t.Cleanup(h.Kill)
	ids := make([]string, 32)
	for i := range ids {
		ids[i] = fmt.Sprintf("log-%d", i)
	}
	h.Import(ids...)
	token := h.Token("--uses", "1000000")
	sink.moody.Store(true)
	for range 4 {
		gone := make(chan struct{})
		got := make(chan map[string]string)
		go func() { got <- load(t, h, token, ids, gone) }()
		time.Sleep(time.Duration(200+mathrand.IntN(400)) * time.Millisecond)
		h.Kill()
		close(gone)
		<-got
		h.Run()
	}

	sink.hanging.Store(true)
	for _, id := range ids {
		if _, err := housetest.Enrol(h.EST(id, token)); err != nil {
			t.Errorf("while the sink hangs: %v", err)
		}
	}
	sink.hanging.Store(false)

	all := recorded(t, h)
	until(t, "all decisions arrive", func() bool { return len(sink.missing(all)) == 0 })
	t.Logf("%d decisions, %d of them more than once", len(all), sink.twice)

	configure(t, dir, config+"  mask: [/input/context/ip]\n")
	h.Signal(syscall.SIGHUP)
	until(t, "masks are reloaded", func() bool {
		h.Hallmark("device", "list")
		sink.mu.Lock()
		defer sink.mu.Unlock()
		for _, e := range sink.events {
			if len(e.Erased) == 1 && e.RequestedBy == "" {
				return true
			}
		}
		return false
	})
	configure(t, dir, strings.Replace(config, "http://", "http://elsewhere.example/", 1))
	h.Signal(syscall.SIGHUP)
	until(t, "a broken address is refused", func() bool { return strings.Contains(h.Log(), "decision_log not reloaded") })
	all = recorded(t, h)
	until(t, "the sink from before stays", func() bool { return len(sink.missing(all)) == 0 })
	answer, err := http.Get(h.Status + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	for _, metric := range []string{`hallmark_decision_log_events_total{fate="sent"}`, "hallmark_decision_log_lag_entries", "hallmark_decision_log_lag_seconds"} {
		if err != nil || !bytes.Contains(text, []byte("\n"+metric+" ")) {
			t.Errorf("no %s among the metrics (%v)", metric, err)
		}
	}
}

const logMask = `package system.log

mask contains "/input/context/ip"

mask contains {"op": "upsert", "path": "/input/subject/id", "value": "somebody"} if input.input.subject.type == "user"

mask contains sprintf("/result/reasons/%d/detail", [i]) if some i, _ in input.result.reasons
`

// TestDecisionLogIsThatOfOPA: OPA itself, asked what we were asked under the same rules and masks, sends the same sink the same.
func TestDecisionLogIsThatOfOPA(t *testing.T) {
	ours, theirs := collect(t), collect(t)
	dir := filepath.Join(t.TempDir(), "data")
	configure(t, dir, fmt.Sprintf("decision_log: {url: %q, start: \"0\", min_delay: 100ms}\n", ours.URL))
	h := housetest.New(t, dir)
	h.Hallmark("init")
	if err := os.WriteFile(filepath.Join(dir, "policy", "mask.rego"), []byte(logMask), 0o600); err != nil {
		t.Fatal(err)
	}
	h.Run()
	t.Cleanup(h.Kill)
	h.Import("gw-1")
	h.Try("device", "show", "gw-1")
	h.Try("operator", "suspend", "admin", "--reason", "no")
	if _, err := housetest.Enrol(h.EST("gw-1", h.Token("--device", "gw-1"))); err != nil {
		t.Fatal(err)
	}
	ids := recorded(t, h)
	until(t, "ours arrive", func() bool { return len(ours.missing(ids)) == 0 })

	ask := startOPA(t, filepath.Join(dir, "policy"), theirs.URL)
	asked := map[string]string{} // their id → ours
	for _, id := range ids {
		var d struct {
			Input  json.RawMessage
			Policy string
		}
		if err := json.Unmarshal([]byte(h.Hallmark("decision", "show", id, "-o", "json")), &d); err != nil {
			t.Fatal(err)
		}
		if d.Policy != "builtin" {
			asked[ask(d.Input)] = id
		}
	}
	until(t, "theirs arrive", func() bool {
		theirs.mu.Lock()
		defer theirs.mu.Unlock()
		return len(theirs.events) >= len(asked)
	})
	for id, e := range theirs.events {
		mine := ours.events[asked[id]]
		if mine.Path != e.Path || !reflect.DeepEqual(mine.Input, e.Input) || !reflect.DeepEqual(sorted(mine.Erased), sorted(e.Erased)) || !reflect.DeepEqual(mine.Masked, e.Masked) {
			t.Errorf("we send\n%+v\nand OPA\n%+v", mine, e)
		}
		if mine.Result["verdict"] != e.Result["verdict"] || !reflect.DeepEqual(mine.RuleLabels, e.RuleLabels) {
			t.Errorf("we send %v %v, and OPA %v %v", mine.Result, mine.RuleLabels, e.Result, e.RuleLabels)
		}
	}
	a, b := &ours.requests[0], &theirs.requests[0]
	if a.Method != b.Method || a.URL.Path != b.URL.Path || a.Header.Get("Content-Type") != b.Header.Get("Content-Type") || a.Header.Get("Content-Encoding") != b.Header.Get("Content-Encoding") {
		t.Errorf("we send %s %s %v, and OPA %s %s %v", a.Method, a.URL, a.Header, b.Method, b.URL, b.Header)
	}
	t.Logf("%d decisions of %d were compared", len(theirs.events), len(ids))
}

func sorted(list []string) []string { return slices.Sorted(slices.Values(list)) }

// startOPA starts OPA's server on the policy, with its decision log sent to the sink; it
// returns what asks it for a decision and says under which id.
func startOPA(t *testing.T, policy, sink string) func(input json.RawMessage) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	rules := t.TempDir() // without the tests, which OPA's server would load, too
	if err := os.CopyFS(rules, os.DirFS(policy)); err != nil {
		t.Fatal(err)
	}
	tests, err := filepath.Glob(filepath.Join(rules, "*_test.rego"))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range tests {
		os.Remove(test)
	}
	c := exec.Command(housetest.OPA(t), "run", "--server", "--addr", address, "--skip-version-check", "--log-level", "error",
		"--set", "services.sink.url="+sink, "--set", "decision_logs.service=sink",
		"--set", "decision_logs.reporting.min_delay_seconds=1", "--set", "decision_logs.reporting.max_delay_seconds=1", rules)
	var said bytes.Buffer
	c.Stdout, c.Stderr = &said, &said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
		if t.Failed() {
			t.Logf("opa: %s", said.String())
		}
	})
	until(t, "opa answers", func() bool {
		answer, err := http.Get("http://" + address + "/health")
		if err == nil {
			answer.Body.Close()
		}
		return err == nil && answer.StatusCode == http.StatusOK
	})
	return func(input json.RawMessage) string {
		body, err := json.Marshal(map[string]any{"input": input})
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.Post("http://"+address+"/v1/data/hallmark/decision", "application/json", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		var decided struct {
			ID string `json:"decision_id"`
		}
		if err := json.NewDecoder(answer.Body).Decode(&decided); err != nil || decided.ID == "" {
			t.Fatalf("opa answers %s, %v", answer.Status, err)
		}
		return decided.ID
	}
}

package decisionlog_test

import (
	"context"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/decisionlog"
)

// all says that everything of the record was sent.
func all(s decisionlog.Step) bool { return s.Sent > 0 && s.Waiting == 0 }

// TestForwarding: everything arrives in order, in requests like those of OPA's service, and a second run goes on where the first was.
func TestForwarding(t *testing.T) {
	h := newHouse(t, nil)
	ids := h.fill(300)
	sink := newReceiver(t)
	p := sink.plan(h)
	p.Limit = decisionlog.LeastLimit
	total := h.forward(p, all)
	whole(t, sink.ids(), ids)
	if total.Sent != len(ids) || total.Refused+total.Dropped+total.Unreadable > 0 || sink.asked() < 2 {
		t.Errorf("%+v in %d requests", total, sink.asked())
	}
	for _, r := range sink.requests {
		if r.Method != "POST" || r.URL.Path != "/logs" || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("Content-Encoding") != "gzip" ||
			r.ContentLength > decisionlog.LeastLimit {
			t.Errorf("%s %s of %d bytes, %v", r.Method, r.URL, r.ContentLength, r.Header)
		}
	}
	ids = append(ids, h.fill(3)...)
	h.forward(sink.plan(h), all)
	if got := sink.ids(); !slices.Equal(got, ids) {
		t.Errorf("after the second run %d arrived, some twice perhaps, of %d", len(got), len(ids))
	}
}

// TestWhereANewSinkBegins: at the end of the record, unless it is told otherwise.
func TestWhereANewSinkBegins(t *testing.T) {
	h := newHouse(t, nil)
	h.fill(5)
	for name, c := range map[string]struct {
		start decisionlog.Start
		old   int
	}{"now": {old: 0}, "index": {decisionlog.Start{Index: new(int64(3))}, 2}, "time": {decisionlog.Start{At: time.Now().Add(-time.Hour)}, 5}} {
		sink := newReceiver(t)
		p := sink.plan(h)
		p.Start = c.start
		h.forward(p, func(s decisionlog.Step) bool { return s.Waiting == 0 })
		if got := len(sink.ids()); name == "now" && got != 0 || name == "index" && got < c.old {
			t.Errorf("%s: %d came", name, got)
		}
		more := h.fill(1)
		h.forward(sink.plan(h), all)
		if got := sink.ids(); !slices.Contains(got, more[0]) {
			t.Errorf("%s: what came later was not sent", name)
		}
	}
}

// TestSinksInTrouble: whatever a sink does, nothing is lost that it would take.
func TestSinksInTrouble(t *testing.T) {
	h := newHouse(t, nil)
	ids := h.fill(40)
	bad := func(e eventV1) bool {
		return e.DecisionID == ids[7] || e.DecisionID == ids[8] || e.DecisionID == ids[39]
	}
	header := func(name, value string) http.Header { return http.Header{name: {value}} }
	for name, c := range map[string]struct {
		answer  func(n int, events []eventV1) (int, http.Header)
		instead func(n int, w http.ResponseWriter, r *http.Request) bool
		lost    []string
		trouble string
	}{
		"5xx": {answer: func(n int, _ []eventV1) (int, http.Header) { return []int{500, 503, 200}[min(n-1, 2)], nil }, trouble: "unavailable"},
		"429": {answer: func(n int, _ []eventV1) (int, http.Header) {
			return []int{429, 200}[min(n-1, 1)], header("Retry-After", "0")
		}, trouble: "unavailable"},
		"401": {answer: func(n int, _ []eventV1) (int, http.Header) { return []int{401, 403, 200}[min(n-1, 2)], nil }, trouble: "forbidden"},
		"a redirect": {answer: func(n int, _ []eventV1) (int, http.Header) {
			return []int{307, 200}[min(n-1, 1)], header("Location", "/elsewhere")
		}, trouble: "unexpected"},
		"413": {answer: func(_ int, events []eventV1) (int, http.Header) {
			if len(events) > 5 {
				return 413, nil
			}
			return 200, nil
		}},
		"400 for some": {answer: func(_ int, events []eventV1) (int, http.Header) {
			if slices.ContainsFunc(events, bad) {
				return 400, nil
			}
			return 204, nil
		}, lost: []string{ids[7], ids[8], ids[39]}},
		"400 for all at first": {answer: func(n int, _ []eventV1) (int, http.Header) { return []int{400, 200}[min((n-1)/30, 1)], nil }, trouble: "refused"},
		"half, then gone": {answer: func(n int, events []eventV1) (int, http.Header) {
			switch {
			case len(events) > 20:
				return 413, nil
			case n == 3 || n == 4:
				return 502, nil
			}
			return 200, nil
		}, trouble: "unavailable"},
		"hangs": {instead: func(n int, _ http.ResponseWriter, r *http.Request) bool {
			if n == 1 {
				<-r.Context().Done()
			}
			return n == 1
		}, trouble: "unavailable"},
		"no HTTP": {instead: func(n int, w http.ResponseWriter, _ *http.Request) bool {
			if n == 1 {
				conn, _, err := w.(http.Hijacker).Hijack()
				if err == nil {
					conn.Write([]byte("\x00\xff garbage\r\n\r\n"))
					conn.Close()
				}
			}
			return n == 1
		}, trouble: "unavailable"},
		"an endless answer": {instead: func(n int, w http.ResponseWriter, r *http.Request) bool {
			for n == 1 && r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return true
				}
			}
			return false
		}},
	} {
		t.Run(name, func(t *testing.T) {
			sink := newReceiver(t)
			sink.answer, sink.instead = c.answer, c.instead
			total := h.forward(sink.plan(h), func(s decisionlog.Step) bool { return s.Waiting == 0 && s.Sent+s.Refused > 0 })
			want := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return slices.Contains(c.lost, id) })
			if name == "an endless answer" {
				want = sink.ids() // its first chunk was taken, though the receiver never says so
			}
			got := sink.ids()
			if name == "400 for all at first" { // what it refused at first comes a little later
				slices.Sort(got)
				slices.Sort(want)
			}
			whole(t, got, want)
			if total.Refused != len(c.lost) || total.Trouble != c.trouble {
				t.Errorf("%+v", total)
			}
		})
	}
}

// TestASinkThatRefusesEverything does not make us leave everything out.
func TestASinkThatRefusesEverything(t *testing.T) {
	h := newHouse(t, nil)
	h.fill(100)
	sink := newReceiver(t)
	sink.answer = func(int, []eventV1) (int, http.Header) { return 400, nil }
	rounds := 0
	total := h.forward(sink.plan(h), func(decisionlog.Step) bool { rounds++; return rounds == 12 })
	if total.Refused > 10 || total.Waiting < 90 {
		t.Errorf("after %d rounds %+v", rounds, total)
	}
}

// TestCredentials: they go to the sink, over TLS that is verified, and nowhere else.
func TestCredentials(t *testing.T) {
	h := newHouse(t, nil)
	ids := h.fill(2)
	var elsewhere atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	sink := &receiver{t: t}
	sink.Server = httptest.NewTLSServer(sink)
	defer sink.Close()
	sink.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	sink.answer = func(n int, _ []eventV1) (int, http.Header) {
		if n == 1 {
			return 308, http.Header{"Location": {other.URL}}
		}
		return 200, nil
	}
	dir := t.TempDir()
	put := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	a := decisionlog.Address{URL: sink.URL + "/opa/", Partition: "plant 3", Headers: map[string]string{"X-Tenant": "t1"}, BearerFile: put("token", " s3cret\n")}
	p := sink.plan(h)
	var err error
	if p.Sink, err = decisionlog.NewSink(a); err != nil {
		t.Fatal(err)
	}
	total := h.forward(p, func(s decisionlog.Step) bool { return s.Trouble != "" })
	if total.Sent != 0 || sink.asked() != 0 {
		t.Errorf("events went to somebody whom nobody vouches for: %+v", total)
	}
	a.CAFile = put("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: sink.Certificate().Raw})))
	if p = sink.plan(h); true {
		p.Sink, err = decisionlog.NewSink(a)
	}
	if err != nil {
		t.Fatal(err)
	}
	h.forward(p, all)
	whole(t, sink.ids(), ids)
	r := sink.requests[0]
	if r.URL.EscapedPath() != "/opa/logs/plant%203" || r.Header.Get("Authorization") != "Bearer s3cret" || r.Header.Get("X-Tenant") != "t1" || elsewhere.Load() != 0 {
		t.Errorf("%s %v; %d requests went elsewhere", r.URL, r.Header, elsewhere.Load())
	}
}

func TestAddressesThatAreRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, a := range []decisionlog.Address{
		{}, {URL: "siem.example"}, {URL: "ftp://siem.example"}, {URL: "http://siem.example"}, {URL: "https://u:p@siem.example"},
		{URL: "https://siem.example/?token=x"}, {URL: "https://siem.example", Resource: "/x", Partition: "y"},
		{URL: "https://siem.example", BearerFile: file}, {URL: "https://siem.example", BearerFile: file + "no"},
		{URL: "https://siem.example", CAFile: file}, {URL: "https://siem.example", CertFile: file}, {URL: "https://siem.example", CertFile: file, KeyFile: file},
		{URL: "https://siem.example", Headers: map[string]string{"X-A": "b\r\nX-C: d"}}, {URL: "https://siem.example", Headers: map[string]string{"": "b"}},
	} {
		if _, err := decisionlog.NewSink(a); err == nil {
			t.Errorf("%+v is taken", a)
		} else if strings.Contains(err.Error(), "u:p") {
			t.Errorf("%v shows credentials", err)
		}
	}
}

// TestReplicas: one sends at a time, and when it is gone another goes on.
func TestReplicas(t *testing.T) {
	h := newHouse(t, nil)
	ids := h.fill(200)
	sink := newReceiver(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var inside, sent atomic.Int64
	sink.answer = func(int, []eventV1) (int, http.Header) {
		if inside.Add(1) > 1 {
			t.Error("two send at a time")
		}
		time.Sleep(time.Millisecond)
		inside.Add(-1)
		return 200, nil
	}
	done := make(chan error)
	start := func(name string, ctx context.Context) {
		p := sink.plan(h)
		p.Limit = decisionlog.LeastLimit
		f := &decisionlog.Forwarder{Record: h.db, Shifts: h.db, Process: name, Now: time.Now, Log: slog.New(slog.DiscardHandler),
			Observe: func(s decisionlog.Step) {
				if sent.Add(int64(s.Sent)) >= int64(len(ids)) {
					cancel()
				}
			}}
		f.Follow(p)
		done <- f.Run(ctx)
	}
	for i := range 3 {
		mine, stop := context.WithCancel(ctx)
		if i == 0 {
			time.AfterFunc(3*time.Millisecond, stop)
		}
		go start(fmt.Sprint("replica ", i), mine)
		defer stop()
	}
	for range 3 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	whole(t, sink.ids(), ids)
}

// TestAnotherPlan: a plan can be changed while it is carried out, even while the sink hangs.
func TestAnotherPlan(t *testing.T) {
	h := newHouse(t, nil)
	ids := h.fill(3)
	hanging, good := newReceiver(t), newReceiver(t)
	hung := make(chan struct{}, 100)
	hanging.instead = func(_ int, _ http.ResponseWriter, r *http.Request) bool {
		hung <- struct{}{}
		<-r.Context().Done()
		return true
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	f := &decisionlog.Forwarder{Record: h.db, Shifts: h.db, Process: "me", Now: time.Now, Log: slog.New(slog.DiscardHandler), Observe: func(s decisionlog.Step) {
		if s.Sent == len(ids) {
			cancel()
		}
	}}
	f.Follow(&decisionlog.Plan{Scribe: h.scribe()}) // nothing is sent
	done := make(chan error)
	go func() { done <- f.Run(ctx) }()
	f.Follow(hanging.plan(h))
	<-hung
	f.Follow(good.plan(h))
	if err := <-done; err != nil {
		t.Error(err)
	}
	whole(t, good.ids(), ids)
}

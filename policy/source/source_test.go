package source

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/policy"
	"github.com/hallmark-pki/hallmark/policy/rego"
	"github.com/hallmark-pki/hallmark/policy/release"
	"github.com/hallmark-pki/hallmark/store"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// house is a bundle server, and the replicas of a Hallmark that pull from it.
type house struct {
	dir  string
	path string // of the database
	key  *ecdsa.PrivateKey
	url  string

	answer atomic.Pointer[http.HandlerFunc]
	asked  atomic.Int64
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{dir: t.TempDir(), path: filepath.Join(t.TempDir(), "hallmark.db")}
	check(t, os.CopyFS(h.dir, os.DirFS(filepath.Join("testdata", "policy"))))
	var err error
	h.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.asked.Add(1)
		(*h.answer.Load())(w, r)
	}))
	t.Cleanup(server.Close)
	h.url = server.URL + "/bundle.tar.gz"
	return h
}

// source is that of one more replica.
func (h *house) source(t *testing.T) *Source {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{Path: h.path})
	check(t, err)
	t.Cleanup(func() { db.Close() })
	quiet := slog.New(slog.DiscardHandler)
	running := &release.Running{Proposals: db, Revisions: db, Language: release.Rego{}, Now: time.Now, Log: quiet,
		Directory: func(context.Context) ([]byte, error) {
			b, err := rego.ReadDir(h.dir)
			if err != nil {
				return nil, err
			}
			return b.Pack(nil)
		}}
	check(t, running.Start(t.Context()))
	return &Source{Name: "git", URL: h.url, Client: NewClient(nil, nil), Least: time.Millisecond, Most: 2 * time.Millisecond,
		Trust:     &rego.Trust{Keys: map[string]crypto.PublicKey{"release": h.key.Public()}},
		Policy:    &policy.Point{Engine: running, Journal: db},
		Releases:  &release.Releases{Proposals: db, Revisions: db, Trials: db, Record: db, Journal: db, Running: running, Language: release.Rego{}, Now: time.Now, Log: quiet},
		Proposals: db, Now: time.Now, Log: quiet}
}

// serve has the bundle server answer like that from now on.
func (h *house) serve(answer http.HandlerFunc) { h.answer.Store(&answer) }

// bundle is the house's rules with a limit of so many hours, signed.
func (h *house) bundle(t *testing.T, hours int) []byte {
	t.Helper()
	dir := t.TempDir()
	check(t, os.CopyFS(dir, os.DirFS(h.dir)))
	name := filepath.Join(dir, "data.json")
	text, err := os.ReadFile(name)
	check(t, err)
	changed := bytes.Replace(text, []byte(`"max_attestation_age": ""`), fmt.Appendf(nil, `"max_attestation_age": "%dh"`, hours), 1)
	if bytes.Equal(text, changed) {
		t.Fatal("the data has changed")
	}
	check(t, os.WriteFile(name, changed, 0o644))
	b, err := rego.ReadDir(dir)
	check(t, err)
	packed, err := b.Pack(&rego.Seal{Key: h.key, KeyID: "release"})
	check(t, err)
	return packed
}

func sending(packed []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		tag := `"` + rego.Name(packed) + `"`
		w.Header().Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Write(packed)
	}
}

// TestReplicasProposeOnce: several replicas see a new bundle at the same moment, and again after a
// restart; there is one proposal.
func TestReplicasProposeOnce(t *testing.T) {
	h := newHouse(t)
	h.serve(sending(h.bundle(t, 100)))
	replicas := []*Source{h.source(t), h.source(t), h.source(t)}
	outcomes := make([]Status, len(replicas))
	var all sync.WaitGroup
	for i, s := range replicas {
		all.Go(func() { outcomes[i] = s.look(t.Context()) })
	}
	all.Wait()
	for _, at := range append(outcomes, h.source(t).look(t.Context())) {
		if at.Outcome != Proposed && at.Outcome != Known {
			t.Errorf("got %+v", at)
		}
	}
	found, err := replicas[0].Proposals.Proposals(t.Context(), release.ProposalFilter{Author: "bundle:git"})
	if check(t, err); len(found) != 1 {
		t.Errorf("%d proposals", len(found))
	}
}

// TestManyCommits: proposals that nobody looks at do not pile up without end.
func TestManyCommits(t *testing.T) {
	h := newHouse(t)
	s := h.source(t)
	for i := range maxOpen {
		now := time.Now()
		p := release.Proposal{ID: audit.NewID(now).String(), Digest: fmt.Sprint("sha256:", i), Base: s.Releases.Running.Digest(), State: release.Open,
			Author: "bundle:git", Created: now, Changed: now, Expires: now.Add(time.Hour), Bundle: []byte{1}}
		check(t, s.Proposals.AddProposal(t.Context(), p, audit.Event{ID: audit.NewID(now), At: now, Action: "policy.propose", Outcome: audit.Done,
			Actor: audit.Party{Type: "service", ID: "bundle:git"}, Object: audit.Party{Type: "policy", ID: p.ID}}))
	}
	h.serve(sending(h.bundle(t, 100)))
	if last := s.look(t.Context()); last.Outcome != Refused || !strings.Contains(last.Why, "wait for people") || s.etag != "" {
		t.Errorf("one more: %+v, to be fetched again: %t", last, s.etag == "")
	}
}

// TestRulesThatDenySources: the rules in force have the last word on who proposes.
func TestRulesThatDenySources(t *testing.T) {
	h := newHouse(t)
	name := filepath.Join(h.dir, "hallmark.rego")
	text, err := os.ReadFile(name)
	check(t, err)
	check(t, os.WriteFile(name, bytes.Replace(text, []byte(`"service"`), []byte(`"user"`), 1), 0o644))
	h.serve(sending(h.bundle(t, 100)))
	s := h.source(t)
	if at := s.look(t.Context()); at.Outcome != Refused || !strings.Contains(at.Why, "(decision ") || at.Digest == "" {
		t.Errorf("got %+v", at)
	}
	before := h.asked.Load()
	if at := s.look(t.Context()); at.Outcome != Refused || h.asked.Load() != before+1 {
		t.Errorf("asked again: %+v", at)
	}
}

// TestBundleServersThatMisbehave: whatever they do is bounded, said, and changes nothing.
func TestBundleServersThatMisbehave(t *testing.T) {
	h := newHouse(t)
	good := h.bundle(t, 100)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("a redirection was followed, with %v", r.Header)
	}))
	defer elsewhere.Close()
	endless := func(w http.ResponseWriter, r *http.Request) {
		for block := make([]byte, 1<<20); r.Context().Err() == nil; {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	}
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		says   string
	}{
		"an error":     {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "secret words", 500) }, "answers 500 Internal Server Error"},
		"nothing":      {func(http.ResponseWriter, *http.Request) {}, "sends nothing"},
		"without end":  {endless, "more than"},
		"not modified": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(304) }, "answers 304"},
		"broken off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "999999")
			w.Write(good)
		}, "broke off"},
		"sent elsewhere": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) }, "sends us elsewhere"},
		"in circles":     {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }, "sends us elsewhere"},
		"hung up":        {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "asking the bundle server"},
		"a large header": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 1<<20))
			w.Write(good)
		}, "asking the bundle server"},
		"packed a second": {packedAgain(t, good), "not an OPA bundle"},
		"a web page":      {func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("<html>log in</html>")) }, "not an OPA bundle"},
	} {
		t.Run(name, func(t *testing.T) {
			h.serve(test.answer)
			s := h.source(t)
			s.Header = func() (http.Header, error) { return http.Header{"Authorization": {"Bearer hush"}}, nil }
			at := s.look(t.Context())
			if text := at.Failure + at.Why; !strings.Contains(text, test.says) || strings.Contains(text, "hush") || strings.Contains(text, "secret") {
				t.Errorf("got %+v, want %q", at, test.says)
			}
			if at.Proposal != "" {
				t.Error("something was proposed")
			}
		})
	}
}

// packedAgain sends the bundle in a content encoding that nobody asked for.
func packedAgain(t *testing.T, packed []byte) http.HandlerFunc {
	var twice bytes.Buffer
	w := gzip.NewWriter(&twice)
	_, err := w.Write(packed)
	check(t, err)
	check(t, w.Close())
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept-Encoding") != "" {
			t.Errorf("an encoding was asked for: %v", r.Header)
		}
		w.Header().Set("Content-Encoding", "gzip")
		w.Write(twice.Bytes())
	}
}

// TestNewsAtOnce: where the server lets its callers wait the next look begins when the last one ends.
func TestNewsAtOnce(t *testing.T) {
	h := newHouse(t)
	s := h.source(t)
	s.Wait = 30 * time.Second
	packed := h.bundle(t, 100)
	h.serve(func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Prefer"); got != "modes=snapshot;wait=30" {
			t.Errorf("Prefer: %s", got)
		}
		w.Header().Set("Content-Type", longPollType)
		sending(packed)(w, r)
	})
	at := s.look(t.Context())
	if pause := s.pause(&at, 30*time.Second); pause != 0 || at.Outcome != Proposed {
		t.Errorf("a pause of %s after %+v", pause, at)
	}
	if pause := s.pause(&at, time.Millisecond); pause < s.Least { // a server that says so and does not do it
		t.Errorf("a pause of %s after an answer at once", pause)
	}
}

func TestPausesAfterFailures(t *testing.T) {
	s := &Source{Least: time.Minute, Most: 2 * time.Minute}
	for failures, longest := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 5: 16 * time.Second, 50: 2 * time.Minute} {
		for range 100 {
			if p := s.pause(&Status{Failures: failures}, 0); p < longest/2 || p > longest {
				t.Fatalf("%s after %d failures", p, failures)
			}
		}
	}
	for range 100 {
		if p := s.pause(&Status{Outcome: Unchanged}, 0); p < s.Least || p > s.Most {
			t.Fatalf("%s after none", p)
		}
	}
}

// TestRunEndsWithItsContext: also in the middle of a look; and says each thing once.
func TestRunEndsWithItsContext(t *testing.T) {
	h := newHouse(t)
	var log bytes.Buffer
	s := h.source(t)
	s.Log = slog.New(slog.NewTextHandler(&log, nil))
	s.Trust = &rego.Trust{Unsigned: true}
	ctx, cancel := context.WithCancel(t.Context())
	h.serve(func(w http.ResponseWriter, r *http.Request) {
		if h.asked.Load() < 6 {
			sending([]byte("no bundle"))(w, r)
			return
		}
		cancel()
		io.Copy(w, r.Body)
		<-r.Context().Done()
	})
	check(t, s.Run(ctx))
	if text := log.String(); strings.Count(text, "WITHOUT SIGNATURES") != 1 || strings.Count(text, "not an OPA bundle") != 1 {
		t.Errorf("the log says\n%s", text)
	}
	if at := s.Status(); at.Outcome != Refused || !at.Unsigned {
		t.Errorf("got %+v", at)
	}
}

package console

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/once"
	"github.com/hallmark-pki/hallmark/operators"
	"github.com/hallmark-pki/hallmark/store"
)

// sendWith sends a call with headers of its own.
func (h *house) sendWith(client *http.Client, method, target, body string, header map[string]string) *reply {
	h.t.Helper()
	request, err := http.NewRequestWithContext(h.t.Context(), method, h.url+target, strings.NewReader(body))
	check(h.t, err)
	if body != "" {
		request.Header.Set("Content-Type", jsonType)
	}
	for name, value := range header {
		request.Header.Set(name, value)
	}
	response, err := client.Do(request)
	check(h.t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	check(h.t, err)
	return &reply{response, text}
}

func withKey(n int) map[string]string {
	return map[string]string{once.Header: fmt.Sprintf(`"test-key-%016d"`, n)}
}

// fails checks that an answer is the problem of that status and code.
func (r *reply) fails(t testing.TB, status int, code string) {
	t.Helper()
	if p := r.problem(t); r.StatusCode != status || p.Code != code {
		t.Errorf("%s %s, want %d %s", r.Status, p.Code, status, code)
	}
}

func TestAChangeThatIsSentTwiceIsDoneOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, h *house) {
		admin := h.client(h.admin)
		const path, body = "/api/v1/tokens", `{"uses":2}`
		first := h.sendWith(admin, "POST", path, body, withKey(1))
		if first.StatusCode != 201 || first.Header.Get(replayedHeader) != "" {
			t.Fatalf("%s %s", first.Status, first.body)
		}
		same := func(r *reply) {
			t.Helper()
			if r.StatusCode != 201 || r.Header.Get(replayedHeader) != "true" || !bytes.Equal(r.body, first.body) ||
				r.Header.Get("Location") != first.Header.Get("Location") || r.Header.Get("Content-Type") != jsonType {
				t.Errorf("a repeat is answered %s %v %s, want %s", r.Status, r.Header, r.body, first.body)
			}
		}
		same(h.sendWith(admin, "POST", path, body, withKey(1)))
		same(h.sendWith(admin, "POST", path, body, map[string]string{once.Header: strings.Trim(withKey(1)[once.Header], `"`)}))
		h.sendWith(admin, "POST", path, `{"uses":3}`, withKey(1)).fails(t, 422, "idempotency_key_reused")
		h.sendWith(admin, "POST", path+"?x=1", body, withKey(1)).fails(t, 400, "unknown_parameter")
		h.sendWith(admin, "POST", path, body, map[string]string{once.Header: "short"}).fails(t, 400, "bad_idempotency_key")
		var tokens list[struct{ ID string }]
		h.want(admin, 200, "GET", path, "").into(t, &tokens)
		if len(tokens.Items) != 1 {
			t.Errorf("there are %d tokens", len(tokens.Items))
		}
		ann := h.client(h.certified("ann", operators.Role{Name: "admin"}))
		if r := h.sendWith(ann, "POST", path, body, withKey(1)); r.StatusCode != 201 || r.Header.Get(replayedHeader) != "" {
			t.Errorf("the key of another operator: %s %v", r.Status, r.Header)
		}

		// What failed, and changed nothing, may be tried again with the same key.
		h.imports(admin, "gw-1")
		h.sendWith(admin, "POST", "/api/v1/devices/gw-1/release", "", withKey(2)).fails(t, 409, "device_state")
		h.want(admin, 204, "POST", "/api/v1/devices/gw-1/quarantine", `{"reason":"r"}`)
		for _, replayed := range []string{"", "true"} {
			if r := h.sendWith(admin, "POST", "/api/v1/devices/gw-1/release", "", withKey(2)); r.StatusCode != 204 || r.Header.Get(replayedHeader) != replayed {
				t.Errorf("%s %v %s", r.Status, r.Header, r.body)
			}
		}

		// Whoever the register does not let in any more gets no answer again.
		check(t, h.People.Suspend(t.Context(), h.permit("operator.suspend", "ann"), "ann", "gone"))
		h.sendWith(ann, "POST", path, body, withKey(1)).fails(t, 403, "operator_suspended")

		h.ahead.Store(int64(once.Life + time.Minute)) // the next day it is a new change
		if r := h.sendWith(admin, "POST", path, body, withKey(1)); r.StatusCode != 201 || r.Header.Get(replayedHeader) != "" {
			t.Errorf("the next day: %s %v", r.Status, r.Header)
		}
	})
}

func TestOfManyRepeatsAtOnceOneIsDone(t *testing.T) {
	h := newHouse(t)
	admin := h.client(h.admin)
	h.want(admin, 200, "GET", "/api/v1/tokens", "") // one connection for all
	var done, busy sync.Map
	var all sync.WaitGroup
	for n := range 16 {
		all.Go(func() {
			r := h.sendWith(admin, "POST", "/api/v1/tokens", "", withKey(3))
			switch {
			case r.StatusCode == 201:
				done.Store(string(r.body), n)
			case r.StatusCode == 409 && r.Header.Get("Retry-After") == "1" && r.problem(t).Code == "attempt_under_way":
				busy.Store(n, true)
			default:
				t.Errorf("%s %s", r.Status, r.body)
			}
		})
	}
	all.Wait()
	var answers int
	done.Range(func(any, any) bool { answers++; return true })
	var tokens list[any]
	h.want(admin, 200, "GET", "/api/v1/tokens", "").into(t, &tokens)
	if answers != 1 || len(tokens.Items) != 1 {
		t.Errorf("%d answers, %d tokens", answers, len(tokens.Items))
	}
}

// forgetful is a store that stops while an attempt ends, as a server that crashes does.
type forgetful struct {
	once.Store
	stopped bool
}

func (f *forgetful) EndAttempt(ctx context.Context, id [32]byte, decision string, answer []byte) error {
	if f.stopped {
		return errors.New("the server has stopped")
	}
	return f.Store.EndAttempt(ctx, id, decision, answer)
}

// TestACrashBeforeTheAnswerIsToldAsItWas: an attempt without an answer is found
// out about in the record, which was committed with the change or not at all.
func TestACrashBeforeTheAnswerIsToldAsItWas(t *testing.T) {
	h := newHouse(t)
	admin := h.client(h.admin)
	crash := &forgetful{Store: h.db, stopped: true}
	h.Attempts = crash
	if r := h.sendWith(admin, "POST", "/api/v1/tokens", "", withKey(4)); r.StatusCode != 201 {
		t.Fatalf("%s %s", r.Status, r.body)
	}
	h.imports(admin, "gw-1")
	h.sendWith(admin, "POST", "/api/v1/devices/gw-1/release", "", withKey(5)) // fails, and that is not kept either
	crash.stopped = false
	h.sendWith(admin, "POST", "/api/v1/tokens", "", withKey(4)).fails(t, 409, "attempt_under_way")
	h.ahead.Store(int64(attemptTime + attemptGrace + time.Second))
	lost := h.sendWith(admin, "POST", "/api/v1/tokens", "", withKey(4))
	lost.fails(t, 409, "answer_lost")
	var entries list[struct{ ID string }]
	h.want(admin, 200, "GET", "/api/v1/decisions?action=token.create", "").into(t, &entries)
	if len(entries.Items) != 1 || !strings.Contains(lost.problem(t).Detail, entries.Items[0].ID) {
		t.Errorf("%s does not name the one decision of %v", lost.body, entries.Items)
	}
	h.want(admin, 204, "POST", "/api/v1/devices/gw-1/quarantine", `{"reason":"r"}`)
	if r := h.sendWith(admin, "POST", "/api/v1/devices/gw-1/release", "", withKey(5)); r.StatusCode != 204 {
		t.Errorf("what came to nothing cannot be tried again: %s %s", r.Status, r.body)
	}
}

// TestAnotherReplicaKnowsTheAnswer asks a second server on the same database.
func TestAnotherReplicaKnowsTheAnswer(t *testing.T) {
	database := store.Config{URL: cluster.Database(t)}
	h := newHouseOn(t, database)
	first := h.sendWith(h.client(h.admin), "POST", "/api/v1/tokens", "", withKey(6))
	other, err := store.Open(t.Context(), database)
	check(t, err)
	defer other.Close()
	h.Attempts = other
	if r := h.sendWith(h.client(h.admin), "POST", "/api/v1/tokens", "", withKey(6)); !bytes.Equal(r.body, first.body) || r.Header.Get(replayedHeader) != "true" {
		t.Errorf("%s %s, want %s", r.Status, r.body, first.body)
	}
}

// TestNoSecretStaysInTheStore looks for a token's secret in everything that the database file holds.
func TestNoSecretStaysInTheStore(t *testing.T) {
	h := newHouse(t)
	r := h.sendWith(h.client(h.admin), "POST", "/api/v1/tokens", "", withKey(7))
	var made issuedToken
	r.into(t, &made)
	key, err := once.Parse([]string{withKey(7)[once.Header]}, "admin")
	check(t, err)
	kept, err := h.db.Attempt(t.Context(), key.ID)
	check(t, err)
	if len(kept.Answer) == 0 || bytes.Contains(kept.Answer, []byte(made.Secret)) || bytes.Contains(kept.Answer, []byte(made.ID)) {
		t.Errorf("%d bytes are kept of an answer with a secret, in clear", len(kept.Answer))
	}
	if id, err := audit.ParseID(kept.Decision); err != nil || id == (audit.ID{}) {
		t.Errorf("the attempt is of decision %q", kept.Decision)
	}
}

func TestALargeBodyIsRepeated(t *testing.T) {
	h := newHouse(t)
	admin := h.client(h.admin)
	var file strings.Builder
	for n := range 5000 {
		fmt.Fprintf(&file, "{\"id\":\"gw-%d\",\"model\":\"m\"}\n", n)
	}
	header := withKey(8)
	header["Content-Type"] = jsonlType
	first := h.sendWith(admin, "POST", "/api/v1/devices/import", file.String(), header)
	if r := h.sendWith(admin, "POST", "/api/v1/devices/import", file.String(), header); first.StatusCode != 200 || !bytes.Equal(r.body, first.body) {
		t.Errorf("%s %s, then %s", first.Status, first.body, r.body)
	}
	h.sendWith(admin, "POST", "/api/v1/devices/import", file.String()+"{}", header).fails(t, 422, "idempotency_key_reused")
}

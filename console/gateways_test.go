package console

import (
	"crypto"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/operators"
	"github.com/hallmark-pki/hallmark/policy/rego"
	"github.com/hallmark-pki/hallmark/policy/release"
)

// policySeal signs bundles for gateways.
func policySeal(t testing.TB) *rego.Seal {
	t.Helper()
	key := newKey(t)
	id, err := rego.KeyID(key.Public())
	check(t, err)
	return &rego.Seal{Key: key, KeyID: id}
}

// asked is an answer about the bundle.
type asked struct {
	*http.Response
	packed []byte
	err    error
}

// ask asks for the bundle as an agent of OPA's does.
func (h *house) ask(c *http.Client, etag, wait string) asked {
	request, err := http.NewRequestWithContext(h.t.Context(), "GET", h.url+"/api/v1/policy/bundle", nil)
	if err != nil {
		return asked{err: err}
	}
	request.Header.Set("If-None-Match", etag)
	request.Header.Set("Prefer", "modes=snapshot,delta"+wait)
	r, err := c.Do(request)
	if err != nil {
		return asked{err: err}
	}
	defer r.Body.Close()
	packed, err := io.ReadAll(r.Body)
	return asked{r, packed, err}
}

// TestGatewaysFetchSignedRules: signed by the key that is told, with an entity tag; who
// has the rules is told so, at once or when there are others.
func TestGatewaysFetchSignedRules(t *testing.T) {
	h := newHouse(t)
	admin, berta := h.client(h.admin), h.client(h.certified("berta", operators.Role{Name: "admin"}))
	var key release.VerificationKey
	h.want(admin, 200, "GET", "/api/v1/policy/key", "").into(t, &key)
	public, err := rego.ParseKey([]byte(key.PEM))
	check(t, err)
	trust := &rego.Trust{Keys: map[string]crypto.PublicKey{key.ID: public}}

	first := h.ask(admin, "", "")
	check(t, first.err)
	b, err := rego.ReadBundle(first.packed, trust)
	check(t, err)
	etag := first.Header.Get("ETag")
	if first.StatusCode != 200 || etag != `"`+b.Digest()+`"` || first.Header.Get("Content-Type") != bundleType {
		t.Errorf("got %s, %v", first.Status, first.Header)
	}
	for _, tags := range []string{etag, `"other", W/` + etag, "*"} {
		if again := h.ask(admin, tags, ""); again.StatusCode != 304 || len(again.packed) > 0 || again.Header.Get("ETag") != etag {
			t.Errorf("If-None-Match %s: %s", tags, again.Status)
		}
	}
	if long := h.ask(admin, "", ";wait=30"); long.Header.Get("Content-Type") != longPollType {
		t.Errorf("an agent that can wait is told %v", long.Header)
	}
	if late := h.ask(admin, etag, ";wait=1"); late.StatusCode != 304 {
		t.Errorf("after the wait: %s", late.Status)
	}
	h.want(h.client(h.viewer), 403, "GET", "/api/v1/policy/bundle", "")

	made := h.proposed(admin, admin)
	h.want(berta, 200, "POST", proposals+"/"+made.ID+"/approve", "")
	h.want(admin, 200, "POST", proposals+"/"+made.ID+"/activate", `{"stage":"shadow"}`)
	if trial := h.ask(admin, etag, ""); trial.StatusCode != 304 {
		t.Errorf("while other rules are on trial: %s", trial.Status)
	}
	news := make(chan asked, 1)
	go func() { news <- h.ask(admin, etag, ";wait=60") }()
	for len(h.waiting) == 0 {
		time.Sleep(time.Millisecond)
	}
	h.want(admin, 200, "POST", proposals+"/"+made.ID+"/activate", "")
	other := <-news
	check(t, other.err)
	if b, err = rego.ReadBundle(other.packed, trust); err != nil || b.Digest() != made.Digest {
		t.Errorf("after the activation: %s, %v", other.Status, err)
	}
	etag = other.Header.Get("ETag")

	// Where nobody else may wait, the agent gets the bundle as one that never said it would wait.
	for range cap(h.waiting) {
		h.waiting <- struct{}{}
	}
	if full := h.ask(admin, etag, ";wait=60"); full.StatusCode != 200 || full.Header.Get("Content-Type") != bundleType {
		t.Errorf("without room: %s, %v", full.Status, full.Header)
	}
	for range cap(h.waiting) {
		<-h.waiting
	}

	// A server that stops keeps nobody waiting.
	go func() { news <- h.ask(admin, etag, ";wait=300") }()
	for len(h.waiting) == 0 {
		time.Sleep(time.Millisecond)
	}
	h.Drain()
	if last := <-news; last.err != nil || last.StatusCode != 304 {
		t.Errorf("at the end: %v", last.err)
	}
}

func TestWaitsThatAreAskedFor(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"": 0, "modes=snapshot,delta": 0, "modes=snapshot,delta;wait=30": 30 * time.Second, "wait=7": 7 * time.Second, "respond-async, Wait = \"5\"": 5 * time.Second,
		"wait=99999999": longestWait, "wait=-1": 0, "wait=1e9": 0, "wait": 0, "wait=18446744073709551617": 0,
	} {
		if got := waitOf([]string{text}); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}

// FuzzPreferences reads headers of strangers: a wait is within its bounds, whatever they say.
func FuzzPreferences(f *testing.F) {
	f.Add("modes=snapshot,delta;wait=30", `W/"sha256:00", *`)
	f.Add(`wait="5", wait=`, `"`)
	f.Fuzz(func(t *testing.T, prefer, match string) {
		if wait := waitOf([]string{prefer, prefer}); wait < 0 || wait > longestWait {
			t.Errorf("%q: %s", prefer, wait)
		}
		if !matches([]string{etag("sha256:00"), match}, etag("sha256:00")) {
			t.Errorf("%q hides what stands before it", match)
		}
	})
}

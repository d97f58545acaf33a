package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
)

// contract is the OpenAPI document, read by a library that is not ours, and
// closed: whatever an answer has beyond the document is an error here, so that
// no test passes on an API that the document does not tell.
var contract = sync.OnceValues(func() (*openapi3.T, error) {
	var document object
	if err := json.Unmarshal(description, &document); err != nil {
		return nil, err
	}
	for _, schema := range document["components"].(object)["schemas"].(object) {
		if s := schema.(object); s["properties"] != nil {
			s["additionalProperties"] = false
		}
	}
	closed, err := json.Marshal(document)
	if err != nil {
		return nil, err
	}
	return openapi3.NewLoader().LoadFromData(closed)
})

// held holds each call of a test, and its answer, against the contract.
func held(t testing.TB, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent, got := &listener{ReadCloser: r.Body}, &witness{ResponseWriter: w}
		r.Body = sent
		next.ServeHTTP(got, r)
		if err := compare(r, sent, got); err != nil {
			t.Errorf("the OpenAPI document does not tell this: %s %s: %v\nanswer %d: %.500s", r.Method, r.URL, err, got.status, got.body.Bytes())
		}
	})
}

// listener keeps what is read of a body.
type listener struct {
	io.ReadCloser
	heard bytes.Buffer
	whole bool
}

func (l *listener) Read(b []byte) (int, error) {
	n, err := l.ReadCloser.Read(b)
	l.heard.Write(b[:n])
	l.whole = l.whole || err == io.EOF
	return n, err
}

// witness keeps what is answered.
type witness struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (w *witness) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *witness) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *witness) Write(b []byte) (int, error) {
	w.body.Write(b)
	return w.ResponseWriter.Write(b)
}

// usual are the headers of HTTP itself, which the document need not tell.
var usual = []string{"Content-Type", "Content-Length", "Date", "X-Content-Type-Options", "Allow"}

// compare reports what of a call or its answer the document does not tell. A
// call may be wrong if it is refused.
func compare(r *http.Request, sent *listener, got *witness) error {
	spec, err := contract()
	if err != nil {
		return err
	}
	_, pattern, found := strings.Cut(r.Pattern, " ")
	if !found { // no route: nothing is told of that but the problem
		if got.status != http.StatusNotFound && got.status != http.StatusMethodNotAllowed && got.status != http.StatusTooManyRequests {
			return fmt.Errorf("there is no route")
		}
		return nil
	}
	pattern = strings.ReplaceAll(pattern, "...}", "}")
	item, method := spec.Paths.Value(pattern), strings.Replace(r.Method, "HEAD", "GET", 1)
	if item == nil || item.GetOperation(method) == nil {
		return fmt.Errorf("there is no operation %s %s", method, pattern)
	}
	in := &openapi3filter.RequestValidationInput{
		Request: r.Clone(r.Context()), PathParams: map[string]string{},
		Route: &routers.Route{Spec: spec, Path: pattern, PathItem: item, Method: method, Operation: item.GetOperation(method)},
		Options: &openapi3filter.Options{IncludeResponseStatus: true, RejectWhenRequestBodyNotSpecified: true, SkipSettingDefaults: true,
			AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	}
	for _, p := range in.Route.Operation.Parameters {
		if p.Value.In == "path" {
			in.PathParams[p.Value.Name] = r.PathValue(p.Value.Name)
		}
	}
	if in.Request.Body = http.NoBody; sent.heard.Len() > 0 {
		in.Request.Body = io.NopCloser(&sent.heard)
	}
	if got.status < 400 && got.status != http.StatusAccepted {
		if err := openapi3filter.ValidateRequest(r.Context(), in); err != nil {
			return fmt.Errorf("the call went well, and should not: %w", err)
		}
		for name := range r.URL.Query() {
			if in.Route.Operation.Parameters.GetByInAndName("query", name) == nil {
				return fmt.Errorf("there is no parameter %s", name)
			}
		}
	}
	return compareAnswer(in, got)
}

func compareAnswer(in *openapi3filter.RequestValidationInput, got *witness) error {
	told := in.Route.Operation.Responses.Status(got.status)
	if told == nil {
		return fmt.Errorf("there is no answer %d", got.status)
	}
	known := slices.Clone(usual)
	for name := range told.Value.Headers {
		known = append(known, http.CanonicalHeaderKey(name))
	}
	for name := range got.Header() {
		if !slices.Contains(known, name) {
			return fmt.Errorf("answer %d has no header %s", got.status, name)
		}
	}
	if len(told.Value.Content) == 0 && got.body.Len() > 0 {
		return fmt.Errorf("answer %d has no body", got.status)
	}
	return openapi3filter.ValidateResponse(in.Request.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: got.status, Header: got.Header(), Body: io.NopCloser(&got.body), Options: in.Options,
	})
}

func TestTheDocumentIsValid(t *testing.T) {
	spec, err := openapi3.NewLoader().LoadFromData(description)
	check(t, err)
	if err := spec.Validate(t.Context()); err != nil {
		t.Error(err)
	}
	if !spec.IsOpenAPI31OrLater() {
		t.Errorf("version %s", spec.OpenAPI)
	}
}

// exchange is a made-up call with its answer.
type exchange struct {
	method, pattern, target, body string
	status                        int
	header                        http.Header
	answer                        string
}

func (e *exchange) compare() error {
	r := httptest.NewRequest(e.method, e.target, strings.NewReader(e.body))
	r.Header.Set("Content-Type", jsonType)
	r.Pattern = e.method + " " + e.pattern
	r.SetPathValue("id", "gw-1")
	got := &witness{ResponseWriter: httptest.NewRecorder(), status: e.status}
	got.body.WriteString(e.answer)
	for name, values := range e.header {
		got.Header()[name] = values
	}
	sent := &listener{}
	sent.heard.WriteString(e.body)
	return compare(r, sent, got)
}

// TestWhatTheDocumentDoesNotTellIsCaught shows that the comparison bites.
func TestWhatTheDocumentDoesNotTellIsCaught(t *testing.T) {
	const good = `{"id":"gw-1","state":"active","created":"2026-11-23T22:06:13.234Z","changed":"2026-11-23T22:06:13.234Z"}`
	get := exchange{method: "GET", pattern: "/api/v1/devices/{id}", target: "/api/v1/devices/gw-1", status: 200, header: http.Header{"Content-Type": {jsonType}}, answer: good}
	for name, change := range map[string]func(*exchange){
		"a member":         func(c *exchange) { c.answer = strings.Replace(good, "{", `{"made_up":1,`, 1) },
		"a missing member": func(c *exchange) { c.answer = strings.Replace(good, `"state":"active",`, "", 1) },
		"another type":     func(c *exchange) { c.answer = strings.Replace(good, `"active"`, "7", 1) },
		"a state":          func(c *exchange) { c.answer = strings.Replace(good, "active", "made_up", 1) },
		"no time":          func(c *exchange) { c.answer = strings.Replace(good, "2026-11-23T22", "yesterday", 1) },
		"a header":         func(c *exchange) { c.header.Set("Made-Up", "1") },
		"a type of body":   func(c *exchange) { c.header.Set("Content-Type", "text/plain") },
		"a status":         func(c *exchange) { c.status = 418 },
		"a parameter":      func(c *exchange) { c.target += "?made_up=1" },
		"a path":           func(c *exchange) { c.pattern += "/made-up" },
		"a method":         func(c *exchange) { c.method = "PATCH" },
		"a code": func(c *exchange) {
			c.status, c.answer = 404, `{"type":"t","title":"t","status":404,"detail":"d","code":"made_up","ref":"r"}`
			c.header.Set("Content-Type", "application/problem+json")
		},
		"a body where none is": func(c *exchange) { c.body = `{"made_up":1}` },
	} {
		c := get
		c.header = get.header.Clone()
		if err := c.compare(); err != nil {
			t.Fatalf("what the document tells: %v", err)
		}
		if change(&c); c.compare() == nil {
			t.Errorf("%s that the document does not tell passes", name)
		}
	}
}

package console

import (
	"encoding/base64"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/hallmark-pki/hallmark/internal/fault"
)

// answer is what a call gets back. Exactly one of value, raw and stream is
// set, or none for 204.
type answer struct {
	status int
	value  any                     // written as JSON
	raw    []byte                  // written as it is
	stream func(w io.Writer) error // written as it comes
	header map[string]string       // in addition; with Content-Type for raw and stream
}

// ok is a plain answer.
func ok(value any) answer { return answer{status: http.StatusOK, value: value} }

// created answers with a new thing and its address.
func created(path string, value any) answer {
	return answer{status: http.StatusCreated, value: value, header: map[string]string{"Location": path}}
}

// done answers a deed that there is nothing to say about.
func done() answer { return answer{status: http.StatusNoContent} }

// set adds a header.
func (a *answer) set(name, value string) {
	if a.header == nil {
		a.header = map[string]string{}
	}
	a.header[name] = value
}

// write sends the answer. What goes wrong from here on is the connection, except
// for a stream, whose failure cuts the connection: the caller must not take
// the part for the whole.
func (c *Console) write(w http.ResponseWriter, r *http.Request, a answer) {
	h := w.Header()
	for name, value := range a.header {
		h.Set(name, value)
	}
	var err error
	switch {
	case a.stream != nil:
		w.WriteHeader(a.status)
		err = a.stream(w)
	case a.raw != nil:
		h.Set("Content-Length", strconv.Itoa(len(a.raw)))
		w.WriteHeader(a.status)
		_, err = w.Write(a.raw)
	case a.value != nil:
		h.Set("Content-Type", "application/json")
		err = writeJSON(w, a.status, a.value)
	default:
		w.WriteHeader(a.status)
	}
	if err != nil {
		c.Logger.InfoContext(r.Context(), "answer cut short",
			"request_id", h.Get(requestIDHeader), "path", r.URL.EscapedPath(), "error", err)
		panic(http.ErrAbortHandler)
	}
}

// list is how every list is answered.
type list[T any] struct {
	Items []T     `json:"items"` // never null
	Next  *string `json:"next"`  // cursor of the next page, null on the last
}

// Bounds of a page.
const (
	defaultLimit = 100
	maxLimit     = 1000
)

// page is which part of a list is asked for.
type page struct {
	list   string // the action that lists
	limit  int
	cursor string // where the page before ended; empty for the first
}

// page reads limit and cursor.
func (call *call) page() (page, error) {
	p := page{limit: defaultLimit, list: string(call.action)}
	if n, err := strconv.Atoi(call.query("limit")); err == nil { // shape.check has seen it
		p.limit = n
	}
	if text := call.query("cursor"); text != "" {
		cursor, err := base64.RawURLEncoding.DecodeString(text)
		of, place, found := strings.Cut(string(cursor), " ")
		if err != nil || !found || of != p.list || place == "" || checkText("cursor", place, maxName) != nil {
			return page{}, errCursor
		}
		p.cursor = place
	}
	return p, nil
}

var errCursor = fault.New(fault.Malformed, "bad_cursor", "cursor is not one that this list has given out")

// opaque is a cursor as callers get it: with the list that it is for, so that
// it is not taken for a place in another.
func (p page) opaque(place string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(p.list + " " + place))
}

// position is a cursor that is a number; 0 for the first page.
func (p page) position() (int64, error) {
	if p.cursor == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(p.cursor, 10, 64)
	if err != nil || n < 1 {
		return 0, errCursor
	}
	return n, nil
}

// ask is how many items to fetch: one more than the page holds tells whether there is another page.
func (p page) ask() int { return p.limit + 1 }

// listOf answers one page of found, which holds up to ask items. cursor names
// where an item stands; show makes it what the caller sees.
func listOf[From, To any](p page, found []From, cursor func(From) string, show func(From) To) answer {
	var next *string
	if len(found) > p.limit {
		found = found[:p.limit]
		last := p.opaque(cursor(found[p.limit-1]))
		next = &last
	}
	items := make([]To, len(found))
	for i := range found {
		items[i] = show(found[i])
	}
	return ok(list[To]{Items: items, Next: next})
}

// same shows an item as it is.
func same[T any](item T) T { return item }

package console

import (
	"io"
	"net/http"
	"strconv"

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
	limit  int
	cursor string // where the page before ended; empty for the first
}

// page reads limit and cursor, and refuses parameters that are neither these nor known.
func (call *call) page(known ...string) (page, error) {
	if err := call.parameters(append(known, "limit", "cursor")...); err != nil {
		return page{}, err
	}
	p := page{limit: defaultLimit, cursor: call.query("cursor")}
	if text := call.query("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxLimit {
			return page{}, fault.New(fault.Malformed, "bad_parameter", "limit must be a number from 1 to "+strconv.Itoa(maxLimit))
		}
		p.limit = n
	}
	return p, nil
}

// position is a cursor that is a number; 0 for the first page.
func (p page) position() (int64, error) {
	if p.cursor == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(p.cursor, 10, 64)
	if err != nil || n < 1 {
		return 0, fault.New(fault.Malformed, "bad_parameter", "cursor is not one that a list has given out")
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
		last := cursor(found[p.limit-1])
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

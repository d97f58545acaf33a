package console

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hallmark-pki/hallmark/internal/fault"
)

// shape is what a call of a route looks like and what it answers when all is
// well. Queries are held against it, and the OpenAPI document is made from it.
type shape struct {
	says  string      // what the call does; for people
	query []parameter // all that its query may hold
	hears []parameter // headers that it heeds, beyond those that all do
	takes body        // what is sent with it
	gives body        // what it answers
}

// parameter is one of a query. All are optional.
type parameter struct {
	name, says string
	kind       kind
	values     []string // of a choice
}

// kind is what a parameter's text has to be.
type kind int

const (
	text   kind = iota // anything printable
	choice             // one of its values
	moment             // RFC 3339
	number             // how many items a page may hold, 1 to maxLimit
)

// body is what is sent with a call or an answer. The zero body is none.
type body struct {
	status   int      // of an answer
	of       any      // a value of the Go type that is sent as JSON; nil where the kinds say all there is to say
	kinds    []string // media types, where it is not JSON alone
	needs    []string // members that have to be sent, of an object that an answer has more of
	optional bool     // it may be left out
	headers  []string // that an answer has, beyond those that all have
}

func word(name, says string) parameter { return parameter{name: name, says: says} }

func when(name, says string) parameter { return parameter{name: name, says: says, kind: moment} }

func oneOf[T ~string](name, says string, values ...T) parameter {
	p := parameter{name: name, says: says, kind: choice}
	for _, v := range values {
		p.values = append(p.values, string(v))
	}
	return p
}

// wants is a body that is an object of type T.
func wants[T any]() body { return body{of: *new(T)} }

// mayHave is one that may be left out.
func mayHave[T any]() body { return body{of: *new(T), optional: true} }

// lists answers with one page of a list.
func lists[T any](says string, filters ...parameter) shape {
	return shape{says: says, gives: body{status: http.StatusOK, of: list[T]{}}, query: append(filters,
		parameter{name: "limit", says: "how many items a page holds at most; 100 if it is not said", kind: number},
		word("cursor", "next of the page before; opaque"))}
}

// shows answers with one object.
func shows[T any](says string) shape {
	return shape{says: says, gives: body{status: http.StatusOK, of: *new(T), headers: []string{"ETag"}}}
}

// makes takes what is sent and answers with a new object and its address.
func makes[T any](says string, takes body) shape {
	return shape{says: says, takes: takes, gives: body{status: http.StatusCreated, of: *new(T), headers: []string{"Location"}}}
}

// changes takes what is sent and answers with what became of it.
func changes[T any](says string, takes body) shape {
	return shape{says: says, takes: takes, gives: body{status: http.StatusOK, of: *new(T)}}
}

// does takes what is sent, and there is nothing to say about it.
func does(says string, takes body) shape {
	return shape{says: says, takes: takes, gives: body{status: http.StatusNoContent}}
}

// sends answers with a file.
func sends(says, kind string, headers ...string) shape {
	return shape{says: says, gives: body{status: http.StatusOK, kinds: []string{kind}, headers: headers}}
}

// orAs adds a media type that the answer may have.
func (s shape) orAs(kind string) shape {
	s.gives.kinds = append(s.gives.kinds, kind)
	return s
}

// hearing adds headers that the call heeds.
func (s shape) hearing(headers ...parameter) shape {
	s.hears = append(s.hears, headers...)
	return s
}

// with adds parameters to the query.
func (s shape) with(query ...parameter) shape {
	s.query = append(s.query, query...)
	return s
}

// check returns an error if a query holds anything but what its shape says: a
// misspelt filter would otherwise select everything.
func (s *shape) check(query string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return fault.Wrap(fault.Malformed, "bad_query", "the query cannot be read", err)
	}
	for name, value := range values {
		i := slices.IndexFunc(s.query, func(p parameter) bool { return p.name == name })
		if i < 0 {
			return fault.New(fault.Malformed, "unknown_parameter", "unknown parameter "+printable(name))
		}
		if len(value) > 1 {
			return fault.New(fault.Malformed, "bad_parameter", name+" is given twice")
		}
		if err := s.query[i].check(value[0]); err != nil {
			return err
		}
	}
	return nil
}

// check returns an error unless the value is one for the parameter. An empty one is none.
func (p *parameter) check(value string) error {
	if err := checkText(p.name, value, maxName); err != nil || value == "" {
		return err
	}
	wrong := func(says string) error { return fault.New(fault.Malformed, "bad_parameter", p.name+" "+says) }
	switch p.kind {
	case choice:
		if !slices.Contains(p.values, value) {
			return wrong("must be one of " + strings.Join(p.values, ", "))
		}
	case moment:
		if _, err := time.Parse(time.RFC3339, value); err != nil {
			return wrong("is not an RFC 3339 time such as 2026-01-31T12:00:00Z")
		}
	case number:
		if n, err := strconv.Atoi(value); err != nil || n < 1 || n > maxLimit {
			return wrong("must be a number from 1 to " + strconv.Itoa(maxLimit))
		}
	}
	return nil
}

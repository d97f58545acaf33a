package console

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hallmark-pki/hallmark/internal/fault"
)

// Bounds of what a call may carry.
const (
	maxBody   = 256 << 10 // a JSON body; an import has its own
	maxName   = 256       // an id, a serial, a name
	maxReason = 1000      // a sentence for the record
)

// checkText returns an error unless value is printable text of at most limit
// bytes. Databases, logs and terminals each have characters that they do not
// survive, so none gets past the door.
func checkText(field, value string, limit int) error {
	switch {
	case len(value) > limit:
		return fault.New(fault.Malformed, "bad_parameter", fmt.Sprintf("%s is longer than %d bytes", field, limit))
	case !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl):
		return fault.New(fault.Malformed, "bad_parameter", field+" has characters that are not printable text")
	}
	return nil
}

// printable is text of the caller's that an answer may repeat: bounded and on one line.
func printable(text string) string {
	if len(text) > 64 {
		text = text[:64] + "…"
	}
	return strconv.QuoteToGraphic(strings.ToValidUTF8(text, "\ufffd"))
}

// name returns the path's parameter of that name, checked.
func (call *call) name(parameter string) (string, error) {
	value := call.PathValue(parameter)
	if value == "" {
		return "", fault.New(fault.Malformed, "bad_parameter", parameter+" is empty")
	}
	return value, checkText(parameter, value, maxName)
}

// decode reads a JSON body strictly into v. Where it is optional an absent body leaves v alone.
func (call *call) decode(v any, optional bool) error {
	if optional && call.ContentLength == 0 {
		return nil
	}
	if err := call.mediaType("application/json"); err != nil {
		return err
	}
	decoder := json.NewDecoder(http.MaxBytesReader(call.body, call.Body, maxBody))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(v); err != nil {
		return badJSON(err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return fault.Wrap(fault.Malformed, "bad_json", "the body holds more than one JSON value", err)
	}
	return nil
}

// badJSON says what is wrong with a body in the caller's terms.
func badJSON(err error) error {
	var (
		large  *http.MaxBytesError
		syntax *json.SyntaxError
		kind   *json.UnmarshalTypeError
	)
	switch {
	case errors.As(err, &large):
		return tooLarge(large.Limit)
	case errors.As(err, &syntax):
		return fault.Wrap(fault.Malformed, "bad_json", fmt.Sprintf("the body is not JSON from byte %d on", syntax.Offset), err)
	case errors.As(err, &kind):
		return fault.Wrap(fault.Malformed, "bad_field", fmt.Sprintf("field %q cannot hold a JSON %s", kind.Field, kind.Value), err)
	case errors.Is(err, io.EOF):
		return fault.Wrap(fault.Malformed, "bad_json", "the body is empty: a JSON object is wanted", err)
	}
	if field, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return fault.Wrap(fault.Malformed, "unknown_field", "unknown field "+unquoted(field), err)
	}
	return fault.Wrap(fault.Malformed, "bad_json", "the body is not the JSON object that is wanted", err)
}

// unquoted repeats the field name that encoding/json quoted, bounded.
func unquoted(field string) string {
	if name, err := strconv.Unquote(field); err == nil {
		return printable(name)
	}
	return printable(field)
}

func tooLarge(limit int64) error {
	return fault.New(fault.Malformed, codeTooLarge, fmt.Sprintf("the body is larger than %d bytes", limit))
}

// mediaType returns an error unless the body is of one of the types given.
func (call *call) mediaType(accepted ...string) error {
	got, _, err := mime.ParseMediaType(call.Header.Get("Content-Type"))
	if err == nil && slices.Contains(accepted, got) {
		return nil
	}
	return fault.New(fault.Malformed, codeMediaType, "Content-Type must be "+strings.Join(accepted, " or "))
}

// moment reads an RFC 3339 time from the query; absent is the zero time.
func (call *call) moment(parameter string) time.Time {
	at, _ := time.Parse(time.RFC3339, call.query(parameter)) // shape.check has seen it
	return at
}

// parseSpan reads a length of time: what time.ParseDuration reads, and whole
// days, as in 7d.
func parseSpan(field, text string) (time.Duration, error) {
	unit := time.Duration(1)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		text, unit = days+"h", 24
	}
	span, err := time.ParseDuration(text)
	if err != nil || span <= 0 || span*unit/unit != span {
		return 0, fault.New(fault.Malformed, "bad_field", field+" must be a length of time such as 90m, 24h or 7d")
	}
	return span * unit, nil
}

// query returns the query parameter of that name, or "".
func (call *call) query(name string) string { return call.URL.Query().Get(name) }

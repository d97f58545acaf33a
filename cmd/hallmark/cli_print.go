package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"
)

// listing is a list of the API and how it looks as a table.
type listing[T any] struct {
	path    string
	columns []string
	row     func(T) []string
	none    string // what to say, on stderr, of an empty table
}

// pages are the items of a list as they came.
type pages struct {
	Items []json.RawMessage `json:"items"`
	Next  *string           `json:"next"`
}

// print fetches the list, one page or all, and prints it.
func (l listing[T]) print(ctx context.Context, s *session, q url.Values, p paging) error {
	list, err := fetch(ctx, s, l.path, q, p)
	if err != nil {
		return err
	}
	if s.json {
		return printJSON(s.out, list)
	}
	return l.table(s, list)
}

// fetch returns one page of a list, or all of it.
func fetch(ctx context.Context, s *session, path string, q url.Values, p paging) (pages, error) {
	if p.limit < 1 || p.limit > 1000 {
		return pages{}, usageError{fmt.Errorf("--limit is 1 to 1000, not %d", p.limit)}
	}
	if p.all && p.limit == defaultLimit {
		p.limit = 1000 // fewer calls: each is a decision, and on record
	}
	list := pages{Items: []json.RawMessage{}}
	q.Set("limit", strconv.Itoa(p.limit))
	for cursor := p.cursor; ; {
		putText(q, "cursor", cursor)
		var page pages
		if err := s.do(ctx, "GET", path, q, nil, &page); err != nil {
			return pages{}, err
		}
		list.Items, list.Next = append(list.Items, page.Items...), page.Next
		if !p.all || page.Next == nil {
			return list, nil
		}
		cursor = *page.Next
	}
}

// more says how to get at the rest of a list.
func (p *pages) more(s *session) {
	if p.Next != nil {
		fmt.Fprintf(s.err, "There are more: --all, or --cursor %s\n", escape(*p.Next))
	}
}

func (l listing[T]) table(s *session, list pages) error {
	if len(list.Items) == 0 {
		fmt.Fprintln(s.err, l.none)
		return nil
	}
	out := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, strings.Join(l.columns, "\t"))
	for _, raw := range list.Items {
		var item T
		if err := json.Unmarshal(raw, &item); err != nil {
			return fmt.Errorf("the server's answer cannot be read: %w", err)
		}
		writeRow(out, l.row(item))
	}
	if err := out.Flush(); err != nil {
		return err
	}
	list.more(s)
	return nil
}

func writeRow(w io.Writer, cells []string) {
	for i, cell := range cells {
		if cells[i] = escape(cell); cell == "" {
			cells[i] = "-"
		}
	}
	fmt.Fprintln(w, strings.Join(cells, "\t"))
}

// fields prints names and values below each other, leaving empty values out.
func fields(w io.Writer, pairs ...[2]string) error {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, pair := range pairs {
		if pair[1] != "" {
			fmt.Fprintf(out, "%s\t%s\n", pair[0], escape(pair[1]))
		}
	}
	return out.Flush()
}

// escape makes text of others safe for a terminal: what does not print there,
// direction overrides included, is spelt out.
func escape(text string) string {
	if utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsGraphic(r) }) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if unicode.IsGraphic(r) {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// when is a time for people: to the second, in their own zone.
func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05 -0700")
}

// whenText is when for a time in RFC 3339.
func whenText(text string) string {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return text
	}
	return when(t)
}

// deed prints that something was done to a thing: a sentence, or {"id", "done"}.
func (s *session) deed(kind, id, what string) error {
	if s.json {
		return printJSON(s.out, map[string]string{"id": id, "done": what})
	}
	_, err := fmt.Fprintf(s.out, "%s %s: %s\n", kind, escape(id), what)
	return err
}

// print prints v as JSON, or the pairs made of it as fields.
func (s *session) print(v any, pairs func() [][2]string) error {
	if s.json {
		return printJSON(s.out, v)
	}
	return fields(s.out, pairs()...)
}

package console

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// shownEntry is one event of the record as callers see it.
type shownEntry struct {
	ID    string          `json:"id"`
	Index *int64          `json:"index"` // in the tree; null while the event waits for its place, a second at most
	Entry json.RawMessage `json:"entry"` // the leaf itself
}

// leaf is what is read back of an event.
type leaf struct {
	ID       audit.ID      `json:"id"`
	At       string        `json:"at"`
	Action   string        `json:"action"`
	Actor    audit.Party   `json:"actor"`
	Object   audit.Party   `json:"object"`
	Outcome  audit.Outcome `json:"outcome"`
	Source   string        `json:"source"`
	Request  string        `json:"request"`
	Decision *struct {
		Verdict     string          `json:"verdict"`
		Policy      string          `json:"policy"`
		Reasons     []policy.Reason `json:"reasons"`
		Profile     string          `json:"profile"`
		Lifetime    string          `json:"lifetime"`
		Obligations json.RawMessage `json:"obligations"`
		Input       json.RawMessage `json:"input"`
	} `json:"decision"`
	Fact json.RawMessage `json:"fact"`
}

func readLeaf(e audit.Entry) (leaf, error) {
	var l leaf
	if err := json.Unmarshal(e.Leaf, &l); err != nil {
		return l, fmt.Errorf("reading the record at position %d: %w", e.Position, err)
	}
	return l, nil
}

// place is an entry's index, nil while it has none.
func place(e audit.Entry) *int64 {
	if e.Index < 0 {
		return nil
	}
	return &e.Index
}

func showEntry(e audit.Entry) (shownEntry, error) {
	l, err := readLeaf(e)
	return shownEntry{ID: l.ID.String(), Index: place(e), Entry: e.Leaf}, err
}

func (c *Console) listEntries(call *call) (deed, error) {
	page, err := call.page()
	if err != nil {
		return deed{}, err
	}
	q := audit.Query{
		Action: call.query("action"), Actor: call.query("actor"), Object: call.query("object"),
		Outcome: audit.Outcome(call.query("outcome")), Limit: page.ask(),
	}
	return c.listRecord(call, page, q, "record", func(e audit.Entry) (any, error) { return showEntry(e) })
}

// listRecord is a deed that reads one page of the record.
func (c *Console) listRecord(call *call, page page, q audit.Query, kind string, show func(audit.Entry) (any, error)) (deed, error) {
	q.Since, q.Until = call.moment("since"), call.moment("until")
	var err error
	if q.Before, err = page.position(); err != nil {
		return deed{}, err
	}
	filters := policy.Properties{}
	for name := range call.URL.Query() {
		filters[name] = call.query(name)
	}
	return deed{
		resource:   policy.Entity{Type: kind},
		parameters: filters,
		do: func(ctx context.Context, _ policy.Permit) (answer, error) {
			entries, err := c.Record.Entries(ctx, q)
			if err != nil {
				return answer{}, err
			}
			return listEntriesOf(page, entries, show)
		},
	}, nil
}

func listEntriesOf(page page, entries []audit.Entry, show func(audit.Entry) (any, error)) (answer, error) {
	var failed error
	a := listOf(page, entries,
		func(e audit.Entry) string { return strconv.FormatInt(e.Position, 10) },
		func(e audit.Entry) any {
			shown, err := show(e)
			if err != nil {
				failed = err
			}
			return shown
		})
	return a, failed
}

func (c *Console) exportRecord(call *call) (deed, error) {
	return deed{
		resource:   policy.Entity{Type: "record"},
		parameters: policy.Properties{"export": true},
		do: func(ctx context.Context, _ policy.Permit) (answer, error) {
			return answer{
				status: http.StatusOK,
				header: map[string]string{
					"Content-Type":        audit.ExportType,
					"Content-Disposition": `attachment; filename="hallmark-audit-` + call.at.UTC().Format(time.DateOnly) + `.ndjson"`,
				},
				stream: func(w io.Writer) error { return c.Log.Export(ctx, w) },
			}, nil
		},
	}, nil
}

func (c *Console) proveEntry(call *call) (deed, error) {
	return call.about("record", "name", func(ctx context.Context, _ policy.Permit, name string) (answer, error) {
		e, err := c.findEntry(ctx, name)
		if err != nil {
			return answer{}, err
		}
		if e.Index < 0 { // too young to have a place in the tree: give it one
			if err := c.sequenceAll(ctx); err != nil {
				return answer{}, err
			}
			if e, err = c.findEntry(ctx, name); err != nil {
				return answer{}, err
			}
		}
		proof, err := c.Log.Proof(ctx, e.Index)
		return ok(proof), err
	})
}

// sequenceAll gives every event that waits its place in the tree.
func (c *Console) sequenceAll(ctx context.Context) error {
	for {
		n, err := c.Log.Sequence(ctx)
		if err != nil || n == 0 {
			return err
		}
	}
}

var hexDigits = regexp.MustCompile(`^[0-9a-f]{1,40}$`)

// findEntry returns the event that name stands for: the one with that id, else
// the one that issued the certificate with that serial. A serial may look
// like an id; the other way round it cannot be mistaken, for ids are unique.
func (c *Console) findEntry(ctx context.Context, name string) (audit.Entry, error) {
	if id, err := audit.ParseID(name); err == nil {
		e, err := c.Record.Entry(ctx, id)
		if !fault.Is(err, fault.NotFound) {
			return e, err
		}
	}
	if hexDigits.MatchString(name) {
		e, err := c.Record.EntryBySerial(ctx, name)
		if !fault.Is(err, fault.NotFound) {
			return e, err
		}
	}
	return audit.Entry{}, fault.New(fault.NotFound, "entry_unknown",
		"the record has no entry with this id, nor a certificate with this serial number")
}

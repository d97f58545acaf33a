package release

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/policy"
)

// fleet compares what both rules say to the next renewal of each device.
func (c *comparison) fleet(ctx context.Context, renewals func(context.Context) iter.Seq2[policy.Request, error]) (Tally, error) {
	if renewals == nil {
		return Tally{}, nil
	}
	produce := func(ctx context.Context, out chan<- []policy.Request) error {
		var batch []policy.Request
		for q, err := range renewals(ctx) {
			if err != nil {
				return err
			}
			if batch = append(batch, q); len(batch) == page {
				if err := send(ctx, out, batch); err != nil {
					return err
				}
				batch = nil
			}
		}
		return send(ctx, out, batch)
	}
	return each(ctx, c, produce, func(ctx context.Context, to *counter, q *policy.Request) error {
		document := q.Document()
		was := policy.Rehearse(ctx, c.active, q.Action, document, 0)
		is := policy.Rehearse(ctx, c.proposed, q.Action, document, 0)
		before, after := outcomeOf(&was), outcomeOf(&is)
		to.count(&asked{action: string(q.Action), subject: q.Subject.ID, resource: q.Resource.ID}, &before, &after)
		c.devices.Add(1)
		return nil
	})
}

// recorded compares what was decided in a period with what the proposed rules
// say. Decisions that other rules took than those in force are asked of these, too:
// what the proposal changes is what counts.
func (c *comparison) recorded(ctx context.Context, record Record, over Period) (Tally, error) {
	return each(ctx, c, func(ctx context.Context, out chan<- []audit.Entry) error {
		return read(ctx, record, over, out)
	}, func(ctx context.Context, to *counter, e *audit.Entry) error {
		c.decisions.Add(1)
		return c.again(ctx, to, e, over)
	})
}

// late is how long an entry may have waited to be committed: entries are read
// in the order of commits, and their times are those of the questions.
const late = time.Hour

// read sends the decisions of a period, newest first. Since no index of the record goes by
// time, it reads back from the newest, and stops where all are older.
func read(ctx context.Context, record Record, over Period, out chan<- []audit.Entry) error {
	q := audit.Query{Decided: true, Limit: page}
	for {
		entries, err := record.Entries(ctx, q)
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			return nil
		}
		if err := send(ctx, out, entries); err != nil {
			return err
		}
		q.Before = entries[len(entries)-1].Position
		oldest, err := readLeaf(entries[len(entries)-1].Leaf)
		if err != nil {
			return err
		}
		if oldest.At.Before(over.Since.Add(-late)) {
			return nil
		}
	}
}

// leaf is what a replay reads of an entry.
type leaf struct {
	ID       string    `json:"id"`
	At       time.Time `json:"at"`
	Action   string    `json:"action"`
	Decision struct {
		Input       json.RawMessage `json:"input"`
		Policy      string          `json:"policy"`
		Verdict     string          `json:"verdict"`
		Reasons     []policy.Reason `json:"reasons"`
		Profile     string          `json:"profile"`
		Lifetime    string          `json:"lifetime"`
		Obligations []struct {
			Type string `json:"type"`
		} `json:"obligations"`
	} `json:"decision"`
	Actor  audit.Party `json:"actor"`
	Object audit.Party `json:"object"`
}

func readLeaf(text []byte) (leaf, error) {
	var l leaf
	if err := json.Unmarshal(text, &l); err != nil {
		return l, fmt.Errorf("an entry of the record cannot be read: %w", err)
	}
	return l, nil
}

// again asks the proposed rules what an entry of the record decided.
func (c *comparison) again(ctx context.Context, to *counter, e *audit.Entry, over Period) error {
	l, err := readLeaf(e.Leaf)
	if err != nil {
		return err
	}
	action := policy.Action(l.Action)
	if l.At.Before(over.Since) || !l.At.Before(over.Until) {
		return nil
	}
	if l.Decision.Policy == policy.Builtin || len(l.Decision.Input) == 0 || !action.Known() {
		to.t.Skipped++
		return nil
	}
	input, err := document(l.Decision.Input)
	if err != nil {
		return fmt.Errorf("the input of decision %s cannot be read: %w", l.ID, err)
	}
	was := l.outcome()
	if l.Decision.Policy != c.active.Digest() {
		answer := policy.Rehearse(ctx, c.active, action, input, 0)
		was = outcomeOf(&answer)
	}
	answer := policy.Rehearse(ctx, c.proposed, action, input, 0)
	is := outcomeOf(&answer)
	to.count(&asked{action: l.Action, subject: l.Actor.ID, resource: l.Object.ID, decision: l.ID}, &was, &is)
	return nil
}

// outcome is the answer that an entry tells of.
func (l *leaf) outcome() Outcome {
	a := policy.Answer{Reasons: l.Decision.Reasons, Profile: l.Decision.Profile}
	a.Lifetime, _ = time.ParseDuration(l.Decision.Lifetime) // empty: none was given
	for _, o := range l.Decision.Obligations {
		a.Obligations = append(a.Obligations, policy.Obligation{Type: o.Type})
	}
	out := outcomeOf(&a)
	out.Verdict = l.Decision.Verdict
	return out
}

// document reads a recorded input as rules saw it. Numbers are integers there.
func document(text json.RawMessage) (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var input map[string]any
	if err := d.Decode(&input); err != nil {
		return nil, err
	}
	return input, integers(input)
}

// integers turns the numbers in an object into those that policy.Properties allows.
func integers(v any) error {
	switch v := v.(type) {
	case map[string]any:
		for name, e := range v {
			if n, ok := e.(json.Number); ok {
				i, err := n.Int64()
				if err != nil {
					return err
				}
				v[name] = i
				continue
			}
			if err := integers(e); err != nil {
				return err
			}
		}
	case []any:
		for at, e := range v {
			if n, ok := e.(json.Number); ok {
				i, err := n.Int64()
				if err != nil {
					return err
				}
				v[at] = i
				continue
			}
			if err := integers(e); err != nil {
				return err
			}
		}
	}
	return nil
}

package release

import (
	"context"
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
	return each(ctx, c, InFleet, produce, func(ctx context.Context, to *counter, q *policy.Request) error {
		document := q.Document()
		was := policy.Rehearse(ctx, c.active, q.Action, document, 0)
		is := policy.Rehearse(ctx, c.proposed, q.Action, document, 0)
		before, after := outcomeOf(&was), outcomeOf(&is)
		c.devices.Add(1)
		return to.count(ctx, &asked{action: string(q.Action), subject: q.Subject.ID, resource: q.Resource.ID}, &before, &after)
	})
}

// recorded compares what was decided in a period with what the proposed rules
// say. Decisions that other rules took than those in force are asked of these, too:
// what the proposal changes is what counts.
func (c *comparison) recorded(ctx context.Context, record Record, over Period) (Tally, error) {
	if err := c.measure(ctx, record, over); err != nil {
		return Tally{}, err
	}
	return each(ctx, c, InRecord, func(ctx context.Context, out chan<- []audit.Entry) error {
		return c.read(ctx, record, over, out)
	}, func(ctx context.Context, to *counter, e *audit.Entry) error {
		return c.again(ctx, to, e, over)
	})
}

// late is how long an entry may have waited to be committed: entries are read
// in the order of commits, and their times are those of the questions.
const late = time.Hour

// read sends the decisions of a period, newest first. Since no index of the record goes by
// time, it reads back from the newest, and stops where all are older.
func (c *comparison) read(ctx context.Context, record Record, over Period, out chan<- []audit.Entry) error {
	q := audit.Query{Decided: true, Limit: page}
	for {
		entries, err := record.Entries(ctx, q)
		if err != nil || len(entries) == 0 {
			return err
		}
		if err := send(ctx, out, entries); err != nil {
			return err
		}
		oldest := &entries[len(entries)-1]
		q.Before = oldest.Position
		c.entries.Store(c.newest - q.Before + 1)
		l, err := readLeaf(oldest.Leaf)
		if err != nil {
			return err
		}
		if l.At.Before(over.Since.Add(-late)) {
			return nil
		}
	}
}

// measure finds how many entries read will read, by their positions: it halves the
// record until it has found the first of the period, which is a few dozen rows.
func (c *comparison) measure(ctx context.Context, record Record, over Period) error {
	before := func(position int64) (found audit.Entry, at time.Time, err error) {
		entries, err := record.Entries(ctx, audit.Query{Decided: true, Before: position, Limit: 1})
		if err != nil || len(entries) == 0 {
			return found, at, err
		}
		l, err := readLeaf(entries[0].Leaf)
		return entries[0], l.At, err
	}
	newest, _, err := before(0)
	if err != nil {
		return err
	}
	from := over.Since.Add(-late)
	low, high := int64(0), newest.Position // the entries up to low are too old; that at high is not, unless it is the newest
	for low < high {
		middle := low + (high-low)/2
		found, at, err := before(middle + 1)
		switch {
		case err != nil:
			return err
		case found.Position == 0 || at.Before(from):
			low = middle + 1
		default:
			high = found.Position - 1
		}
	}
	c.newest = newest.Position
	c.total.Store(newest.Position - low)
	return nil
}

// leaf is what a replay reads of an entry.
type leaf struct {
	id, action    string
	At            time.Time
	actor, object string // ids
	decision      map[string]any
	input         map[string]any
}

// readLeaf reads an entry as the record holds it.
func readLeaf(text []byte) (leaf, error) {
	whole, err := readObject(string(text))
	if err != nil {
		return leaf{}, fmt.Errorf("an entry of the record cannot be read: %w", err)
	}
	l := leaf{id: textOf(whole, "id"), action: textOf(whole, "action"), actor: textOf(member(whole, "actor"), "id"),
		object: textOf(member(whole, "object"), "id"), decision: member(whole, "decision")}
	l.input = member(l.decision, "input")
	if l.At, err = time.Parse(time.RFC3339, textOf(whole, "at")); err != nil {
		return leaf{}, fmt.Errorf("an entry of the record has no time: %w", err)
	}
	return l, nil
}

// textOf returns the text of that name inside an object; empty if there is none.
func textOf(object map[string]any, name string) string {
	s, _ := object[name].(string)
	return s
}

// again asks the proposed rules what an entry of the record decided.
func (c *comparison) again(ctx context.Context, to *counter, e *audit.Entry, over Period) error {
	l, err := readLeaf(e.Leaf)
	if err != nil {
		return err
	}
	if l.At.Before(over.Since) || !l.At.Before(over.Until) {
		return nil
	}
	c.decisions.Add(1)
	action, by := policy.Action(l.action), textOf(l.decision, "policy")
	if by == policy.Builtin || len(l.input) == 0 || !action.Known() {
		to.t.Skipped++
		return nil
	}
	was := l.outcome()
	if by != c.active.Digest() {
		answer := policy.Rehearse(ctx, c.active, action, l.input, 0)
		was = outcomeOf(&answer)
	}
	answer := policy.Rehearse(ctx, c.proposed, action, l.input, 0)
	is := outcomeOf(&answer)
	return to.count(ctx, &asked{action: l.action, subject: l.actor, resource: l.object, decision: l.id}, &was, &is)
}

// outcome is the answer that an entry tells of.
func (l *leaf) outcome() Outcome {
	a := policy.Answer{Profile: textOf(l.decision, "profile")}
	a.Lifetime, _ = time.ParseDuration(textOf(l.decision, "lifetime")) // empty: none was given
	for _, reason := range objects(l.decision, "reasons") {
		a.Reasons = append(a.Reasons, policy.Reason{Code: textOf(reason, "code"), Detail: textOf(reason, "detail")})
	}
	for _, o := range objects(l.decision, "obligations") {
		a.Obligations = append(a.Obligations, policy.Obligation{Type: textOf(o, "type")})
	}
	out := outcomeOf(&a)
	out.Verdict = textOf(l.decision, "verdict")
	return out
}

// objects returns the objects in the list of that name.
func objects(of map[string]any, name string) []map[string]any {
	list, _ := of[name].([]any)
	found := make([]map[string]any, 0, len(list))
	for _, e := range list {
		if o, ok := e.(map[string]any); ok {
			found = append(found, o)
		}
	}
	return found
}

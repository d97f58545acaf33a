package release

import (
	"cmp"
	"context"
	"maps"
	"slices"
)

// Bounds of what a tally lists itself.
const (
	maxKept   = 100 // differences of each class; a replay's others are kept beside it
	maxGroups = 100
)

// Tally is what comparing many answers has come to.
type Tally struct {
	Asked       int           `json:"asked"`                 // questions that both rules answered
	Refused     int           `json:"refused"`               // denied by the proposed rules
	WasRefused  int           `json:"was_refused"`           // denied by the rules in force
	Skipped     int           `json:"skipped,omitempty"`     // not asked: no rules decided them, or there was no room
	Broken      int           `json:"broken,omitempty"`      // the proposed rules gave no answer, which is a deny
	Totals      map[Class]int `json:"totals,omitempty"`      // questions by class of difference
	Groups      []Group       `json:"groups,omitempty"`      // questions by class, action and reason, the most first
	Truncated   []Class       `json:"truncated,omitempty"`   // classes of which not all differences are listed here
	Differences []Difference  `json:"differences,omitempty"` // gravest class first, and there in the order they came
}

// Total returns how many questions were answered with a difference of that class.
func (t *Tally) Total(c Class) int { return t.Totals[c] }

// brokenCode is the reason of a deny where the rules gave no answer.
const brokenCode = "policy_error"

// Group is how many questions were answered differently in the same way.
type Group struct {
	Class  Class  `json:"class"`
	Action string `json:"action"`
	Was    string `json:"was,omitempty"`    // code of the first reason
	Is     string `json:"is,omitempty"`     // likewise, by the proposed rules
	Detail string `json:"detail,omitempty"` // one such reason in words
	Count  int    `json:"count"`
}

// counter makes a Tally. It is not safe for concurrent use.
type counter struct {
	t      Tally
	index  map[kind]int // of differences, in t.Differences
	groups map[kind]int // of groups, in t.Groups; without subject and resource
	kept   map[Class]int
	sink   *sink // takes all differences; nil: those that are listed are all that is kept
}

// kind is what makes two differences one.
type kind struct {
	class                              Class
	action, subject, resource, was, is string
}

func newCounter() *counter {
	return &counter{t: Tally{Totals: map[Class]int{}}, index: map[kind]int{}, groups: map[kind]int{}, kept: map[Class]int{}}
}

// asked is what a Difference says of its question.
type asked struct{ action, subject, resource, decision string }

// count takes one pair of answers in.
func (c *counter) count(ctx context.Context, q *asked, was, is *Outcome) error {
	c.t.Asked++
	if is.Verdict == "deny" {
		c.t.Refused++
	}
	if was.Verdict == "deny" {
		c.t.WasRefused++
	}
	if is.Code == brokenCode {
		c.t.Broken++
	}
	class, differs := compare(was, is)
	if !differs {
		return nil
	}
	d := Difference{Class: class, Action: q.action, Subject: q.subject, Resource: q.resource,
		Was: *was, Is: *is, Decision: q.decision, Count: 1}
	c.add(d)
	c.group(Group{Class: class, Action: d.Action, Was: was.Code, Is: is.Code, Detail: is.Detail, Count: 1})
	return c.sink.take(ctx, &d)
}

// kind is what makes the difference one with others.
func (d *Difference) kind() kind {
	return kind{d.Class, d.Action, d.Subject, d.Resource, d.Was.Code, d.Is.Code}
}

// add lists the difference, or counts it with those like it.
func (c *counter) add(d Difference) {
	c.t.Totals[d.Class] += d.Count
	k := d.kind()
	if i, known := c.index[k]; known {
		like := &c.t.Differences[i]
		like.Count += d.Count
		like.Decision = max(like.Decision, d.Decision) // ids sort by age
		return
	}
	if c.kept[d.Class] >= maxKept {
		c.truncate(d.Class)
		return
	}
	c.kept[d.Class]++
	c.index[k] = len(c.t.Differences)
	c.t.Differences = append(c.t.Differences, d)
}

func (c *counter) truncate(class Class) {
	if !slices.Contains(c.t.Truncated, class) {
		c.t.Truncated = append(c.t.Truncated, class)
	}
}

// group counts the group with those like it; of too many the others are only in the totals.
func (c *counter) group(g Group) {
	k := kind{class: g.Class, action: g.Action, was: g.Was, is: g.Is}
	i, known := c.groups[k]
	switch {
	case known:
		c.t.Groups[i].Count += g.Count
	case len(c.t.Groups) < maxGroups:
		c.groups[k] = len(c.t.Groups)
		c.t.Groups = append(c.t.Groups, g)
	}
}

// merge takes in what another has counted.
func (c *counter) merge(t *Tally) {
	c.t.Asked += t.Asked
	c.t.Refused += t.Refused
	c.t.WasRefused += t.WasRefused
	c.t.Skipped += t.Skipped
	c.t.Broken += t.Broken
	listed := map[Class]int{}
	for _, d := range t.Differences {
		listed[d.Class] += d.Count
		c.add(d)
	}
	for class, n := range t.Totals {
		c.t.Totals[class] += n - listed[class]
	}
	for _, g := range t.Groups {
		c.group(g)
	}
	for _, class := range t.Truncated {
		c.truncate(class)
	}
}

// tally returns a copy of what was counted so far, in order.
func (c *counter) tally() Tally {
	t := c.t
	t.Totals = maps.Clone(t.Totals)
	t.Truncated = slices.Clone(t.Truncated)
	t.Differences, t.Groups = slices.Clone(t.Differences), slices.Clone(t.Groups)
	slices.SortStableFunc(t.Differences, func(a, b Difference) int { return a.Class.grade() - b.Class.grade() })
	slices.SortStableFunc(t.Groups, func(a, b Group) int {
		return cmp.Or(a.Class.grade()-b.Class.grade(), b.Count-a.Count)
	})
	return t
}

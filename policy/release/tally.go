package release

import (
	"maps"
	"slices"
)

// maxKept bounds the differences that are listed of each class; the others are only counted.
const maxKept = 500

// Tally is what comparing many answers has come to.
type Tally struct {
	Asked       int           `json:"asked"`                 // questions that both rules answered
	Refused     int           `json:"refused"`               // denied by the proposed rules
	WasRefused  int           `json:"was_refused"`           // denied by the rules in force
	Skipped     int           `json:"skipped,omitempty"`     // not asked: no rules decided them, or there was no room
	Broken      int           `json:"broken,omitempty"`      // the proposed rules gave no answer, which is a deny
	Totals      map[Class]int `json:"totals,omitempty"`      // questions by class of difference
	Truncated   []Class       `json:"truncated,omitempty"`   // classes of which not all differences are listed
	Differences []Difference  `json:"differences,omitempty"` // gravest class first, and there in the order they came
}

// Total returns how many questions were answered with a difference of that class.
func (t *Tally) Total(c Class) int { return t.Totals[c] }

// brokenCode is the reason of a deny where the rules gave no answer.
const brokenCode = "policy_error"

// counter makes a Tally. It is not safe for concurrent use.
type counter struct {
	t     Tally
	index map[kind]int // of differences, in t.Differences
	kept  map[Class]int
}

// kind is what makes two differences one.
type kind struct {
	class                              Class
	action, subject, resource, was, is string
}

func newCounter() *counter {
	return &counter{t: Tally{Totals: map[Class]int{}}, index: map[kind]int{}, kept: map[Class]int{}}
}

// asked is what a Difference says of its question.
type asked struct{ action, subject, resource, decision string }

// count takes one pair of answers in.
func (c *counter) count(q *asked, was, is *Outcome) {
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
	if class, differs := compare(was, is); differs {
		c.add(Difference{Class: class, Action: q.action, Subject: q.subject, Resource: q.resource,
			Was: *was, Is: *is, Decision: q.decision, Count: 1})
	}
}

// add lists the difference, or counts it with those like it.
func (c *counter) add(d Difference) {
	c.t.Totals[d.Class] += d.Count
	k := kind{d.Class, d.Action, d.Subject, d.Resource, d.Was.Code, d.Is.Code}
	if i, known := c.index[k]; known {
		like := &c.t.Differences[i]
		like.Count += d.Count
		like.Decision = max(like.Decision, d.Decision) // ids sort by age
		return
	}
	if c.kept[d.Class] >= maxKept {
		if !slices.Contains(c.t.Truncated, d.Class) {
			c.t.Truncated = append(c.t.Truncated, d.Class)
		}
		return
	}
	c.kept[d.Class]++
	c.index[k] = len(c.t.Differences)
	c.t.Differences = append(c.t.Differences, d)
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
	for _, class := range t.Truncated {
		if !slices.Contains(c.t.Truncated, class) {
			c.t.Truncated = append(c.t.Truncated, class)
		}
	}
}

// tally returns a copy of what was counted so far, in order.
func (c *counter) tally() Tally {
	t := c.t
	t.Totals = maps.Clone(t.Totals)
	t.Truncated = slices.Clone(t.Truncated)
	t.Differences = slices.Clone(t.Differences)
	grave := Classes()
	slices.SortStableFunc(t.Differences, func(a, b Difference) int {
		return slices.Index(grave, a.Class) - slices.Index(grave, b.Class)
	})
	return t
}

package release

import (
	"bytes"
	"context"
	"crypto/sha256"
	"slices"
	"sync"
)

// Part says where questions came from.
type Part string

// The parts.
const (
	InFleet  Part = "fleet"    // the next renewals of a replay
	InRecord Part = "recorded" // the decisions of a replay
	OnTrial  Part = "trial"    // what was asked while the proposal was on trial
)

// Parts lists every Part, in the order of lists.
func Parts() []Part { return []Part{InFleet, InRecord, OnTrial} }

// maxListed bounds the differences that are kept of each part of a replay.
const maxListed = 200_000

// DifferenceFilter selects differences of a replay. Zero fields select everything.
type DifferenceFilter struct {
	Replay   string // id; required
	Part     Part
	Class    Class
	Action   string
	Code     string // of the first reason that the proposed rules gave
	Resource string // id, of a device mostly
	After    []byte // only places above this, for paging
	Limit    int    // at most this many; 0 means 100
}

// Listed is a difference with its place among those of its replay.
type Listed struct {
	Part Part `json:"of"`
	Difference
	Place []byte `json:"-"` // sorts as lists are read: by part, class, action, code and resource
}

// place is where the difference stands among those of its replay. What is one difference is one place.
func (d *Difference) place(part Part) []byte {
	p := []byte{byte(slices.Index(Parts(), part)), byte(d.Class.grade())}
	for _, text := range []string{d.Action, d.Is.Code, d.Resource} {
		p = append(append(p, text[:min(len(text), 40)]...), 0)
	}
	h := sha256.New()
	for _, text := range []string{d.Action, d.Is.Code, d.Resource, d.Subject, d.Was.Code} {
		h.Write(append([]byte(text), 0))
	}
	return append(p, h.Sum(nil)[:8]...)
}

// sink takes the differences of several counters to the store, some hundred at a time.
type sink struct {
	store  DifferenceStore
	replay string
	part   Part

	mu      sync.Mutex
	waiting map[kind]*Difference
	listed  int
	over    int // differences for which there was no room any more
}

// room is how many differences wait until they are stored.
const room = 256

// take puts the difference with those that wait, and stores them when there are enough. The nil sink forgets it.
func (s *sink) take(ctx context.Context, d *Difference) error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listed >= maxListed {
		s.over++
		return nil
	}
	if like, known := s.waiting[d.kind()]; known {
		like.Count++
		return nil
	}
	kept := *d
	s.waiting[d.kind()] = &kept
	if len(s.waiting) < room {
		return nil
	}
	return s.put(ctx)
}

// flush stores what waits still.
func (s *sink) flush(ctx context.Context) error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.put(ctx)
}

func (s *sink) put(ctx context.Context) error {
	if len(s.waiting) == 0 {
		return nil
	}
	batch := make([]Listed, 0, len(s.waiting))
	for _, d := range s.waiting {
		batch = append(batch, Listed{Part: s.part, Difference: *d, Place: d.place(s.part)})
	}
	clear(s.waiting)
	s.listed += len(batch)
	return s.store.AddDifferences(ctx, s.replay, batch)
}

// among selects of what a trial has listed.
func (f *DifferenceFilter) among(t *Tally) []Listed {
	if t == nil {
		return nil
	}
	var found []Listed
	for _, d := range t.Differences {
		l := Listed{Part: OnTrial, Difference: d, Place: d.place(OnTrial)}
		fits := (f.Class == "" || f.Class == d.Class) && (f.Action == "" || f.Action == d.Action) && (f.Code == "" || f.Code == d.Is.Code) &&
			(f.Resource == "" || f.Resource == d.Resource) && bytes.Compare(l.Place, f.After) > 0
		if fits {
			found = append(found, l)
		}
	}
	slices.SortFunc(found, func(a, b Listed) int { return bytes.Compare(a.Place, b.Place) })
	limit := f.Limit
	if limit <= 0 {
		limit = 100
	}
	return found[:min(len(found), limit)]
}

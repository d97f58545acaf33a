package release

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hallmark-pki/hallmark/policy"
)

// trial is a proposal whose rules are being asked.
type trial struct {
	proposal string
	salt     string // so that which devices a share holds cannot be foretold, and differs from trial to trial
	stage    Stage
	rules    Rules
	rate     *rate // of devices' questions that its rules answered
	seen     *seen // what shadow has come to
}

// member returns the object of that name inside an object.
func member(object map[string]any, name string) map[string]any {
	m, _ := object[name].(map[string]any)
	return m
}

// asksForItself reports whether the question is a device's own.
func asksForItself(input map[string]any) bool {
	kind, _ := member(input, "subject")["type"].(string)
	return kind == "device"
}

// chooses reports whether the stage sends the question to the rules on trial.
// Only questions about devices are: who may manage the server stays decided by
// the rules in force. A device stays on its side as long as the trial lasts,
// and on the trial's side when the share grows.
func (s *Stage) chooses(salt string, input map[string]any) bool {
	resource := member(input, "resource")
	if kind, _ := resource["type"].(string); kind != "device" {
		return false
	}
	switch s.Kind {
	case ToPercent:
		id, _ := resource["id"].(string)
		return share(salt, id) < uint64(s.Percent)
	case ToProfiles:
		profile, _ := member(member(input, "action"), "properties")["profile"].(string)
		return slices.Contains(s.Profiles, profile)
	}
	return false
}

// share places an id between 0 and 99.
func share(salt, id string) uint64 {
	sum := sha256.Sum256([]byte(salt + "\x00" + id))
	return binary.BigEndian.Uint64(sum[:]) % 100
}

// seen is what a trial has come to, as far as this process has counted.
type seen struct {
	mu      sync.Mutex
	counter *counter
	skipped atomic.Int64 // questions for which there was no room
	changed atomic.Bool  // since it was kept last

	asked, refused atomic.Int64 // on a stage, by devices
}

// count takes in an answer that was given on a stage.
func (s *seen) count(v policy.Verdict, err error) {
	s.asked.Add(1)
	if v == policy.Deny || err != nil {
		s.refused.Add(1)
	}
	s.changed.Store(true)
}

func newSeen() *seen { return &seen{counter: newCounter()} }

// tally returns what was seen so far.
func (s *seen) tally() Tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.counter.tally()
	t.Skipped = int(s.skipped.Load())
	return t
}

// job is a question for the rules in shadow, and what those in force said.
type job struct {
	trial *trial
	input map[string]any
	was   policy.Answer
}

// Room for questions that wait for the rules in shadow. What finds none is counted and passed over:
// a trial never delays an answer.
const shadowRoom = 256

// shadow puts the question where the rules in shadow find it.
func (r *Running) shadow(t *trial, input map[string]any, answer policy.Answer, err error) {
	j := job{trial: t, input: input, was: policy.Settle(actionOf(input), answer, err)}
	select {
	case r.jobs() <- j:
	default:
		t.seen.skipped.Add(1)
	}
	t.seen.changed.Store(true)
}

func (r *Running) jobs() chan job {
	r.once.Do(r.open)
	return r.shadows
}

// rehearsals holds the replays to be done: one, mostly.
func (r *Running) rehearsals() chan rehearsing {
	r.once.Do(r.open)
	return r.asked
}

func (r *Running) open() { r.shadows, r.asked = make(chan job, shadowRoom), make(chan rehearsing, 1) }

// Shadow asks the rules in shadow what those in force were asked, until ctx ends.
func (r *Running) Shadow(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case j := <-r.jobs():
			j.ask(ctx)
		}
	}
}

// ask compares the answer of the rules in shadow with the one that was given.
func (j *job) ask(ctx context.Context) {
	action := actionOf(j.input)
	answer := policy.Rehearse(ctx, j.trial.rules, action, j.input, time.Second)
	was, is := outcomeOf(&j.was), outcomeOf(&answer)
	subject, _ := member(j.input, "subject")["id"].(string)
	resource, _ := member(j.input, "resource")["id"].(string)
	s := j.trial.seen
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.counter.count(ctx, &asked{action: string(action), subject: subject, resource: resource}, &was, &is) // nothing but a sink fails, and there is none
}

func actionOf(input map[string]any) policy.Action {
	name, _ := member(input, "action")["name"].(string)
	return policy.Action(name)
}

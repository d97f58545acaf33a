package release

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hallmark-pki/hallmark/policy"
)

// Running is the policy.Engine of a server: it answers with the rules in force,
// and while a proposal is on trial asks that one's rules, too, or instead. Every
// replica follows the course that the store holds; as long as that holds none, the
// rules are those of the policy directory.
type Running struct {
	Proposals ProposalStore
	Revisions RevisionStore
	Language  Language
	Directory func(ctx context.Context) (bundle []byte, err error) // reads the policy directory
	Now       func() time.Time
	Log       *slog.Logger

	lineup  atomic.Pointer[lineup]
	turning sync.Mutex            // one change of the lineup at a time
	behind  atomic.Pointer[error] // why the course cannot be followed; nil: it is
	shadows chan job              // questions for the rules in shadow; see Shadow
	once    sync.Once
	asked   chan rehearsing // replays to be done; see Releases.StartReplay
}

var _ policy.Engine = (*Running)(nil)

// lineup is whom a question goes to. Nothing in it changes but counts.
type lineup struct {
	course   Course
	revision Revision // in force; its Number is 0 where the rules are those of the directory
	bundle   []byte   // of the rules in force
	active   Rules
	rate     *rate  // of devices' questions that the rules in force answered
	trial    *trial // nil: nothing is on trial
}

// Evaluate answers with the rules in force, or with those on trial where the
// stage of the trial chooses the question. The answer carries the digest of the rules that gave it.
func (r *Running) Evaluate(ctx context.Context, input map[string]any) (policy.Answer, error) {
	l := r.lineup.Load()
	if l == nil {
		return policy.Answer{}, errors.New("no rules are loaded")
	}
	byDevice := asksForItself(input)
	if l.trial != nil && l.trial.stage.chooses(l.trial.salt, input) {
		answer, err := l.trial.rules.Evaluate(ctx, input)
		if byDevice {
			l.trial.rate.count(answer.Verdict, err)
			l.trial.seen.count(answer.Verdict, err)
		}
		return answer, err
	}
	answer, err := l.active.Evaluate(ctx, input)
	if byDevice {
		l.rate.count(answer.Verdict, err)
	}
	if l.trial != nil && l.trial.stage.Kind == ToShadow {
		r.shadow(l.trial, input, answer, err)
	}
	return answer, err
}

// Digest names the rules in force as "sha256:<hex>"; empty before Start.
func (r *Running) Digest() string {
	l := r.lineup.Load()
	if l == nil {
		return ""
	}
	return l.active.Digest()
}

// served is how many questions of devices were answered so far, by the rules in force and by those on trial.
func (r *Running) served() int64 {
	l := r.lineup.Load()
	n := l.rate.asked.Load()
	if l.trial != nil {
		n += l.trial.rate.asked.Load()
	}
	return n
}

// Course is what this replica follows by now.
func (r *Running) Course() Course {
	l := r.lineup.Load()
	if l == nil {
		return Course{}
	}
	return l.course
}

// Behind says why this replica cannot follow the course, and so still answers
// with the rules from before; nil means that it does not lag.
func (r *Running) Behind() error {
	if err := r.behind.Load(); err != nil {
		return *err
	}
	return nil
}

// Settings is data.settings of the rules in force.
func (r *Running) Settings() map[string]any {
	l := r.lineup.Load()
	if l == nil {
		return nil
	}
	return l.active.Settings()
}

// Uphold is the guard rail that no rules lift: whoever put a revision in force,
// its author, its approvers and who activated it, may take it back to the one
// before. It is for policy.Point.
func (r *Running) Uphold(q *policy.Request) (policy.Reason, bool) {
	l := r.lineup.Load()
	if l == nil || q.Action != policy.RollbackPolicy || q.Subject.Type != "user" || q.Subject.ID == "" || !l.revision.keeps(q.Subject.ID) {
		return policy.Reason{}, false
	}
	if to := q.Resource.ID; to != "" && to != number(l.revision.Number-1) {
		return policy.Reason{}, false
	}
	return policy.Reason{Code: "guard_rail", Detail: fmt.Sprintf("%s put revision %d in force and may take it back", q.Subject.ID, l.revision.Number)}, true
}

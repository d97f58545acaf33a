package console

import (
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"net/http"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/internal/once"
	"github.com/hallmark-pki/hallmark/policy"
)

// A change that is asked for with an Idempotency-Key is done once. Before
// anything else the attempt of that key is looked for, and its answer given again. Where
// there is none, the attempt begins once policy has permitted the change, under the id of that
// decision, and ends with the answer. A crash in between leaves an attempt without an answer: then
// the record, which is committed with the change and by the same id, tells whether it was done.

// replayedHeader marks an answer that was given before.
const replayedHeader = "Idempotency-Replayed"

// What an attempt is given beyond the time that its transfer may take: first it
// is cut off, and some time after that it counts as lost.
const (
	attemptTime  = time.Minute
	attemptGrace = time.Minute
)

// attempt is a call that has a key.
type attempt struct {
	key    *once.Key
	body   hash.Hash    // over what is read of the call's body
	before once.Attempt // that has come to nothing; zero: there was none
	permit policy.Permit
	begun  bool
}

// repeatable reports whether calls of the route take a key: what changes
// something does, except where the key in the body can be used only once anyway.
func (rt *route) repeatable() bool { return !rt.action.Reads() && rt.proof == nil }

// once does what a call with a key asks for, unless it was done before.
func (c *Console) once(w http.ResponseWriter, call *call, rt route) (answer, error) {
	key, err := once.Parse(call.Header.Values(once.Header), call.caller.Name())
	if err != nil {
		return answer{}, err
	}
	a := &attempt{key: key, body: sha256.New()}
	call.attempt, call.Body = a, &overheard{call.Body, a.body}
	found, err := c.Attempts.Attempt(call.Context(), key.ID)
	switch {
	case fault.Is(err, fault.NotFound), err == nil && !call.at.Before(found.Expires):
	case err != nil:
		return answer{}, err
	case len(found.Answer) > 0:
		if rt.patience > 0 {
			wait(w, rt.patience)
		}
		return call.again(found)
	default:
		if err := c.resolve(call, found); err != nil {
			return answer{}, err
		}
		a.before = found
	}
	result, err := c.act(w, call, rt)
	if a.begun {
		result, err = c.end(call, result, err)
	}
	return result, err
}

// again gives the answer of an attempt once more, to the same call.
func (call *call) again(found once.Attempt) (answer, error) {
	if _, err := io.Copy(io.Discard, http.MaxBytesReader(call.body, call.Body, maxImport)); err != nil {
		return answer{}, badJSON(err)
	}
	kept, err := call.attempt.key.Open(found.Answer)
	if err != nil {
		return answer{}, err
	}
	if !once.Same(kept.Fingerprint, call.fingerprint()) {
		return answer{}, fault.New(fault.Malformed, codeKeyReused, "this "+once.Header+" was used for another call; each takes a key of its own")
	}
	if kept.Lost {
		return answer{}, errLost(found.Decision)
	}
	a := answer{status: kept.Status, header: kept.Header, raw: kept.Body}
	a.set(replayedHeader, "true")
	return a, nil
}

// resolve finds out about an attempt without an answer. It returns nil if
// that has come to nothing, and never will.
func (c *Console) resolve(call *call, found once.Attempt) error {
	if call.at.Before(found.Until) {
		return errUnderWay
	}
	id, err := audit.ParseID(found.Decision)
	if err != nil {
		return err
	}
	e, err := c.Record.Entry(call.Context(), id)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	l, err := readLeaf(e)
	if err != nil {
		return err
	}
	if l.Outcome == audit.Granted {
		return errLost(found.Decision)
	}
	return nil
}

var errUnderWay = &fault.Error{Kind: fault.Conflict, Code: "attempt_under_way", After: time.Second,
	Says: "a call with this " + once.Header + " is under way, or was until the server stopped; what became of it is not known yet"}

func errLost(decision string) error {
	return fault.New(fault.Conflict, "answer_lost", "what this call asks for was done, by decision "+decision+
		", but its answer was not kept: look at what there is before you ask for it with another "+once.Header)
}

// begin keeps the attempt before anything is done.
func (c *Console) begin(call *call, patience time.Duration, p policy.Permit) (context.Context, context.CancelFunc, error) {
	a := call.attempt
	if a == nil {
		return call.Context(), func() {}, nil
	}
	now := c.Now()
	enough := now.Add(patience + attemptTime)
	err := c.Attempts.BeginAttempt(call.Context(), once.Attempt{ID: a.key.ID, Decision: p.ID().String(), Began: now,
		Until: enough.Add(attemptGrace), Expires: now.Add(once.Life)}, a.before.Decision)
	if fault.Is(err, fault.Conflict) { // another call with this key was quicker
		err = errUnderWay
	}
	if err != nil {
		return nil, nil, err
	}
	a.begun, a.permit = true, p
	ctx, cancel := context.WithTimeout(call.Context(), patience+attemptTime) // whatever comes later would be taken for lost
	return ctx, cancel, nil
}

// end keeps the answer, or forgets the attempt of which nothing came. What
// cannot be kept now is found out about later: the change stands whatever becomes of its answer.
func (c *Console) end(call *call, a answer, failed error) (answer, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(call.Context()), attemptGrace/2) // the caller may have gone
	defer cancel()
	key, decision := call.attempt.key, call.attempt.permit.ID().String()
	if failed != nil {
		if inDoubt(failed) {
			return answer{}, failed
		}
		return answer{}, errors.Join(failed, c.Attempts.EndAttempt(ctx, key.ID, decision, nil))
	}
	if a.value != nil {
		text, err := encode(a.value)
		if err != nil {
			return answer{}, err
		}
		a.raw, a.value = text, nil
		a.set("Content-Type", jsonType)
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(call.Body, maxBody)) // what the deed left of the body is part of the call, too
	sealed, err := key.Seal(once.Answer{Fingerprint: call.fingerprint(), Status: a.status, Header: a.header, Body: a.raw, Lost: a.stream != nil})
	if err == nil {
		err = c.Attempts.EndAttempt(ctx, key.ID, decision, sealed)
	}
	if err != nil {
		c.Logger.ErrorContext(ctx, "an answer could not be kept for a repeat", "request_id", call.requestID, "decision", decision, "error", err)
	}
	return a, nil
}

// inDoubt reports whether a deed may have been done although it failed.
func inDoubt(err error) bool {
	f := fault.Of(err)
	return f.Kind == fault.Internal || f.Kind == fault.Busy && (f.Code == "database_busy" || f.Code == "gave_up_waiting" || f.Code == "closing")
}

func (call *call) fingerprint() []byte {
	return call.attempt.key.Fingerprint(call.Method, call.URL.EscapedPath()+"?"+call.URL.RawQuery, call.Header.Get("Content-Type"), call.attempt.body.Sum(nil))
}

// overheard is a body that is hashed while it is read.
type overheard struct {
	io.ReadCloser
	hash hash.Hash
}

// Read reads on.
func (o *overheard) Read(b []byte) (int, error) {
	n, err := o.ReadCloser.Read(b)
	o.hash.Write(b[:n])
	return n, err
}

package enroll

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// errandFor is how long an operator's errand waits for another operator, and
// how long the approval waits for the first to come back.
const errandFor = 24 * time.Hour

// Errand is what an operator has asked for.
type Errand struct {
	Operator   string          `json:"operator"`
	Action     string          `json:"action"`
	Object     string          `json:"object"`               // type and id, with a space between; without an id where each call makes one
	Parameters json.RawMessage `json:"parameters,omitempty"` // as rules see them: input.action.properties
	Content    string          `json:"content,omitempty"`    // "sha256:<hex>" over what was sent along; empty if nothing was
}

// errandOf is what the question asks for. made says that the call makes the
// id of what it is about, so that the next call for the same has another one.
func errandOf(q *policy.Request, made bool) Errand {
	e := Errand{Operator: q.Subject.ID, Action: string(q.Action), Object: q.Resource.Type}
	if !made && q.Resource.ID != "" {
		e.Object += " " + q.Resource.ID
	}
	if len(q.Parameters) > 0 {
		e.Parameters = audit.AppendCanonical(nil, q.Parameters)
	}
	return e
}

// key is the same for two questions of one operator that ask for the same. content
// is the digest of what is sent along, where that is known before rules are asked; empty where it is large and comes after.
func (e *Errand) key(content string) [32]byte {
	return sha256.Sum256(audit.AppendCanonical([]byte("errand "), map[string]any{
		"operator": e.Operator, "action": e.Action, "object": e.Object, "parameters": string(e.Parameters), "content": content,
	}))
}

// Recall adds to the question what another operator has said of it before: an
// approval, which is used up if it is done now, or a denial, which is returned as an error of kind Denied.
// With an approval it returns the digest of what the other one has agreed to have sent along.
func (w *Waiting) Recall(ctx context.Context, q *policy.Request, made bool, content string) (agreed string, err error) {
	e := errandOf(q, made)
	held, err := w.Store.HeldByKey(ctx, e.key(content), q.At)
	switch {
	case fault.Is(err, fault.NotFound):
		return "", nil
	case err != nil:
		return "", err
	case held.State == Rejected:
		return "", fault.New(fault.Denied, "request_denied", fmt.Sprintf("operator %s denied request %s: %s", held.By, held.ID, held.Reason))
	case held.State == Approved:
		q.Approval = held.ID
		q.Context["approval"] = map[string]any{"id": held.ID, "by": held.By, "at": held.Decided.UTC().Format(audit.TimeFormat)}
		agreed = held.Errand.Content
	}
	return agreed, nil
}

// Defer records what the operator asked for as waiting, and returns the error
// that says so, of kind Held. content is what Recall was told, whole the digest of all that was sent along.
func (w *Waiting) Defer(ctx context.Context, d *policy.Decision, q *policy.Request, made bool, content, whole string) error {
	e := errandOf(q, made)
	e.Content = whole
	h := Held{ID: d.ID().String(), Key: e.key(content), State: Pending, Created: q.At, Expires: q.At.Add(errandFor), Attempts: 1, Errand: &e}
	says := "another operator has to approve this"
	for i, r := range d.Reasons() {
		h.Reasons = append(h.Reasons, r.Code)
		if i == 0 {
			says = r.Code + ": " + r.Detail
		}
	}
	event, err := d.Held(policy.Properties{"request": map[string]any{"action": e.Action, "object": e.Object}})
	if err != nil {
		return err
	}
	standing, err := w.Store.Hold(ctx, h, event)
	if err != nil {
		return err
	}
	return &fault.Error{Kind: fault.Held, Code: "held", Ref: d.ID().String(), Says: fmt.Sprintf("%s (request %s)", says, standing.ID)}
}

// Overrule records what a guard rail refuses, and returns the refusal.
func (w *Waiting) Overrule(ctx context.Context, p policy.Permit, cause *fault.Error) error {
	event, refused := p.Overrule(cause)
	if err := w.Journal.Append(ctx, event); err != nil {
		return fault.Wrap(fault.Busy, "record_unavailable", "the record cannot be written; nothing was done", err)
	}
	return refused
}

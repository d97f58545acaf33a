package enroll

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// heldFor is how long a held request waits for an operator, and how long an
// approval waits for the device to come back.
const heldFor = 7 * 24 * time.Hour

// defaultRetryAfter is what a held device is told to wait where its profile says nothing.
const defaultRetryAfter = 30 * time.Second

// maxPending is how many requests of one device may wait at once: a device that
// makes a new key for every try would fill the operators' list.
const maxPending = 20

// Waiting is what policy holds for a person: enrolments, and errands of operators.
type Waiting struct {
	Store   HeldStore
	Journal audit.Journal // takes what a guard rail refuses
	Now     func() time.Time
}

// List returns the held requests that the filter selects.
func (w *Waiting) List(ctx context.Context, p policy.Permit, f HeldFilter) ([]Held, error) {
	if err := p.Covers(policy.ListRequests, ""); err != nil {
		return nil, err
	}
	return w.Store.HeldRequests(ctx, f)
}

// Show returns one held request, or an error of kind NotFound.
func (w *Waiting) Show(ctx context.Context, p policy.Permit, id string) (Held, error) {
	if err := p.Covers(policy.ShowRequest, id); err != nil {
		return Held{}, err
	}
	return w.Find(ctx, id)
}

// Find returns one request, or an error of kind NotFound. It is for asking
// policy about it, and answers no operator.
func (w *Waiting) Find(ctx context.Context, id string) (Held, error) {
	found, err := w.Store.HeldRequests(ctx, HeldFilter{ID: id, Limit: 1})
	if err == nil && len(found) == 0 {
		err = fault.New(fault.NotFound, "request_unknown", "no held request has this id")
	}
	if err != nil {
		return Held{}, err
	}
	return found[0], nil
}

// Approve lets the request through when it is asked again; every check runs
// again then. What an operator has asked for is for another one to approve, whatever rules say (code self_approval).
func (w *Waiting) Approve(ctx context.Context, p policy.Permit, id, reason string) error {
	if err := p.Covers(policy.ApproveRequest, id); err != nil {
		return err
	}
	held, err := w.Find(ctx, id)
	if err != nil {
		return err
	}
	if held.Errand != nil && strings.EqualFold(held.Errand.Operator, p.Actor()) {
		return w.Overrule(ctx, p, fault.New(fault.Denied, "self_approval", "nobody approves what they have asked for themselves"))
	}
	return w.settle(ctx, p, policy.ApproveRequest, Settlement{ID: id, To: Approved, Reason: reason})
}

// Deny refuses the request, with a reason that the device is told.
func (w *Waiting) Deny(ctx context.Context, p policy.Permit, id, reason string) error {
	if reason == "" {
		return fault.New(fault.Malformed, "reason_missing", "a denial needs a reason: the device is told")
	}
	return w.settle(ctx, p, policy.DenyRequest, Settlement{ID: id, To: Rejected, Reason: reason})
}

func (w *Waiting) settle(ctx context.Context, p policy.Permit, a policy.Action, s Settlement) error {
	s.By, s.At = p.Actor(), w.Now()
	event, err := p.Redeem(a, s.ID, policy.Properties{"request": map[string]any{"state": string(s.To), "reason": s.Reason}})
	if err != nil {
		return err
	}
	return w.Store.SettleHeld(ctx, s, event)
}

// settled returns the operator's yes to this very request, nil if there is no
// word yet, and an operator's no as an error.
func (w *Waiting) settled(ctx context.Context, v *visit) (*Held, error) {
	held, err := w.Store.HeldByKey(ctx, pendingKey(v), v.at)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	switch held.State {
	case Approved:
		return &held, nil
	case Rejected:
		return nil, fault.New(fault.Denied, "request_denied", fmt.Sprintf("an operator denied request %s: %s", held.ID, held.Reason))
	}
	return nil, nil
}

// hold records the request as waiting and returns the error that says so.
func (w *Waiting) hold(ctx context.Context, v *visit, d *policy.Decision) error {
	key := v.keySHA256()
	h := Held{
		ID: d.ID().String(), Key: pendingKey(v), Device: v.device.ID, Profile: v.profile.Name,
		Renewal: v.renewal(), KeyHash: hex.EncodeToString(key[:]), Subject: v.CSR.Request.Subject.String(),
		State: Pending, Created: v.at, Expires: v.at.Add(heldFor), Attempts: 1,
	}
	says := "waiting for an operator's approval"
	for i, r := range d.Reasons() {
		h.Reasons = append(h.Reasons, r.Code)
		if i == 0 {
			says = r.Code + ": " + r.Detail
		}
	}
	if err := w.checkRoom(ctx, &h); err != nil {
		return err
	}
	event, err := d.Held(policy.Properties{"request": map[string]any{"key_sha256": h.KeyHash, "profile": h.Profile}})
	if err != nil {
		return err
	}
	standing, err := w.Store.Hold(ctx, h, event)
	if err != nil {
		return err
	}
	after := v.profile.RetryAfter
	if after == 0 {
		after = defaultRetryAfter
	}
	return &fault.Error{Kind: fault.Held, Code: "held", After: after, Ref: d.ID().String(),
		Says: fmt.Sprintf("%s (request %s)", says, standing.ID)}
}

// checkRoom refuses a new request of a device that has too many waiting.
func (w *Waiting) checkRoom(ctx context.Context, h *Held) error {
	waiting, err := w.Store.HeldRequests(ctx, HeldFilter{State: Pending, Device: h.Device, Limit: 1000})
	if err != nil {
		return err
	}
	live := 0
	for _, other := range waiting {
		if other.Key == h.Key {
			return nil // the same request once more
		}
		if other.Expires.After(h.Created) {
			live++
		}
	}
	if live >= maxPending {
		return fault.New(fault.Denied, "too_many_held", fmt.Sprintf("%d requests of this device wait for an operator already; keep the key and ask again with it", live))
	}
	return nil
}

// pendingKey is what makes two tries the same request: profile, device, key and
// the names asked for. The CSR's bytes will not do, for with channel binding they
// change with every connection.
func pendingKey(v *visit) [32]byte {
	h := sha256.New()
	part := func(b []byte) { fmt.Fprintf(h, "%d:", len(b)); h.Write(b) }
	part([]byte(v.profile.Name))
	part([]byte(v.device.ID))
	part([]byte(v.Operation.String()))
	if v.Operation != ServerKeygen { // there the key is new each time
		part(v.CSR.SPKI)
	}
	part([]byte(v.CSR.Request.Subject.String()))
	names := make([][]byte, len(v.CSR.SANs))
	for i := range v.CSR.SANs {
		names[i] = v.CSR.SANs[i].Raw
	}
	slices.SortFunc(names, bytes.Compare)
	for _, name := range names {
		part(name)
	}
	return [32]byte(h.Sum(nil))
}

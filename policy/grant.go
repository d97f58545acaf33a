package policy

import (
	"fmt"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
)

// Grant is the right to one certificate. Only an allowing decision about an
// enrolment makes one, it names the device, and it works once. The zero Grant
// is refused.
type Grant struct{ d *Decision }

// Grant returns the right to issue, or the refusal as an error of kind Denied or Held.
func (d *Decision) Grant() (Grant, error) {
	if d.answer.Verdict != Allow || !d.request.Action.enrols() {
		return Grant{}, d.refusal()
	}
	return Grant{d}, nil
}

// Device is the id of the device that may have the certificate.
func (g Grant) Device() string {
	if g.d == nil {
		return ""
	}
	return g.d.request.Resource.ID
}

// Profile is the profile that policy chose; empty leaves the one asked for.
func (g Grant) Profile() string {
	if g.d == nil {
		return ""
	}
	return g.d.answer.Profile
}

// Lifetime is the longest that policy allows; 0 leaves it to the profile.
func (g Grant) Lifetime() time.Duration {
	if g.d == nil {
		return 0
	}
	return g.d.answer.Lifetime
}

// Admits reports whether policy takes an unknown device into the register.
func (g Grant) Admits() bool {
	if g.d == nil {
		return false
	}
	return g.d.answer.obliges(Admit)
}

// Spent reports whether the grant has been used. Redeem has the last word.
func (g Grant) Spent() bool { return g.d != nil && g.d.spent.Load() }

// At is when the decision was asked for.
func (g Grant) At() time.Time {
	if g.d == nil {
		return time.Time{}
	}
	return g.d.request.At
}

// Redeem uses the grant up and returns the event to be committed with the
// certificate. A second call, and a zero Grant, are errors.
func (g Grant) Redeem(fact Properties) (audit.Event, error) {
	if g.d == nil {
		return audit.Event{}, fmt.Errorf("no grant: the certificate was not decided")
	}
	if !g.d.spent.CompareAndSwap(false, true) {
		return audit.Event{}, fmt.Errorf("grant %s was used already", g.d.id)
	}
	return g.d.event(audit.Granted, fact), nil
}

// Permit is the right to one management action. The zero Permit is refused.
type Permit struct{ d *Decision }

// Permit returns the right to act, or the refusal as an error of kind Denied.
func (d *Decision) Permit() (Permit, error) {
	if d.answer.Verdict != Allow || d.request.Action.enrols() {
		return Permit{}, d.refusal()
	}
	return Permit{d}, nil
}

// ID is the id of the decision behind the permit.
func (p Permit) ID() audit.ID {
	if p.d == nil {
		return audit.ID{}
	}
	return p.d.id
}

// Actor is who was permitted.
func (p Permit) Actor() string {
	if p.d == nil {
		return ""
	}
	return p.d.request.Subject.ID
}

// At is when the decision was asked for.
func (p Permit) At() time.Time {
	if p.d == nil {
		return time.Time{}
	}
	return p.d.request.At
}

// Covers returns an error unless the permit is for this action, and for this
// object where id is not empty.
func (p Permit) Covers(a Action, id string) error {
	if p.d == nil {
		return fmt.Errorf("no permit: %s was not decided", a)
	}
	if p.d.request.Action != a || id != "" && p.d.request.Resource.ID != id {
		return fmt.Errorf("permit %s is for %s of %q, not for %s of %q",
			p.d.id, p.d.request.Action, p.d.request.Resource.ID, a, id)
	}
	return nil
}

// Redeem uses the permit up for a change and returns the event to be
// committed with it. It fails unless the permit Covers action and id.
func (p Permit) Redeem(a Action, id string, fact Properties) (audit.Event, error) {
	if err := p.Covers(a, id); err != nil {
		return audit.Event{}, err
	}
	if !p.d.spent.CompareAndSwap(false, true) {
		return audit.Event{}, fmt.Errorf("permit %s was used already", p.d.id)
	}
	return p.d.event(audit.Granted, fact), nil
}

package fleet

import (
	"context"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// Register is the fleet as the other rooms use it. Whatever an operator asks of
// it takes a Permit.
type Register struct {
	Store Store
	Now   func() time.Time
}

// Device returns the device with that id, for the walk of an enrolment, or an
// error of kind NotFound.
func (r *Register) Device(ctx context.Context, id string) (Device, error) {
	return r.Store.Device(ctx, id)
}

// Find returns the device that name stands for: the one with that id, else the
// one with that maker's serial number, or an error of kind NotFound.
func (r *Register) Find(ctx context.Context, name string) (Device, error) {
	return r.Store.FindDevice(ctx, name)
}

// ByEK returns the one device that is registered with this endorsement key
// (SHA-256 over its SubjectPublicKeyInfo, lower-case hex), for the walk, or an error of kind
// NotFound. Two devices with one TPM are a mistake in the register, and neither is returned.
func (r *Register) ByEK(ctx context.Context, sha256 string) (Device, error) {
	if sha256 == "" {
		return Device{}, fault.New(fault.NotFound, "device_unknown", "no device is registered without an endorsement key")
	}
	found, err := r.Store.Devices(ctx, Filter{EKSHA256: sha256, Limit: 2})
	switch {
	case err != nil:
		return Device{}, err
	case len(found) == 0:
		return Device{}, fault.New(fault.NotFound, "device_unknown", "no device is registered with this endorsement key")
	case len(found) > 1:
		return Device{}, fault.New(fault.Conflict, "ek_ambiguous", "more than one device is registered with this endorsement key")
	}
	return found[0], nil
}

// List returns the devices that the filter selects.
func (r *Register) List(ctx context.Context, p policy.Permit, f Filter) ([]Device, error) {
	if err := p.Covers(policy.ListDevices, ""); err != nil {
		return nil, err
	}
	return r.Store.Devices(ctx, f)
}

// Show returns one device, or an error of kind NotFound.
func (r *Register) Show(ctx context.Context, p policy.Permit, id string) (Device, error) {
	if err := p.Covers(policy.ShowDevice, id); err != nil {
		return Device{}, err
	}
	return r.Store.Device(ctx, id)
}

// Import takes the lines of one file into the register. It is idempotent: a
// line that says what the register knows already changes nothing. Lines that
// cannot be taken, those in bad included, are reported and do not stop the
// others. sha256 is the file's digest in lower-case hex, for the record.
func (r *Register) Import(ctx context.Context, p policy.Permit, lines []Line, bad []LineError, sha256 string) (Imported, error) {
	if lines == nil {
		lines = []Line{} // an import of nothing but mistakes is still one, and goes on record
	}
	done, err := r.Store.ChangeDevices(ctx, Change{
		Import: lines,
		At:     r.Now(),
		EventWith: func(done Imported) (audit.Event, error) {
			return p.Redeem(policy.ImportDevices, "", policy.Properties{"import": map[string]any{
				"sha256": sha256, "created": done.Created, "updated": done.Updated,
				"unchanged": done.Unchanged, "errors": len(done.Errors) + len(bad),
			}})
		},
	})
	done.Errors = append(bad, done.Errors...)
	return done, err
}

// Quarantine stops a device: it gets nothing until it is released.
func (r *Register) Quarantine(ctx context.Context, p policy.Permit, id, reason string) error {
	if reason == "" {
		return fault.New(fault.Malformed, "reason_missing", "a quarantine needs a reason")
	}
	return r.move(ctx, p, policy.QuarantineDevice, Change{ID: id, From: []State{Expected, Active}, To: Quarantined, Reason: reason})
}

// Release ends a quarantine.
func (r *Register) Release(ctx context.Context, p policy.Permit, id string) error {
	return r.move(ctx, p, policy.ReleaseDevice, Change{ID: id, From: []State{Quarantined}, To: Active})
}

// Retire ends a device's life for good.
func (r *Register) Retire(ctx context.Context, p policy.Permit, id, reason string) error {
	return r.move(ctx, p, policy.RetireDevice, Change{ID: id, From: []State{Expected, Active, Quarantined}, To: Retired, Reason: reason})
}

func (r *Register) move(ctx context.Context, p policy.Permit, a policy.Action, c Change) error {
	if err := p.Covers(a, c.ID); err != nil {
		return err
	}
	c.At = r.Now()
	c.EventWith = func(Imported) (audit.Event, error) {
		return p.Redeem(a, c.ID, policy.Properties{"device": map[string]any{"state": string(c.To), "reason": c.Reason}})
	}
	_, err := r.Store.ChangeDevices(ctx, c)
	return err
}

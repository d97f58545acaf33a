// Package fleet is the register of devices: which exist, what is known of
// them, and which state each is in. Identity lives here, not in certificates
// and not in requests: the certificate authority builds names from the
// register.
package fleet

import (
	"context"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/policy"
)

// State is where a device stands in its life. The zero State has no rights.
type State string

// The states.
const (
	Expected    State = "expected"    // imported, has no certificate yet
	Active      State = "active"      // has been issued a certificate
	Quarantined State = "quarantined" // gets nothing until an operator releases it
	Retired     State = "retired"     // gets nothing ever again
)

// InService reports whether a device in this state may be issued anything.
func (s State) InService() bool { return s == Expected || s == Active }

// Device is one entry of the register.
type Device struct {
	ID       string            `json:"id"`
	Model    string            `json:"model,omitempty"`
	Serial   string            `json:"serial,omitempty"` // the maker's serial number; unique where present
	Batch    string            `json:"batch,omitempty"`
	EKSHA256 string            `json:"ek_sha256,omitempty"` // SHA-256 over the endorsement key's SubjectPublicKeyInfo, lower-case hex
	AKSHA256 string            `json:"ak_sha256,omitempty"` // likewise of the attestation key
	Labels   map[string]string `json:"labels,omitempty"`
	State    State             `json:"state"`
	Reason   string            `json:"reason,omitempty"` // why it is quarantined or retired
	Created  time.Time         `json:"created"`
	Changed  time.Time         `json:"changed"`
	Bonded   bool              `json:"bonded,omitempty"` // it has attested with a TPM, and has to go on doing so; set by the store
}

// Properties is the device as rules see it: state, and what the register
// knows of model, serial, batch and labels.
func (d *Device) Properties() policy.Properties {
	p := policy.Properties{"known": true, "state": string(d.State)}
	for name, value := range map[string]string{"model": d.Model, "serial": d.Serial, "batch": d.Batch} {
		if value != "" {
			p[name] = value
		}
	}
	if len(d.Labels) > 0 {
		labels := make(map[string]any, len(d.Labels))
		for name, value := range d.Labels {
			labels[name] = value
		}
		p["labels"] = labels
	}
	return p
}

// Filter selects devices, in order of id. Zero fields select everything.
type Filter struct {
	Model, Batch string
	EKSHA256     string // lower-case hex
	State        State
	After        string // only ids above this, for paging
	Limit        int    // at most this many; 0 means 100
}

// Imported counts what an import did.
type Imported struct {
	Created   int         `json:"created"`
	Updated   int         `json:"updated"`
	Unchanged int         `json:"unchanged"`
	Errors    []LineError `json:"errors,omitempty"`
}

// LineError is one line of an import that was not taken.
type LineError struct {
	Line int    `json:"line"` // 1-based, counting the header
	ID   string `json:"id,omitempty"`
	Says string `json:"error"`
}

// Line is one device of an import file with its line number.
type Line struct {
	Number int
	Device Device
}

// Store is what the register needs of the database.
type Store interface {
	// Device returns the device with that id, or an error of kind NotFound.
	Device(ctx context.Context, id string) (Device, error)

	// FindDevice returns the device whose id is name, else the one whose serial is
	// name, or an error of kind NotFound.
	FindDevice(ctx context.Context, name string) (Device, error)

	// Devices returns the devices that the filter selects.
	Devices(ctx context.Context, f Filter) ([]Device, error)

	// ChangeDevices writes the change and its event in one transaction.
	ChangeDevices(ctx context.Context, c Change) (Imported, error)
}

// Change is one change of the register. Exactly one of Import and ID is set.
type Change struct {
	// Import creates the devices that do not exist (state Expected) and updates the
	// descriptive fields of those that do, leaving their state alone. A serial
	// that another device holds already is a LineError, not a failure. The store
	// appends the counts to the event through EventWith, inside the transaction.
	Import []Line

	// ID moves one device from any of the states From to the state To. A device in
	// another state is an error of kind Conflict, an unknown one NotFound.
	// A release (To is Active) of a device that never held a certificate makes it Expected.
	ID     string
	From   []State
	To     State
	Reason string

	At        time.Time
	EventWith func(Imported) (audit.Event, error)
}

package enroll

import (
	"cmp"
	"context"
	"sync/atomic"
	"time"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/attest/tpm"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/internal/limit"
)

// Attestation is what the walk appraises evidence with. Its fields are set
// before the first request and not changed after.
type Attestation struct {
	TPM       *tpm.Verifier
	Baselines *attest.Baselines
	Bonds     attest.BondStore
	Evidence  attest.EvidenceStore
	Nonces    NonceStore
	Limiter   *limit.Limiter // of nonces given out, per source and per device; nil: no limits
	Expiry    time.Duration  // how long an exchange may be answered; 0 means 5 min

	// Observe is told of each piece of evidence: what it came to, and the reason where it was
	// refused, for metrics; may be nil.
	Observe func(r *attest.Result, refused attest.Reason)

	sealing atomic.Pointer[[]byte] // the secret of Nonces, once it was read
}

// expiry is how long an exchange may be answered.
func (a *Attestation) expiry() time.Duration { return cmp.Or(a.Expiry, 5*time.Minute) }

// observe tells what evidence came to. Failures of our own are not evidence's.
func (a *Attestation) observe(r *attest.Result, err error) {
	if a == nil || a.Observe == nil {
		return
	}
	switch f := fault.Of(err); {
	case err == nil:
		a.Observe(r, "")
	case f.Kind == fault.Malformed || f.Kind == fault.Denied:
		a.Observe(&attest.Result{Case: r.Case}, attest.Reason(f.Code))
	}
}

// allow returns the refusal of who has asked for too many nonces.
func (a *Attestation) allow(source, identity string) error {
	wait, ok := a.Limiter.Allow(source, identity)
	if ok {
		return nil
	}
	return &fault.Error{Kind: fault.Busy, Code: TooManyNonces, Says: "too many nonces asked for; wait before the next", After: wait}
}

// bond returns what the device attested with before, nil if it never did. Most
// are looked at for the first time, and their entry in the register says so.
func (a *Attestation) bond(ctx context.Context, device *fleet.Device) (*attest.Bond, error) {
	if !device.Bonded {
		return nil, nil
	}
	bond, err := a.Bonds.Bond(ctx, device.ID)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &bond, nil
}

// boundTo returns the device that a TPM is bound to, empty if it is to none.
func (a *Attestation) boundTo(ctx context.Context, r *attest.Result) (string, error) {
	if r.EK.SHA256 == "" && r.AK.SHA256 == "" {
		return "", nil
	}
	bond, err := a.Bonds.BondOf(ctx, r.EK.SHA256, r.AK.SHA256)
	if fault.Is(err, fault.NotFound) {
		return "", nil
	}
	return bond.Device, err
}

package enroll

import (
	"context"
	"sync/atomic"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/attest/tpm"
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

	sealing atomic.Pointer[[]byte] // the secret of Nonces, once it was read
}

// allow returns the refusal of who has asked for too many nonces.
func (a *Attestation) allow(source, identity string) error {
	wait, ok := a.Limiter.Allow(source, identity)
	if ok {
		return nil
	}
	return &fault.Error{Kind: fault.Busy, Code: TooManyNonces, Says: "too many nonces asked for; wait before the next", After: wait}
}

// bond returns what the device attested with before, nil if it never did.
func (a *Attestation) bond(ctx context.Context, device string) (*attest.Bond, error) {
	bond, err := a.Bonds.Bond(ctx, device)
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

package attest

import (
	"context"
	"encoding/hex"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/policy"
)

// Bonds are the ties between devices and TPMs, as operators see them.
type Bonds struct {
	Store BondStore
	Now   func() time.Time
}

// Show returns what a device attested with last, or an error of kind NotFound.
func (b *Bonds) Show(ctx context.Context, p policy.Permit, device string) (Bond, error) {
	if err := p.Covers(policy.ShowAttestation, device); err != nil {
		return Bond{}, err
	}
	return b.Store.Bond(ctx, device)
}

// Unbind forgets a device's TPM, so that it may come with another one, or with
// none: what is done when a board was replaced. No bond is an error of kind NotFound.
func (b *Bonds) Unbind(ctx context.Context, p policy.Permit, device, reason string) error {
	if err := p.Covers(policy.UnbindDevice, device); err != nil {
		return err
	}
	bond, err := b.Store.Bond(ctx, device)
	if err != nil {
		return err
	}
	event, err := p.Redeem(policy.UnbindDevice, device, policy.Properties{"unbound": map[string]any{
		"ek_sha256": bond.EK, "ak_sha256": bond.AK, "evidence_sha256": hex.EncodeToString(bond.Evidence[:]), "reason": reason,
	}})
	if err != nil {
		return err
	}
	return b.Store.Unbind(ctx, device, event)
}

// Next is the device's bond after r was accepted for a key (the SHA-256 over
// its SubjectPublicKeyInfo). last is the bond until then, nil if there was none; what r does not show
// stays as it was.
func (r *Result) Next(device string, key [32]byte, last *Bond) Bond {
	b := Bond{Device: device, First: r.AppraisedAt}
	if last != nil {
		b = *last
	}
	b.Key, b.Case, b.Verdict, b.Last, b.Evidence = key, r.Case, r.Verdict, r.AppraisedAt, r.Evidence
	if r.EK.SHA256 != "" {
		b.EK = r.EK.SHA256
	}
	if r.EK.Manufacturer != "" {
		b.TPM = Make{r.EK.Manufacturer, r.EK.Model, r.EK.Version}
	}
	if r.AK.SHA256 != b.AK { // another key of the same TPM: nothing known of the one before holds for it
		b.AK, b.AKName, b.AKPublic = r.AK.SHA256, nil, nil
	}
	if len(r.AK.Name) > 0 {
		b.AKName = r.AK.Name
	}
	if len(r.AK.Public) > 0 {
		b.AKPublic = r.AK.Public
	}
	if r.Clock != (Clock{}) {
		b.Clock = r.Clock
	}
	if r.PCR.Bank != "" {
		b.Bank, b.PCRs = r.PCR.Bank, r.PCR.Values
	}
	if r.EventLog != ([32]byte{}) {
		b.EventLog = r.EventLog
	}
	if r.Verdict == Affirming {
		b.Affirmed = r.AppraisedAt
	}
	return b
}

// Document returns the bond as rules see it: which TPM the device is bound to,
// and what it showed last. A nil Bond is empty; affirmed is missing until a boot was affirmed.
func (b *Bond) Document() policy.Properties {
	if b == nil {
		return policy.Properties{}
	}
	d := filled(map[string]any{
		"ek_sha256": b.EK, "manufacturer": b.TPM.Manufacturer, "model": b.TPM.Model, "version": b.TPM.Version,
		"ak_sha256": b.AK, "case": string(b.Case), "verdict": b.Verdict.String(),
		"first": b.First.UTC().Format(audit.TimeFormat), "last": b.Last.UTC().Format(audit.TimeFormat),
	})
	if !b.Affirmed.IsZero() {
		d["affirmed"] = b.Affirmed.UTC().Format(audit.TimeFormat)
	}
	return d
}

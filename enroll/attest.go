package enroll

import (
	"bytes"
	"context"
	"crypto/sha256"
	"slices"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

// Required is the word for profiles that issue nothing without evidence. The
// other is Optional, which is also meant by the empty one.
const (
	Required = "required"
	Optional = "optional"
)

// attest appraises what the device brings to prove itself, or says why it had
// to bring something. What was shown of a device out of service is not looked
// at: policy has its say about that one without.
func (e *Enroller) attest(ctx context.Context, v *visit) error {
	if v.inService() != nil {
		return nil
	}
	if v.CSR.Attestation == nil {
		err := e.unattested(ctx, v)
		if err != nil {
			e.Attestation.observe(&v.attested, err)
		}
		return err
	}
	if v.Operation == ServerKeygen {
		return attest.Refuse(attest.UnsupportedEvidence, "evidence is about the device's own key, and here the server makes another; send it to simpleenroll")
	}
	return e.appraise(ctx, v, v.CSR.Attestation, v.CSR.SPKI)
}

// appraise holds evidence about a key against the challenge that it answers.
func (e *Enroller) appraise(ctx context.Context, v *visit, der, spki []byte) error {
	err := e.verify(ctx, v, der, spki)
	e.Attestation.observe(&v.attested, err)
	return err
}

// verify does what appraise says. The order counts: what cannot be read uses
// no nonce up, and nothing else is looked at before the nonce is used.
func (e *Enroller) verify(ctx context.Context, v *visit, der, spki []byte) error {
	evidence, err := attest.ParseEvidence(der)
	if err != nil {
		return err
	}
	exchange, err := e.redeem(ctx, v)
	if err != nil {
		return err
	}
	kept, err := evidence.Keep()
	if err != nil {
		return err
	}
	v.kept = &kept
	if v.bond, err = e.Attestation.bond(ctx, &v.device); err != nil {
		return err
	}
	v.attested, err = e.Attestation.TPM.Verify(ctx, evidence, attest.Binding{
		SPKI: spki, Challenge: exchange.Challenge, Profile: v.profile.Name, Device: v.identity(), Bond: v.bond,
		Terms: attest.Terms{CertifyFresh: v.profile.CertifyFresh, EventLog: v.profile.EventLogRequired},
	})
	v.attested.Evidence = kept.Bundle.SHA256 // the record names what is kept
	if kept.EventLog != nil {
		v.attested.EventLog = kept.EventLog.SHA256
	}
	if err != nil {
		if v.attested.EK.SHA256 == "" {
			v.attested.EK = exchange.Challenge.EK
		}
		return e.blame(ctx, v, err)
	}
	return e.accept(ctx, v, sha256.Sum256(spki))
}

// accept holds what the evidence showed against what is known already: whose
// TPM this is, and what its model may boot.
func (e *Enroller) accept(ctx context.Context, v *visit, key [32]byte) error {
	var err error
	if v.boundTo, err = e.Attestation.boundTo(ctx, &v.attested); err != nil {
		return err
	}
	if v.boundTo != "" && v.boundTo != v.device.ID { // who that is stands in the record, not in the answer
		return attest.Refuse(attest.EKMismatch, "this TPM is bound to another device; if it was moved here, an operator has to lift that")
	}
	if err := e.Attestation.Baselines.Appraise(ctx, v.device.Model, v.device.Labels, &v.attested, v.bond); err != nil {
		return err
	}
	v.outcome = &attest.Outcome{Bond: v.attested.Next(v.device.ID, key, v.bond), Blobs: v.kept.Blobs()}
	return nil
}

// blame completes a refusal with what is known besides: whose TPM the wrong
// one is, and what registers are worth that an event log does not explain.
func (e *Enroller) blame(ctx context.Context, v *visit, err error) error {
	switch attest.Reason(fault.Of(err).Code) {
	case attest.EKMismatch:
		if v.boundTo != "" {
			return err
		}
		var other error
		if v.boundTo, other = e.Attestation.boundTo(ctx, &v.attested); other != nil {
			return other
		}
	case attest.LogMismatch: // the quote holds, whatever the log says
		worse := e.Attestation.Baselines.Appraise(ctx, v.device.Model, v.device.Labels, &v.attested, v.bond)
		if worse != nil && attest.Reason(fault.Of(worse).Code).Quarantines() {
			return worse
		}
	}
	return err
}

// unexplained reports whether the device's registers are not what they were
// when it was last accepted, and its event log does not say why.
func (v *visit) unexplained(r attest.Reason) bool {
	return r == attest.LogMismatch && len(v.attested.Boot.Changed) > 0
}

// redeem uses up the challenge that came back with a request.
func (e *Enroller) redeem(ctx context.Context, v *visit) (sealed, error) {
	if e.Attestation == nil {
		return sealed{}, attest.Refuse(attest.UnsupportedEvidence, "this server takes no evidence of TPMs")
	}
	if v.Request.Challenge == "" {
		return sealed{}, attest.Refuse(attest.NonceMissing, "evidence answers a nonce: ask for one, and send the cookie that comes with it, or stay on that connection")
	}
	secret, err := e.Attestation.secret(ctx)
	if err != nil {
		return sealed{}, err
	}
	s, ok := unseal(secret, v.Request.Challenge)
	if v.Operation == Attest && e.Profiles[s.Profile] != nil {
		v.profile = e.Profiles[s.Profile] // no path names one: the exchange does
	}
	if !ok || s.Device != v.device.ID || s.Profile != v.profile.Name {
		return sealed{}, attest.Refuse(attest.NonceUnknown, "the nonce was not given out here to this device under this profile; ask for a new one")
	}
	if !v.at.Before(s.Until) {
		return sealed{}, attest.Refuse(attest.NonceExpired, "the nonce has expired; ask for a new one and make the evidence anew")
	}
	err = e.Attestation.Nonces.Spend(ctx, sha256.Sum256(s.Challenge.Nonce), s.Until)
	if fault.Is(err, fault.Conflict) {
		return sealed{}, attest.Refuse(attest.NonceUsed, "the nonce was used already; ask for a new one and make the evidence anew")
	}
	return s, err
}

// unattested says whether a request may come without evidence.
func (e *Enroller) unattested(ctx context.Context, v *visit) error {
	if v.caller.Method == byIDevID {
		v.attested.Case = attest.CaseIDevID
	}
	if v.device.Bonded && e.Attestation != nil {
		var err error
		if v.bond, err = e.Attestation.bond(ctx, &v.device); err != nil {
			return err
		}
	}
	required := v.profile.Evidence == Required
	if v.renewal() {
		required = v.profile.EvidenceOnRenew || required && v.bond == nil
	}
	switch {
	case v.bond != nil && !(v.renewal() && v.sameCertifiedKey()):
		return attest.Refuse(attest.Downgrade, "the device has attested with its TPM before, and has to again: send evidence with the request")
	case required:
		return attest.Refuse(attest.EvidenceRequired, "this profile issues nothing without evidence of a TPM")
	}
	if v.bond != nil { // the key that was certified then: it cannot have left its TPM since
		v.attested.Key = attest.CertifiedKey{Resident: true, Fixed: true}
	}
	return nil
}

// sameCertifiedKey reports whether the request is over the key that a TPM
// certified last, and that the certificate being renewed is over.
func (v *visit) sameCertifiedKey() bool {
	key := v.keySHA256()
	return v.caller.Certificate.KeySHA256 == key && bytes.Equal(v.bond.Key[:], key[:])
}

// unvouched reports whether the TPM's maker is unknown and nobody has taken
// responsibility for it: neither an operator now, nor whoever let it in before.
func (v *visit) unvouched() bool {
	ek := &v.attested.EK
	return slices.Contains(v.attested.Reasons, attest.EKUntrusted) && !ek.Trusted && v.approval == nil &&
		!(v.bond != nil && v.bond.EK != "" && v.bond.EK == ek.SHA256)
}

// keep keeps the evidence of a request that came to nothing. Each has used up a
// nonce of a device that has proven who it is, so their number is bounded.
func (e *Enroller) keep(ctx context.Context, v *visit) error {
	if v.kept == nil || v.caller.Device == "" {
		return nil
	}
	return e.Attestation.Evidence.KeepEvidence(ctx, v.kept.Blobs())
}

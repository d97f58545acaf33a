// Package attest appraises what devices bring to prove themselves: evidence
// in, claims out. Evidence is what was parsed and proves nothing; a Result is
// what held when it was verified, and its zero value claims nothing. One package
// per kind of evidence stands below this one (attest/tpm, attest/idevid).
//
// The room also keeps what evidence is held against: the Bond that ties a
// device to one TPM, and the Baselines, the reference values of what its model may boot.
package attest

import (
	"github.com/hallmark-pki/hallmark/internal/fault"
)

// Reason is why evidence was not accepted, or what a person should know of
// evidence that was. The list is closed: clients, rules and reports match on it.
type Reason string

// The reasons. MalformedEvidence is the caller's mistake; the others refuse.
const (
	MalformedEvidence   Reason = "malformed_evidence"
	UnsupportedEvidence Reason = "unsupported_evidence"
	EvidenceRequired    Reason = "evidence_required"
	DuplicateStatement  Reason = "duplicate_statement"

	NonceMissing Reason = "nonce_missing"
	NonceUnknown Reason = "nonce_unknown"
	NonceExpired Reason = "nonce_expired"
	NonceUsed    Reason = "nonce_used"
	QuoteStale   Reason = "quote_stale"
	CertifyStale Reason = "certify_stale"

	AKAttributes       Reason = "ak_attributes"
	AKUntrusted        Reason = "ak_untrusted"
	AKNotBoundToDevice Reason = "ak_not_bound_to_device"
	AKRevoked          Reason = "ak_revoked"
	EKUntrusted        Reason = "ek_untrusted" // a claim: policy may hold it for a person
	EKMismatch         Reason = "ek_mismatch"
	EKRevoked          Reason = "ek_revoked"
	ActivationFailed   Reason = "activation_failed"

	SignatureInvalid    Reason = "signature_invalid"
	AlgorithmNotAllowed Reason = "algorithm_not_allowed"
	NotTPMGenerated     Reason = "not_tpm_generated"
	WrongAttestType     Reason = "wrong_attest_type"
	KeyNotCertified     Reason = "key_not_certified"
	KeyAttributes       Reason = "key_attributes"
	KeyMismatch         Reason = "key_mismatch"

	PCRSelection Reason = "pcr_selection"
	PCRDigest    Reason = "pcr_digest"
	LogMissing   Reason = "log_missing"
	LogMalformed Reason = "log_malformed"
	LogMismatch  Reason = "log_mismatch"
	LogDigest    Reason = "log_digest"

	BaselineMismatch Reason = "baseline_mismatch"
	BaselineDenied   Reason = "baseline_denied"
	ClockRollback    Reason = "clock_rollback"
	ClockUnsafe      Reason = "clock_unsafe" // a claim, never a refusal
	Downgrade        Reason = "downgrade"
)

// Refuse is the refusal of evidence: of kind Malformed for what cannot be
// read, else Denied. says is for the technician at the device.
func Refuse(r Reason, says string) *fault.Error {
	return fault.New(r.kind(), string(r), says)
}

// RefuseBecause is Refuse with a cause for the log.
func RefuseBecause(r Reason, says string, cause error) *fault.Error {
	return fault.Wrap(r.kind(), string(r), says, cause)
}

func (r Reason) kind() fault.Kind {
	if r == MalformedEvidence {
		return fault.Malformed
	}
	return fault.Denied
}

// Quarantines reports whether evidence refused for this reason stops the
// device until an operator releases it: it speaks of a device that is not, or no
// longer, what it was, and not of a mistake in how it asked.
func (r Reason) Quarantines() bool {
	return r == BaselineMismatch || r == BaselineDenied || r == ClockRollback
}

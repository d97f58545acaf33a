// Package tpm verifies what a TPM 2.0 says of itself and of a key: certify and
// quote statements by an attestation key, the event log behind a quote, and who vouches for
// that key and for the TPM. It decides nothing; it refuses what does not hold and reports what does.
package tpm

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hallmark-pki/hallmark/attest"
)

// Verifier verifies evidence of TPMs, and asks for it.
type Verifier struct {
	Trust *Trust
	Now   func() time.Time
}

func malformed(format string, args ...any) error {
	return attest.Refuse(attest.MalformedEvidence, fmt.Sprintf(format, args...))
}

func notAllowed(format string, args ...any) error {
	return attest.Refuse(attest.AlgorithmNotAllowed, fmt.Sprintf(format, args...))
}

func refuse(reason attest.Reason, format string, args ...any) error {
	return attest.Refuse(reason, fmt.Sprintf(format, args...))
}

// Verify holds evidence against what it must be bound to, and returns what was
// proven. The nonce of b.Challenge has been spent by the caller. Errors are refusals with an
// attest.Reason as their code; one of kind Internal is a failure to read the anchors.
// The Result has no verdict yet: that takes reference values. It is zero with an error, except that one
// of the event log comes with what the quote showed: that holds, whatever the log says. Its digests
// of the evidence are for whoever keeps that to fill in.
func (v *Verifier) Verify(ctx context.Context, e *attest.Evidence, b attest.Binding) (attest.Result, error) {
	if e == nil {
		return attest.Result{}, refuse(attest.EvidenceRequired, "there is no evidence of a TPM in the request")
	}
	if len(b.Challenge.Nonce) == 0 || len(b.Challenge.ExtraData) == 0 {
		return attest.Result{}, refuse(attest.NonceMissing, "evidence needs a nonce; ask for one with POST …/nonce first")
	}
	p := proof{evidence: e, binding: b, result: attest.Result{
		Reasons:     slices.Clone(b.Challenge.EKReasons),
		Advisories:  slices.Clone(b.Challenge.Advisories),
		AppraisedAt: v.Now(),
	}}
	for _, step := range []func() error{
		func() error { return v.vouch(ctx, &p) },
		func() error { return v.Trust.Revoked(p.result.EK.SHA256, p.result.AK.SHA256) }, // since the exchange, or the bond
		p.checkDevice,
		p.certify,
		p.quote,
		p.checkClock,
	} {
		if err := step(); err != nil {
			return attest.Result{}, err
		}
	}
	p.advise(v.Trust)
	err := p.replay()
	return p.result, err
}

// proof is one verification under way.
type proof struct {
	evidence *attest.Evidence
	binding  attest.Binding
	ak       signer
	signer   []byte // qualified Name of the attestation key, as the TPM states it
	result   attest.Result
}

// toolsConstant is the extraData of every statement of `tpm2_certify`, which
// has no option for a nonce.
var toolsConstant = []byte{0x00, 0xff, 0x55, 0xaa}

// certify checks that the TPM of the attestation key holds the key that the
// certificate is for.
func (p *proof) certify() error {
	c := p.evidence.Certify
	if c == nil {
		return refuse(attest.KeyNotCertified, "the evidence has no certify statement; let the attestation key certify the request's key (TPM2_Certify)")
	}
	s, err := p.read(c, attestCertify, "certify statement")
	if err != nil {
		return err
	}
	if err := p.checkCertifyFresh(s); err != nil {
		return err
	}
	if c.Public == nil {
		return malformed("the certify statement has no tpmTPublic; send the TPMT_PUBLIC of the certified key in it")
	}
	const what = "the certified key"
	key, err := parseArea(c.Public, what)
	if err != nil {
		return err
	}
	name := key.name()
	if !bytes.Equal(s.name, name) {
		return refuse(attest.KeyNotCertified, "the certify statement names another key than its tpmTPublic (%x, want %x)", s.name, name)
	}
	if err := checkKey(key); err != nil {
		return err
	}
	_, spki, err := key.spki(what)
	if err != nil {
		return err
	}
	if !bytes.Equal(spki, p.binding.SPKI) {
		return refuse(attest.KeyMismatch, "the certify statement is about another key than the request's; certify the key that the request is signed with")
	}
	p.result.Key = attest.CertifiedKey{Name: name, Resident: true, Fixed: true}
	if p.evidence.Quote == nil {
		p.result.Clock, p.signer = s.clock, s.signer
	}
	return nil
}

// read parses one statement and checks its signature.
func (p *proof) read(from *attest.Statement, tag structureTag, what string) (*statement, error) {
	s, err := parseStatement(from.Attest, tag, what)
	if err != nil {
		return nil, err
	}
	sig, err := parseSignature(from.Signature, what)
	if err != nil {
		return nil, err
	}
	if err := p.ak.verify(s, sig, what); err != nil {
		return nil, err
	}
	return s, nil
}

// checkCertifyFresh takes the value of this exchange or, where the profile
// lets a quote suffice, the constant of tpm2-tools: a fresh quote by the same attestation key
// shows that the TPM is there now, and the certified key cannot have left it.
func (p *proof) checkCertifyFresh(s *statement) error {
	c := &p.binding.Challenge
	if bytes.Equal(s.extraData, c.ExtraData) {
		p.result.Fresh = true
		return nil
	}
	if c.Activated && bytes.Equal(s.extraData, c.Nonce) {
		return notActivated("certify statement")
	}
	quoted := p.evidence.Quote != nil && !p.binding.Terms.CertifyFresh
	if quoted && bytes.Equal(s.extraData, toolsConstant) {
		return nil
	}
	if bytes.Equal(s.extraData, toolsConstant) {
		return refuse(attest.CertifyStale, "the certify statement carries the constant of tpm2_certify and not the nonce; send a quote with the nonce beside it, or, where the profile wants it, certify with the nonce as qualifying data")
	}
	return refuse(attest.CertifyStale, "the certify statement does not carry this exchange's value (%s); ask for a nonce and certify again", p.expected())
}

// expected says in words what statements must carry.
func (p *proof) expected() string {
	if p.binding.Challenge.Activated {
		return "SHA-256 of the nonce and the secret that TPM2_ActivateCredential returns"
	}
	return "the nonce"
}

func notActivated(what string) error {
	return refuse(attest.ActivationFailed, "the %s carries the nonce alone; give the activation of the nonce's answer to TPM2_ActivateCredential and put SHA-256(nonce ‖ secret) in", what)
}

// checkKey wants a key that was made in the TPM, cannot leave it and signs what it is given.
func checkKey(key *area) error {
	if !key.attributes.has(made|sign) || key.attributes.any(restricted) {
		return refuse(attest.KeyAttributes, "the certified key has attributes %#x; create it with fixedTPM, fixedParent, sensitiveDataOrigin and sign, and without restricted", key.attributes)
	}
	return nil
}

// checkClock holds the TPM's counters against those of the evidence before.
func (p *proof) checkClock() error {
	if !p.result.Clock.Safe {
		p.result.Reasons = append(p.result.Reasons, attest.ClockUnsafe)
	}
	last := p.binding.Bond
	if last == nil || !p.counts(last) {
		return nil
	}
	if now := p.result.Clock; now.Before(last.Clock) {
		return refuse(attest.ClockRollback, "the TPM's clock ran backwards: it was at %d resets, %d restarts, %d ms and is at %d resets, %d restarts, %d ms; another TPM or a copy of its state answers, or it was cleared",
			last.Clock.Reset, last.Clock.Restart, last.Clock.Clock, now.Reset, now.Restart, now.Clock)
	}
	return nil
}

// counts reports whether the counters go on from those of the bond. For an
// attestation key outside the endorsement hierarchy the TPM adds a number of that key's own to its
// resets, restarts and firmware version (Part 1, Section 36.7). So they do under one key; and
// under two, if they are in the open now, and the firmware is the one seen then: that would not be
// so if it had been hidden.
func (p *proof) counts(last *attest.Bond) bool {
	if last.AK == p.result.AK.SHA256 {
		return true
	}
	open := p.firmware()
	return open != 0 && open == last.Clock.Firmware
}

// replay holds the event log against the quoted registers.
func (p *proof) replay() error {
	log := p.evidence.EventLog
	if log == nil {
		if p.binding.Terms.EventLog {
			return refuse(attest.LogMissing, "the profile asks for an event log; send /sys/kernel/security/tpm0/binary_bios_measurements")
		}
		return nil
	}
	if p.result.PCR.Bank == "" {
		return nil // nothing to hold it against, so it says nothing
	}
	boot, err := ReplayLog(log, p.result.PCR)
	if err != nil {
		return err
	}
	p.result.Boot = boot
	return nil
}

// advise looks the makers' warnings up again, now that the firmware is known.
// Who was vouched for by other means than an endorsement key's certificate has no maker.
func (p *proof) advise(t *Trust) {
	if t != nil {
		p.result.Advisories = t.Advisories(p.result.EK, p.firmware())
	}
}

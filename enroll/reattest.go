package enroll

import (
	"context"
	"encoding/hex"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// Appraisal is what evidence came to that no certificate was asked with.
type Appraisal struct {
	Decision string // id of the recorded decision
	Verdict  attest.Verdict
	Reasons  []attest.Reason // claims short of a refusal
}

// Attest takes evidence between renewals, about the key of the certificate
// that the device holds. It is accepted, and then the device's bond goes on from it, or it is
// refused as it would be with an enrolment. r has no CSR; der is an AttestationBundle.
func (e *Enroller) Attest(ctx context.Context, r Request, der []byte) (Appraisal, error) {
	r.Operation = Attest
	v := &visit{Request: r, at: e.Now()}
	appraisal, err := e.reattest(ctx, v, der)
	if err != nil {
		return Appraisal{}, e.refuse(ctx, v, err)
	}
	return appraisal, nil
}

func (e *Enroller) reattest(ctx context.Context, v *visit, der []byte) (Appraisal, error) {
	var err error
	if v.caller, err = e.certified(ctx, v); err != nil {
		return Appraisal{}, err
	}
	if v.device, v.known, err = e.lookUp(ctx, &v.caller); err != nil {
		return Appraisal{}, err
	}
	if err = v.inService(); err != nil {
		return Appraisal{}, err
	}
	if err = e.appraise(ctx, v, der, v.caller.Certificate.Parsed.RawSubjectPublicKeyInfo); err != nil {
		return Appraisal{}, err
	}
	return e.acknowledge(ctx, v)
}

// certified authenticates by a certificate of ours and by nothing else.
func (e *Enroller) certified(ctx context.Context, v *visit) (caller, error) {
	if len(v.Proof.Chain) == 0 {
		return caller{}, fault.New(fault.Unauthenticated, "proof_missing", "show the certificate that this authority issued to the device, as TLS client certificate")
	}
	own, err := e.CA.Issued(ctx, v.Proof.Chain[0])
	if fault.Is(err, fault.NotFound) {
		return caller{}, fault.New(fault.Denied, "certificate_foreign", "this authority did not issue the client certificate; evidence without an enrolment needs one of ours")
	}
	if err != nil {
		return caller{}, err
	}
	if v.profile, err = e.Profile(own.Profile); err != nil { // until the nonce says under which it was asked for
		return caller{}, err
	}
	return e.byCertificate(v, own)
}

// acknowledge asks policy, and commits what was shown together with the decision.
func (e *Enroller) acknowledge(ctx context.Context, v *visit) (Appraisal, error) {
	decision, err := policy.Decide(ctx, e.Policy, v.question())
	if err != nil {
		return Appraisal{}, err
	}
	permit, err := decision.Permit()
	if err != nil {
		return Appraisal{}, err
	}
	if v.unvouched() {
		return Appraisal{}, attest.Refuse(attest.EKUntrusted, "no trusted maker vouches for this TPM; it can be let in with an enrolment, which an operator approves")
	}
	event, err := permit.Redeem(policy.AttestDevice, v.device.ID, policy.Properties{"attested": map[string]any{
		"verdict":         v.attested.Verdict.String(),
		"evidence_sha256": hex.EncodeToString(v.attested.Evidence[:]),
	}})
	if err != nil {
		return Appraisal{}, err
	}
	if err := e.Attestation.Bonds.Attest(ctx, *v.outcome, event); err != nil {
		return Appraisal{}, err
	}
	return Appraisal{Decision: decision.ID().String(), Verdict: v.attested.Verdict, Reasons: v.attested.Reasons}, nil
}

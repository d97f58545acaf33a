package enroll

import (
	"context"
	"crypto"
	"time"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// visit is one request on its walk: what was asked, and what is known so far.
type visit struct {
	Request
	at       time.Time
	profile  *Profile
	caller   caller
	device   fleet.Device
	known    bool          // the device stands in the register
	approval *Held         // an operator's yes to this very request
	key      crypto.Signer // made here (ServerKeygen)

	attested attest.Result   // what the device's evidence showed; the zero Result is nothing
	bond     *attest.Bond    // what it attested with before, where that was looked up
	boundTo  string          // id of the device that its TPM is bound to, where that was looked up
	kept     *attest.Kept    // evidence that has used up its nonce
	outcome  *attest.Outcome // what is kept of evidence that was accepted
}

// Enroll walks one request to its end. Every refusal is in the record before
// Enroll returns it, with the reference that finds it there; Held errors say
// when to come back.
func (e *Enroller) Enroll(ctx context.Context, r Request) (*ca.Certificate, error) {
	certificate, _, err := e.visit(ctx, r)
	return certificate, err
}

// ServerKeygen is Enroll over a key made here; the CSR's own key is ignored
// (RFC 7030, Section 4.4.1). The key is returned once and kept nowhere.
func (e *Enroller) ServerKeygen(ctx context.Context, r Request) (*ca.Certificate, crypto.Signer, error) {
	r.Operation = ServerKeygen
	return e.visit(ctx, r)
}

func (e *Enroller) visit(ctx context.Context, r Request) (*ca.Certificate, crypto.Signer, error) {
	v := &visit{Request: r, at: e.Now()}
	certificate, err := e.walk(ctx, v)
	if err != nil {
		return nil, nil, e.refuse(ctx, v, err)
	}
	return certificate, v.key, nil
}

// walk is the whole way of an enrolment. Nothing that decides stands anywhere else.
func (e *Enroller) walk(ctx context.Context, v *visit) (*ca.Certificate, error) {
	var err error
	if v.profile, err = e.Profile(v.Profile); err != nil {
		return nil, err
	}
	if v.caller, err = e.authenticate(ctx, v); err != nil { // who: from a verified proof, never from the CSR
		return nil, err
	}
	if v.device, v.known, err = e.lookUp(ctx, &v.caller); err != nil {
		return nil, err
	}
	if err = v.checkTerms(); err != nil { // what the CSR claims fits who asks
		return nil, err
	}
	if err = e.attest(ctx, v); err != nil { // what its TPM says of the key and of the device
		return nil, err
	}
	if err = v.makeKey(); err != nil { // only where the server is to make it
		return nil, err
	}
	grant, err := e.decide(ctx, v)
	if err != nil {
		return nil, err
	}
	return e.CA.Issue(ctx, grant, v.order()) // sign, check, record: one transaction
}

// lookUp finds the device in the register. One that is not there is not
// refused here: whether a stranger may be admitted is for policy to say. A
// caller whose certificate is revoked is, now that it is known who that is.
func (e *Enroller) lookUp(ctx context.Context, c *caller) (fleet.Device, bool, error) {
	if c.found != nil {
		return *c.found, true, c.standing()
	}
	device, err := e.Register.Device(ctx, c.Device)
	if fault.Is(err, fault.NotFound) {
		return fleet.Device{ID: c.Device}, false, nil
	}
	return device, err == nil, err
}

// checkTerms holds the request against the profile and the CSR's claims
// against the device.
func (v *visit) checkTerms() error {
	if v.Operation == ServerKeygen && !v.profile.ServerKeygen {
		return fault.New(fault.Denied, "serverkeygen_off", "this profile does not make keys for devices: send a CSR over the device's own key to simpleenroll")
	}
	if err := checkLinking(v.CSR, v.Bindings, v.profile.ChannelBinding); err != nil {
		return err
	}
	if v.renewal() {
		return ca.CheckRenewalNames(v.CSR, v.caller.Certificate.Parsed, v.device)
	}
	return v.profile.CheckNames(v.CSR, v.device)
}

// makeKey makes the key of a ServerKeygen, now that the caller is known: it is
// too costly to be made for strangers.
func (v *visit) makeKey() (err error) {
	if v.Operation != ServerKeygen {
		return nil
	}
	if v.key, err = v.profile.NewKey(v.CSR); err != nil {
		return err
	}
	v.CSR, err = v.CSR.WithKey(v.key.Public())
	return err
}

// renewal reports whether this is another certificate on the strength of one of ours.
func (v *visit) renewal() bool {
	return v.Operation == Reenroll && v.caller.Method == byCertificate
}

// decide asks policy. A request that has to wait is put where an operator
// sees it, unless the operator has said yes to it already.
func (e *Enroller) decide(ctx context.Context, v *visit) (policy.Grant, error) {
	decision, err := policy.Decide(ctx, e.Policy, v.question())
	if err != nil {
		return policy.Grant{}, err
	}
	if decision.Verdict() == policy.Hold {
		if v.approval, err = e.Waiting.settled(ctx, v); err != nil {
			return policy.Grant{}, err
		}
		if v.approval == nil {
			return policy.Grant{}, e.Waiting.hold(ctx, v, decision)
		}
		if decision, err = policy.Decide(ctx, e.Policy, v.question()); err != nil {
			return policy.Grant{}, err
		}
		if decision.Verdict() == policy.Hold {
			return policy.Grant{}, e.Waiting.hold(ctx, v, decision)
		}
	}
	grant, err := decision.Grant()
	if err != nil {
		return policy.Grant{}, err
	}
	if !v.known && !grant.Admits() {
		return policy.Grant{}, fault.New(fault.Denied, "device_unknown", "the device is not in the register, and the policy that allowed it did not say to admit it")
	}
	if v.unvouched() {
		return policy.Grant{}, attest.Refuse(attest.EKUntrusted, "no trusted maker vouches for this TPM; an operator has to trust its maker, or policy has to let requests like this one wait for an operator")
	}
	return grant, nil
}

// order is what the authority is asked to make.
func (v *visit) order() ca.Order {
	o := ca.Order{Shown: v.caller.serial(), CSR: v.CSR, Device: v.device, Known: v.known, Profile: v.profile.Name, Token: v.caller.Token,
		Attested: v.attested, Outcome: v.outcome}
	if v.approval != nil {
		o.Request = v.approval.ID
	}
	return o
}

// refuse makes sure that a refusal is in the record, and that what it was
// refused for is kept. Failures of our own are not refusals: they go to the log, through the door.
func (e *Enroller) refuse(ctx context.Context, v *visit, err error) error {
	cause := fault.Of(err)
	if cause.Kind == fault.Internal || cause.Kind == fault.Busy {
		return err
	}
	if kept := e.keep(ctx, v); kept != nil {
		return kept
	}
	switch {
	case cause.Kind == fault.Held:
		return err
	case v.known && (attest.Reason(cause.Code).Quarantines() || v.unexplained(attest.Reason(cause.Code))):
		return policy.Confine(ctx, e.Policy, v.question(), cause)
	}
	return policy.Refuse(ctx, e.Policy, v.question(), cause)
}

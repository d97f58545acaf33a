package enroll

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/attest/tpm"
	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/internal/limit"
	"github.com/hallmark-pki/hallmark/policy"
)

// AKRequest asks for the certificate of an attestation key. Who asks is a TPM,
// known by its endorsement key, and brings no other proof.
type AKRequest struct {
	Request              // Door, Profile, Source and ID; the rest is empty
	EK      []byte       // the endorsement key, DER SubjectPublicKeyInfo
	EKCerts [][]byte     // its certificate chain, DER, leaf first; empty where it has none
	Key     tpm.Creation // the attestation key
}

// pendingAK is an attestation key that waits for its TPM to open a secret. It
// is kept under the secret's SHA-256, and holds nothing that is one.
type pendingAK struct {
	Profile    string
	Device     string
	EK         attest.EndorsementKey
	AK         attest.AttestationKey
	SPKI       []byte // of the attestation key
	Advisories []attest.Advisory
}

// ChallengeAK begins the certification of an attestation key: it appraises the
// TPM, finds the device that has it, and returns a secret that only this TPM can open, and only
// with this attestation key loaded. Refusals are recorded.
func (e *Enroller) ChallengeAK(ctx context.Context, r AKRequest) (*tpm.Activation, error) {
	r.Operation = CertifyAK
	v := &visit{Request: r.Request, at: e.Now()}
	activation, err := e.challengeAK(ctx, v, &r)
	if err != nil {
		return nil, e.refuse(ctx, v, err)
	}
	return activation, nil
}

func (e *Enroller) challengeAK(ctx context.Context, v *visit, r *AKRequest) (*tpm.Activation, error) {
	var err error
	if v.profile, err = e.Profile(v.Profile); err != nil {
		return nil, err
	}
	if e.Attestation == nil {
		return nil, fault.New(fault.NotFound, "attestation_off", "this server takes no evidence of TPMs")
	}
	ek, err := tpm.ParseEndorsementKey(r.EK)
	if err != nil {
		return nil, err
	}
	asker := limit.User(v.Source, string(r.EK)) // with the source: anybody can show another TPM's public key
	if err = e.Attestation.allow(v.Source, asker); err != nil {
		return nil, err
	}
	e.Attestation.Limiter.Charge(v.Source, asker)
	p := &pendingAK{Profile: v.profile.Name}
	if p.EK, _, p.Advisories, err = e.Attestation.TPM.Trust.EK(ctx, p.Profile, ek, r.EKCerts, v.at); err != nil {
		return nil, err
	}
	if err = e.findByEK(ctx, v, p); err != nil {
		return nil, err
	}
	if p.AK, p.SPKI, err = r.Key.Key(); err != nil {
		return nil, err
	}
	return e.poseAK(ctx, v, p, ek)
}

// findByEK finds the device that has the TPM: the one that attested with it
// before, else the one that the register lists it for. Its maker need not be trusted then: a person,
// or the register, has vouched for this very TPM.
func (e *Enroller) findByEK(ctx context.Context, v *visit, p *pendingAK) error {
	v.attested = p.result()
	device, err := e.holderOf(ctx, p.EK.SHA256)
	if err != nil {
		return err
	}
	v.Proof.User = device.ID // claimed, until the TPM has opened its secret
	if v.bond, err = e.Attestation.bond(ctx, &device); err != nil {
		return err
	}
	if v.bond != nil && v.bond.EK != "" && v.bond.EK != p.EK.SHA256 {
		return attest.Refuse(attest.EKMismatch, fmt.Sprintf("device %q attested with another TPM before; if the board was replaced, an operator lifts the binding first", device.ID))
	}
	if device.EKSHA256 != "" && device.EKSHA256 != p.EK.SHA256 {
		return attest.Refuse(attest.EKMismatch, fmt.Sprintf("the register lists another TPM for device %q", device.ID))
	}
	p.Device, p.EK.Trusted = device.ID, true
	v.attested = p.result()
	return nil
}

func (e *Enroller) holderOf(ctx context.Context, ek string) (fleet.Device, error) {
	bond, err := e.Attestation.Bonds.BondOf(ctx, ek, "")
	if err == nil {
		return e.Register.Device(ctx, bond.Device)
	}
	if !fault.Is(err, fault.NotFound) {
		return fleet.Device{}, err
	}
	device, err := e.Register.ByEK(ctx, ek)
	if fault.Is(err, fault.NotFound) {
		return fleet.Device{}, fault.New(fault.Denied, "device_unknown",
			fmt.Sprintf("no device is registered with this TPM; import the device with ek_sha256 %s, or enrol it with evidence first", ek))
	}
	return device, err
}

// poseAK makes up the secret, and keeps what is known until it comes back.
func (e *Enroller) poseAK(ctx context.Context, v *visit, p *pendingAK, ek any) (*tpm.Activation, error) {
	secret := make([]byte, sha256.Size)
	rand.Read(secret)
	activation, err := tpm.MakeCredentialFor(ek, p.AK.Name, secret)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("keeping an attestation key: %w", err)
	}
	return activation, e.Attestation.Nonces.Keep(ctx, sha256.Sum256(secret), body, v.at.Add(e.Attestation.expiry()))
}

// CertifyAK ends what ChallengeAK began: secret is what the TPM has opened.
// Policy decides, and the certificate is durable when it is returned. Refusals are recorded.
func (e *Enroller) CertifyAK(ctx context.Context, r Request, secret []byte) (*ca.Certificate, error) {
	r.Operation = CertifyAK
	v := &visit{Request: r, at: e.Now()}
	certificate, err := e.certifyAK(ctx, v, secret)
	if err != nil {
		return nil, e.refuse(ctx, v, err)
	}
	return certificate, nil
}

func (e *Enroller) certifyAK(ctx context.Context, v *visit, secret []byte) (*ca.Certificate, error) {
	var err error
	if v.profile, err = e.Profile(v.Profile); err != nil {
		return nil, err
	}
	p, err := e.activated(ctx, v, secret) // who: the TPM that could open this
	if err != nil {
		return nil, err
	}
	v.caller = caller{Device: p.Device, Method: byActivation, EK: p.EK.SHA256}
	v.attested = p.result()
	v.attested.Fresh = true
	if v.device, v.known, err = e.lookUp(ctx, &v.caller); err != nil {
		return nil, err
	}
	if v.bond, err = e.Attestation.bond(ctx, &v.device); err != nil {
		return nil, err
	}
	decision, err := policy.Decide(ctx, e.Policy, v.question())
	if err != nil {
		return nil, err
	}
	permit, err := decision.Permit()
	if err != nil {
		return nil, err
	}
	return e.CA.CertifyAK(ctx, permit, ca.AKOrder{SPKI: p.SPKI, Device: v.device, EK: p.EK})
}

// activated returns what waits for this secret, once.
func (e *Enroller) activated(ctx context.Context, v *visit, secret []byte) (*pendingAK, error) {
	if e.Attestation == nil {
		return nil, fault.New(fault.NotFound, "attestation_off", "this server takes no evidence of TPMs")
	}
	if err := e.Attestation.allow(v.Source, ""); err != nil {
		return nil, err
	}
	body, err := e.Attestation.Nonces.Take(ctx, sha256.Sum256(secret), v.at)
	if fault.Is(err, fault.NotFound) {
		return nil, attest.Refuse(attest.ActivationFailed, fmt.Sprintf("nothing waits for this secret: it was not given out here, was used already, or is older than %s; ask for another", e.Attestation.expiry()))
	}
	if err != nil {
		return nil, err
	}
	p := new(pendingAK)
	if err := json.Unmarshal(body, p); err != nil {
		return nil, fmt.Errorf("reading a kept attestation key: %w", err)
	}
	if p.Profile != v.profile.Name {
		return nil, attest.Refuse(attest.ActivationFailed, "the secret was given out under another profile")
	}
	return p, nil
}

// result is what is known of the TPM and its attestation key. It says nothing
// of a device's own key, nor of what the device booted.
func (p *pendingAK) result() attest.Result {
	r := attest.Result{Case: attest.CaseRegistered, EK: p.EK, AK: p.AK, Advisories: p.Advisories}
	if p.EK.Certificate != "" {
		r.Case = attest.CaseActivation
	}
	return r
}

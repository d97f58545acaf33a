package enroll

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/attest/tpm"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

// TooManyNonces is the code of the refusal, of kind Busy, of who asks for nonces too often.
const TooManyNonces = "rate_limited"

// Ask is a nonce exchange as a door hands it over: a Request without a CSR, by
// the credential of the enrolment to come, and what the device says of its TPM.
type Ask struct {
	Request
	Length   int      // of the nonce, in bytes, 8 to 64; 0 means 32
	Hashes   []string // the PCR banks that it has: sha256, sha384 …; empty if it does not say
	AKPublic []byte   // TPMT_PUBLIC of its attestation key; nil where absent
	EKPublic []byte   // TPMT_PUBLIC of its endorsement key, which asks for activation; nil where absent
	EKCerts  [][]byte // the endorsement key's certificate chain, DER, leaf first
}

// Answer is what evidence has to be made from.
type Answer struct {
	Nonce      []byte
	Expiry     time.Duration
	Bank       string          // the PCR bank to quote: sha256 or sha384
	PCRs       []int           // ascending
	Activation *tpm.Activation // nil where none was asked for
	Sealed     string          // the exchange itself, to come back with the evidence: opaque, of at most 3900 bytes fit for a cookie
}

// Challenge begins an attested enrolment. It refuses whom the enrolment would
// refuse, and records that alike. A refusal for asking too often is of kind Busy.
func (e *Enroller) Challenge(ctx context.Context, a Ask) (Answer, error) {
	a.Operation = Nonce
	v := &visit{Request: a.Request, at: e.Now()}
	answer, err := e.challenge(ctx, v, &a)
	if err != nil {
		return Answer{}, e.refuse(ctx, v, err)
	}
	return answer, nil
}

func (e *Enroller) challenge(ctx context.Context, v *visit, a *Ask) (Answer, error) {
	var err error
	if v.profile, err = e.Profile(v.Profile); err != nil {
		return Answer{}, err
	}
	if e.Attestation == nil {
		return Answer{}, fault.New(fault.NotFound, "attestation_off", "this server takes no evidence of TPMs")
	}
	if err = e.Attestation.allow(v.Source, ""); err != nil {
		return Answer{}, err
	}
	if v.caller, err = e.authenticate(ctx, v); err != nil {
		return Answer{}, err
	}
	if v.device, v.known, err = e.lookUp(ctx, &v.caller); err != nil {
		return Answer{}, err
	}
	if err = v.inService(); err != nil {
		return Answer{}, err
	}
	identity := "nonces of " + v.device.ID
	if err = e.Attestation.allow("", identity); err != nil {
		return Answer{}, err
	}
	e.Attestation.Limiter.Charge(v.Source, identity)
	return e.pose(ctx, v, a)
}

// pose makes up the challenge and seals it.
func (e *Enroller) pose(ctx context.Context, v *visit, a *Ask) (Answer, error) {
	bank, err := v.profile.bank(a.Hashes)
	if err != nil {
		return Answer{}, err
	}
	if v.bond, err = e.Attestation.bond(ctx, &v.device); err != nil {
		return Answer{}, err
	}
	challenge, activation, err := e.Attestation.TPM.Challenge(ctx, tpm.Question{
		Profile: v.profile.Name, Bank: bank, PCRs: v.profile.pcrs(), Length: a.Length,
		AKPublic: a.AKPublic, EKPublic: a.EKPublic, EKCerts: a.EKCerts,
		Device: v.identity(), Bond: v.bond,
	})
	if err != nil {
		v.attested.EK = challenge.EK
		return Answer{}, e.blame(ctx, v, err)
	}
	secret, err := e.Attestation.secret(ctx)
	if err != nil {
		return Answer{}, err
	}
	text, err := sealed{Profile: v.profile.Name, Device: v.device.ID, Until: v.at.Add(e.Attestation.expiry()), Challenge: challenge}.seal(secret)
	if err != nil {
		return Answer{}, err
	}
	return Answer{Nonce: challenge.Nonce, Expiry: e.Attestation.expiry(), Bank: bank, PCRs: challenge.PCRs, Activation: activation, Sealed: text}, nil
}

// inService returns the refusal of a device that would get nothing. Policy says
// the same of an enrolment; here it is not asked, for nothing is decided yet.
func (v *visit) inService() error {
	if !v.known || v.device.State.InService() {
		return nil
	}
	return fault.New(fault.Denied, "device_"+string(v.device.State), fmt.Sprintf("device %s is %s", v.device.ID, v.device.State))
}

// identity is the device as evidence may name it.
func (v *visit) identity() attest.Identity {
	return attest.Identity{ID: v.device.ID, Serial: v.device.Serial, EKSHA256: v.device.EKSHA256, AKSHA256: v.device.AKSHA256}
}

// The PCR banks that are taken.
const (
	bankSHA256 = "sha256"
	bankSHA384 = "sha384"
)

// bank is the strongest that both sides have. Where the client does not say,
// SHA-256 is meant: every TPM 2.0 has it.
func (p *Profile) bank(has []string) (string, error) {
	if len(has) == 0 && p.allowsBank(bankSHA256) {
		return bankSHA256, nil
	}
	for _, b := range [...]string{bankSHA384, bankSHA256} {
		if p.allowsBank(b) && (len(has) == 0 || slices.Contains(has, b)) {
			return b, nil
		}
	}
	return "", attest.Refuse(attest.AlgorithmNotAllowed, "none of the PCR banks that the device names in hashAlgs is taken under this profile")
}

func (p *Profile) allowsBank(b string) bool { return len(p.Banks) == 0 || slices.Contains(p.Banks, b) }

// pcrs are the registers to quote: firmware, boot loader and kernel, where the profile does not say.
func (p *Profile) pcrs() []int {
	if len(p.PCRs) > 0 {
		return p.PCRs
	}
	return []int{0, 1, 2, 3, 4, 5, 6, 7, 9, 14}
}

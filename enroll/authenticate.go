package enroll

import (
	"context"
	"fmt"
	"time"

	"github.com/hallmark-pki/hallmark/attest/idevid"
	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// method is how a caller proved who it is.
type method string

const (
	byToken       method = "token"       // an enrolment token
	byIDevID      method = "idevid"      // a factory certificate (IEEE 802.1AR)
	byCertificate method = "certificate" // one of ours
	byActivation  method = "activation"  // a TPM opened what only it could (CertifyAK)
)

// caller is who asks, by a proof that held. The zero caller is nobody.
type caller struct {
	Device      string // id in the register, or the name a factory certificate gives
	Method      method
	Token       string          // id of the token (byToken)
	Factory     idevid.Claims   // of the factory certificate (byIDevID)
	Certificate *ca.Certificate // the certificate of ours, Parsed set (byCertificate)
	EK          string          // SHA-256 of the TPM's endorsement key, lower-case hex (byActivation)
	found       *fleet.Device   // the register's entry, where finding out who asks has read it already
}

func (c *caller) describe() policy.Properties {
	p := policy.Properties{"method": string(c.Method)}
	switch c.Method {
	case byToken:
		p["token"] = c.Token
	case byIDevID:
		p["anchor"] = c.Factory.Anchor
		if m := c.Factory.Module; m.Type != "" {
			p["hardware_module"] = map[string]any{"type": m.Type, "serial": m.Serial}
		}
	case byCertificate:
		p["serial"] = c.Certificate.Serial
	case byActivation:
		p["ek_sha256"] = c.EK
	default:
		p["method"] = "none"
	}
	return p
}

// serial is that of the certificate of ours that was shown; empty where it was none.
func (c *caller) serial() string {
	if c.Certificate == nil {
		return ""
	}
	return c.Certificate.Serial
}

// standing returns the refusal of a certificate that was revoked. It was read with this
// very request, so neither a connection that stays open nor a resumed session outlives a revocation.
func (c *caller) standing() error {
	if c.Certificate == nil || c.Certificate.Revoked == nil {
		return nil
	}
	r := c.Certificate.Revoked
	return fault.New(fault.Denied, "certificate_revoked", fmt.Sprintf("the client certificate was revoked at %s (%s); enrol again with a token or a factory certificate",
		r.At.Format(time.RFC3339), r.Reason))
}

// maxChain bounds the certificates a client may send: each may cost a
// signature check.
const maxChain = 8

// authenticate finds out who asks. A token decides a first enrolment even
// where a client certificate came along with it; a renewal stands on the
// certificate being renewed.
func (e *Enroller) authenticate(ctx context.Context, v *visit) (caller, error) {
	proof := &v.Proof
	hasToken := proof.HasBasic && proof.Password != ""
	if hasToken && (v.Operation != Reenroll || len(proof.Chain) == 0) {
		return e.byToken(ctx, v)
	}
	if len(proof.Chain) == 0 {
		return caller{}, fault.New(fault.Unauthenticated, "proof_missing",
			"send a client certificate, or HTTP Basic with the device id as user name and an enrolment token as password")
	}
	if len(proof.Chain) > maxChain {
		return caller{}, fault.New(fault.Denied, "chain_too_long", "the client certificate chain is too long")
	}
	return e.byChain(ctx, v)
}

// byChain tells our own certificates from those of factories. One that says of
// itself that an anchor issued it is not looked for among ours first, except
// for a renewal, which stands on one of ours.
func (e *Enroller) byChain(ctx context.Context, v *visit) (caller, error) {
	leaf := v.Proof.Chain[0]
	if v.Operation != Reenroll {
		foreign, err := e.Anchors.named(ctx, v.profile.Name, leaf, v.at)
		if err != nil {
			return caller{}, err
		}
		if foreign {
			return e.byIDevID(ctx, v)
		}
	}
	own, err := e.CA.Issued(ctx, leaf)
	if err == nil {
		return e.byCertificate(v, own)
	}
	if !fault.Is(err, fault.NotFound) {
		return caller{}, err
	}
	if v.Operation == Reenroll && !v.profile.ExternalReenroll {
		return caller{}, fault.New(fault.Denied, "reenroll_external", "this profile renews only with a certificate that this authority issued; use simpleenroll")
	}
	return e.byIDevID(ctx, v)
}

// byToken checks an enrolment token. Its use is counted when the certificate is
// issued, in the same transaction; an attempt that is refused uses none.
func (e *Enroller) byToken(ctx context.Context, v *visit) (caller, error) {
	if v.Operation == Reenroll && !v.profile.TokenReenroll {
		return caller{}, fault.New(fault.Denied, "reenroll_certificate", "a renewal needs the certificate to be renewed as client certificate; with a token use simpleenroll")
	}
	t, found, err := e.Tokens.find(ctx, v.Proof.Password, v.Proof.User)
	if err != nil {
		return caller{}, err
	}
	if err := t.check(v.profile.Name, v.Proof.User, v.at); err != nil {
		return caller{}, err
	}
	c := caller{Device: t.Device, Method: byToken, Token: t.ID, found: found}
	if c.Device == "" {
		c.Device = v.Proof.User
	}
	return c, nil
}

// byCertificate takes a certificate that Issued found to be ours byte for
// byte; what is left to check is time.
func (e *Enroller) byCertificate(v *visit, own *ca.Certificate) (caller, error) {
	grace := time.Duration(0)
	if v.Operation == Reenroll {
		grace = v.profile.ReenrollGrace
	}
	if err := checkValidity(own.NotBefore, own.NotAfter.Add(grace), v.at); err != nil {
		return caller{}, err
	}
	return caller{Device: own.Device, Method: byCertificate, Certificate: own, found: own.Holder}, nil
}

// byIDevID takes a factory certificate that chains to an anchor of the
// profile. It names the device by its subject serialNumber, or by its CN where
// there is none; the register knows it by that id or serial.
func (e *Enroller) byIDevID(ctx context.Context, v *visit) (caller, error) {
	claims, err := e.Anchors.verify(ctx, v.profile.Name, v.Proof.Chain, v.at)
	if err != nil {
		return caller{}, err
	}
	c := caller{Device: claims.Name, Method: byIDevID, Factory: claims}
	device, err := e.Register.Find(ctx, claims.Name)
	switch {
	case err == nil:
		c.Device, c.found = device.ID, &device
	case !fault.Is(err, fault.NotFound):
		return caller{}, err
	case fleet.CheckID(claims.Name) != nil:
		return caller{}, fault.New(fault.Denied, "device_unknown", "the device is not in the register, and the name in its factory certificate cannot be a device id")
	}
	return c, nil
}

func checkValidity(from, until, at time.Time) error {
	if at.Before(from) {
		return fault.New(fault.Denied, "certificate_not_yet_valid", "the client certificate is not valid yet; check the clock of the device")
	}
	if at.After(until) {
		return fault.New(fault.Denied, "certificate_expired", "the client certificate has expired; enrol again with a token or a factory certificate")
	}
	return nil
}

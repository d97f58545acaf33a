package console

import (
	"context"
	"encoding/hex"

	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// certificateRevocation is the body of POST /certificates/{serial}/revoke.
type certificateRevocation struct {
	Reason ca.RevocationReason `json:"reason"` // unspecified, keyCompromise, affiliationChanged, superseded, cessationOfOperation or privilegeWithdrawn
}

// revocationTarget is the body of POST /certificates/revoke: a device or a key, and why.
type revocationTarget struct {
	Reason     ca.RevocationReason `json:"reason"`               // as for one certificate
	Device     string              `json:"device,omitempty"`     // all its certificates that have not expired
	KeySHA256  string              `json:"key_sha256,omitempty"` // all certificates over this key, over its SubjectPublicKeyInfo, lower-case hex
	KeepDevice bool                `json:"keep_device,omitempty"`
}

// revoked is what came of revoking.
type revoked struct {
	Revoked     []revokedCertificate `json:"revoked"`               // by this call
	Standing    []revokedCertificate `json:"standing"`              // before it, for the reason and at the time that it was then
	More        bool                 `json:"more,omitempty"`        // more of the same is left: call again
	Quarantined []string             `json:"quarantined,omitempty"` // devices that were stopped along
}

// revokedCertificate is one certificate that counts no more.
type revokedCertificate struct {
	Serial  string `json:"serial"`
	Device  string `json:"device"`
	Profile string `json:"profile"`
	shownRevocation
}

func showRevoked(all []ca.Revocation) []revokedCertificate {
	shown := make([]revokedCertificate, len(all))
	for i := range all {
		r := &all[i]
		shown[i] = revokedCertificate{r.Serial, r.Device, r.Profile, *showRevocation(r)}
	}
	return shown
}

func (c *Console) revokeCertificate(call *call) (deed, error) {
	serial, err := call.name("serial")
	if err != nil {
		return deed{}, err
	}
	var body certificateRevocation
	if err := call.decode(&body, false); err != nil {
		return deed{}, err
	}
	return c.revoke(policy.Entity{Type: "certificate"}, ca.Target{Serial: serial}, body.Reason, policy.Properties{})
}

func (c *Console) revokeCertificates(call *call) (deed, error) {
	var body revocationTarget
	if err := call.decode(&body, false); err != nil {
		return deed{}, err
	}
	if (body.Device == "") == (body.KeySHA256 == "") {
		return deed{}, fault.New(fault.Malformed, "target_unclear", "say what to revoke: device or key_sha256, one of them")
	}
	if body.Device != "" {
		if err := checkText("device", body.Device, maxName); err != nil {
			return deed{}, err
		}
		of, err := c.belonging(call.Context(), body.Device, "")
		if err != nil {
			return deed{}, err
		}
		return c.revoke(policy.Entity{Type: "certificate", Properties: of}, ca.Target{Device: body.Device, Keep: body.KeepDevice}, body.Reason,
			policy.Properties{"device": body.Device, "quarantine": !body.KeepDevice})
	}
	key, err := hex.DecodeString(body.KeySHA256)
	if err != nil || len(key) != 32 || body.KeepDevice {
		return deed{}, fault.New(fault.Malformed, "bad_field", "key_sha256 is 64 hex digits, and keep_device goes with a device")
	}
	t := ca.Target{Key: [32]byte(key)}
	of, err := c.holderOf(call.Context(), t.Key)
	if err != nil {
		return deed{}, err
	}
	return c.revoke(policy.Entity{Type: "certificate", Properties: of}, t, body.Reason, policy.Properties{"key_sha256": hex.EncodeToString(key)})
}

// holderOf describes a key by the device that it belongs to.
func (c *Console) holderOf(ctx context.Context, key [32]byte) (policy.Properties, error) {
	holder, err := c.Authority.Holder(ctx, key)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return nil, err
	}
	return c.belonging(ctx, holder, "")
}

// revoke is the deed. The reason is held against the list of them before anybody is asked.
func (c *Console) revoke(resource policy.Entity, t ca.Target, reason ca.RevocationReason, parameters policy.Properties) (deed, error) {
	if err := t.Check(reason); err != nil {
		return deed{}, err
	}
	resource.ID, parameters["reason"] = t.Object(), string(reason)
	return deed{
		resource: resource, parameters: parameters,
		do: func(ctx context.Context, p policy.Permit) (answer, error) {
			done, err := c.Authority.Revoke(ctx, p, t, reason)
			if err != nil {
				return answer{}, err
			}
			return ok(revoked{showRevoked(done.Fresh), showRevoked(done.Standing), done.More, done.Stopped}), nil
		},
	}, nil
}

package enroll

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/policy"
)

// question puts the visit as policy sees it, with whatever is known by now. A
// visit that never got as far as a proven identity names the device it claimed
// to be, so that the refusal can be found by it, and no subject.
func (v *visit) question() policy.Request {
	q := policy.Request{
		Subject:    policy.Entity{Type: "device", ID: v.caller.Device, Properties: policy.Properties{"auth": v.caller.describe()}},
		Action:     policy.IssueCertificate,
		Parameters: v.parameters(),
		Resource:   policy.Entity{Type: "device", ID: v.caller.Device, Properties: v.describeDevice()},
		Context:    v.context(),
		At:         v.at,
		Source:     v.Source,
		RequestID:  v.ID,
	}
	switch {
	case v.renewal():
		q.Action = policy.RenewCertificate
	case v.Operation == Attest:
		q.Action = policy.AttestDevice
	case v.Operation == CertifyAK:
		q.Action = policy.CertifyAK
	}
	if v.caller.Device == "" && fleet.CheckID(v.Proof.User) == nil {
		q.Resource.ID = v.Proof.User
		q.Resource.Properties = policy.Properties{"claimed": true}
	}
	return q
}

func (v *visit) parameters() policy.Properties {
	p := policy.Properties{
		"door":          v.Door,
		"operation":     v.Operation.String(),
		"renewal":       v.renewal(),
		"server_keygen": v.Operation == ServerKeygen,
	}
	if v.CSR != nil { // TurnAway has none, nor has what asks for no certificate
		p["key"] = v.describeKey()
	}
	if v.profile != nil {
		p["profile"] = v.profile.Name
		p["lifetime_s"] = int64(v.profile.Lifetime.Seconds())
	}
	return p
}

func (v *visit) describeKey() map[string]any {
	sum := v.keySHA256()
	key := map[string]any{
		"algorithm": algorithm(v.CSR.KeyType),
		"bits":      v.CSR.KeyBits,
		"sha256":    hex.EncodeToString(sum[:]),
	}
	if v.renewal() {
		key["same"] = v.caller.Certificate.KeySHA256 == sum
	}
	return key
}

func (v *visit) keySHA256() [32]byte { return sha256.Sum256(v.CSR.SPKI) }

// algorithm is the key's algorithm without its curve: bits tells that.
func algorithm(t ca.KeyType) string {
	if t == ca.P256 || t == ca.P384 {
		return "ECDSA"
	}
	return string(t)
}

func (v *visit) describeDevice() policy.Properties {
	if !v.known {
		p := policy.Properties{"known": false}
		if leaf := v.caller.Factory.Certificate; leaf != nil {
			p["idevid"] = map[string]any{"issuer": leaf.Issuer.String(), "subject": leaf.Subject.String()}
		}
		return p
	}
	return v.device.Properties()
}

func (v *visit) context() policy.Properties {
	c := policy.Properties{"attestation": v.describeAttestation()}
	if v.profile != nil {
		c["profile"] = v.profile.describeTerms()
	}
	if v.bond != nil {
		c["bond"] = v.describeBond()
	}
	if v.approval != nil {
		c["approval"] = map[string]any{
			"id": v.approval.ID, "by": v.approval.By,
			"at": v.approval.Decided.UTC().Format(audit.TimeFormat),
		}
	}
	return c
}

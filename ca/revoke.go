package ca

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// Revocation says that a certificate counts no more, for good.
type Revocation struct {
	Position int64 // grows in the order in which revocations were committed
	Serial   string
	Device   string
	Profile  string
	Issuer   string           // IssuerName of who issued the certificate
	NotAfter time.Time        // of the certificate
	At       time.Time        // to the second, UTC
	Reason   RevocationReason // the first that was given
	By       string           // the operator
	Record   audit.ID         // of the entry that tells of it
}

// Target says what to revoke. Exactly one of Serial, Device and Key is set.
type Target struct {
	Serial string   // one certificate: lower-case hex
	Device string   // all certificates of this device that have not expired
	Key    [32]byte // all certificates over this key, by the SHA-256 of its SubjectPublicKeyInfo; it is never certified again

	// Keep leaves a device in service whose certificates are all revoked. Otherwise it is quarantined along with them.
	Keep bool
}

// Object is the id by which policy and the record know what is to be revoked:
// the serial number, device/ID or key/SHA256.
func (t Target) Object() string {
	switch {
	case t.Serial != "":
		return t.Serial
	case t.Device != "":
		return "device/" + t.Device
	}
	return "key/" + hex.EncodeToString(t.Key[:])
}

// Revoked is what came of revoking.
type Revoked struct {
	Fresh    []Revocation // what was revoked by this
	Standing []Revocation // what was revoked before: by the reason and at the time that it was then
	More     bool         // there is more of the same to revoke: ask again
	Stopped  []string     // ids of devices that were quarantined along
}

// Withdrawal is everything that commits together when certificates are revoked.
type Withdrawal struct {
	Target
	Reason RevocationReason
	By     string
	At     time.Time // to the second, UTC

	// EventWith is called once, inside the transaction, with what it is about to revoke.
	EventWith func(*Revoked) (audit.Event, error)
}

// BarsKeys reports whether the keys of what is revoked are never certified
// again, and so all certificates over them are revoked along.
func (w *Withdrawal) BarsKeys() bool { return w.Key != [32]byte{} || w.Reason == KeyCompromise }

// MaxRevoked is how many certificates one revocation takes at most: what one
// entry of the record has room for.
const MaxRevoked = 200

// Ledger is what revoking needs of the database.
type Ledger interface {
	// Revoke commits the withdrawal in one transaction with its event, and returns when it
	// is durable: from then on nothing is issued on what it has revoked. What was revoked before stays as it is.
	// A serial, a device or a key that is not known is an error of kind NotFound.
	Revoke(ctx context.Context, w Withdrawal) (Revoked, error)
}

// Revoke revokes the target. It is idempotent: what was revoked before is
// returned with its first reason and time. The permit is for the target's Object.
// Errors of kind NotFound say that there is no such certificate, device or key;
// Malformed (reason_unknown, reason_not_for_devices, target_unclear) leaves everything as it is.
func (a *Authority) Revoke(ctx context.Context, p policy.Permit, t Target, reason RevocationReason) (Revoked, error) {
	if err := p.Covers(policy.RevokeCertificate, t.Object()); err != nil {
		return Revoked{}, err
	}
	if err := t.Check(reason); err != nil {
		return Revoked{}, err
	}
	if a.ledger == nil {
		return Revoked{}, errors.New("an authority without a ledger cannot revoke")
	}
	done, err := a.ledger.Revoke(ctx, Withdrawal{Target: t, Reason: reason, By: p.Actor(), At: a.now().UTC().Truncate(time.Second),
		EventWith: func(r *Revoked) (audit.Event, error) {
			return p.Redeem(policy.RevokeCertificate, t.Object(), factOf(r, reason))
		}})
	if err == nil && a.revoked != nil {
		a.revoked(reason, len(done.Fresh))
	}
	return done, err
}

// Check returns what is wrong with an order to revoke this for that reason, as an error of kind Malformed.
func (t Target) Check(reason RevocationReason) error {
	named := 0
	for _, is := range []bool{t.Serial != "", t.Device != "", t.Key != [32]byte{}} {
		if is {
			named++
		}
	}
	switch {
	case named != 1:
		return fault.New(fault.Malformed, "target_unclear", "say what to revoke by exactly one of its serial number, its device and its key")
	case reason.Code() < 0:
		return fault.New(fault.Malformed, "reason_unknown", "the reason is none of unspecified, keyCompromise, affiliationChanged, superseded, cessationOfOperation, privilegeWithdrawn")
	case reason == CACompromise:
		return fault.New(fault.Malformed, "reason_not_for_devices", "cACompromise is a reason to revoke authorities")
	}
	return nil
}

// factOf is what the record says of a revocation.
func factOf(r *Revoked, reason RevocationReason) policy.Properties {
	certificates := make([]any, len(r.Fresh))
	for i, c := range r.Fresh {
		certificates[i] = map[string]any{
			"serial": c.Serial, "device": c.Device, "profile": c.Profile,
			"not_after": c.NotAfter.Format(time.RFC3339), "reason": string(reason),
		}
	}
	f := map[string]any{"certificates": certificates, "standing": len(r.Standing), "more": r.More}
	if len(r.Stopped) > 0 {
		f["quarantined"] = r.Stopped
	}
	return policy.Properties{"revocation": f}
}

// Holder returns the id of the device that certificates over a key were issued
// to, by the SHA-256 of its SubjectPublicKeyInfo, or an error of kind NotFound. It is for asking policy, and answers no operator.
func (a *Authority) Holder(ctx context.Context, key [32]byte) (string, error) {
	found, err := a.store.Certificates(ctx, Filter{Key: key, Limit: 1})
	if err == nil && len(found) == 0 {
		err = fault.New(fault.NotFound, "key_unknown", "no certificate was issued over a key with this SHA-256")
	}
	if err != nil {
		return "", err
	}
	return found[0].Device, nil
}

// NoRevAvail reports whether a certificate says that nothing is published about
// its revocation (RFC 9608).
func NoRevAvail(c *x509.Certificate) bool {
	return slices.ContainsFunc(c.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidNoRevAvail) })
}

// IssuerName is what the revocation lists of an issuer go by in their URLs:
// the first four octets of its key identifier, lower-case hex.
func IssuerName(keyID []byte) string { return hex.EncodeToString(keyID[:min(4, len(keyID))]) }

// IssuedBy returns the IssuerName of who issued a certificate, DER.
func IssuedBy(der []byte) (string, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return "", err
	}
	return IssuerName(c.AuthorityKeyId), nil
}

// ReasonOf is the reason with that number (RFC 5280, Section 5.3.1); Unspecified for one that is none of ours.
func ReasonOf(code int) RevocationReason {
	for _, r := range []RevocationReason{KeyCompromise, CACompromise, AffiliationChanged, Superseded, CessationOfOperation, PrivilegeWithdrawn} {
		if r.Code() == code {
			return r
		}
	}
	return Unspecified
}

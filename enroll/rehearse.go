package enroll

import (
	"context"
	"crypto/x509"
	"fmt"
	"iter"

	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/policy"
)

// Certificates is where a rehearsal finds what devices hold.
type Certificates interface {
	// Certificates returns the certificates that the filter selects, newest first.
	Certificates(ctx context.Context, f ca.Filter) ([]ca.Listed, error)
}

// Renewals yields what each device in service that holds a certificate would
// ask of policy, were it to renew that now, in order of device id. It reads page
// by page, and stops at the first error.
func (e *Enroller) Renewals(ctx context.Context, held Certificates) iter.Seq2[policy.Request, error] {
	return func(yield func(policy.Request, error) bool) {
		filter := fleet.Filter{State: fleet.Active, Limit: 500}
		for {
			devices, err := e.Register.Store.Devices(ctx, filter)
			if err != nil {
				yield(policy.Request{}, err)
				return
			}
			for i := range devices {
				q, due, err := e.nextRenewal(ctx, held, &devices[i])
				if (due || err != nil) && (!yield(q, err) || err != nil) {
					return
				}
			}
			if len(devices) < filter.Limit {
				return
			}
			filter.After = devices[len(devices)-1].ID
		}
	}
}

// nextRenewal is Rehearse for the newest certificate that the device holds; due
// is false where that cannot be renewed any more.
func (e *Enroller) nextRenewal(ctx context.Context, held Certificates, d *fleet.Device) (q policy.Request, due bool, err error) {
	found, err := held.Certificates(ctx, ca.Filter{Device: d.ID, Limit: 10})
	if err != nil {
		return q, false, err
	}
	for i := range found {
		c := &found[i].Certificate
		profile := e.Profiles[c.Profile]
		if profile == nil { // of an attestation key, or of a profile that was taken away
			continue
		}
		if e.Now().After(c.NotAfter.Add(profile.ReenrollGrace)) {
			return q, false, nil
		}
		q, err = e.Rehearse(ctx, *d, c)
		return q, err == nil, err
	}
	return q, false, nil
}

// Rehearse returns what the device would ask of policy, were it to renew the
// certificate now over the same key. Where the profile wants evidence with every
// renewal, the device is taken to prove what it proved last.
func (e *Enroller) Rehearse(ctx context.Context, d fleet.Device, c *ca.Certificate) (policy.Request, error) {
	profile, err := e.Profile(c.Profile)
	if err != nil {
		return policy.Request{}, err
	}
	if c.Parsed == nil {
		copied := *c
		if copied.Parsed, err = x509.ParseCertificate(c.DER); err != nil {
			return policy.Request{}, fmt.Errorf("reading stored certificate %s: %w", c.Serial, err)
		}
		c = &copied
	}
	csr, err := new(ca.CSR).WithKey(c.Parsed.PublicKey)
	if err != nil {
		return policy.Request{}, fmt.Errorf("the key of certificate %s: %w", c.Serial, err)
	}
	v := &visit{Request: Request{Door: "est", Operation: Reenroll, Profile: c.Profile, CSR: csr, ID: "rehearsal"},
		at: e.Now(), profile: profile, device: d, known: true,
		caller: caller{Device: d.ID, Method: byCertificate, Certificate: c, found: &d}}
	if e.Attestation != nil {
		if v.bond, err = e.Attestation.bond(ctx, &d); err != nil {
			return policy.Request{}, err
		}
	}
	if v.bond != nil && profile.EvidenceOnRenew {
		v.attested.Verdict, v.attested.Case = v.bond.Verdict, v.bond.Case
	}
	return v.question(), nil
}

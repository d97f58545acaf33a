package main

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/attest/tpm"
	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/ca/status"
	"github.com/hallmark-pki/hallmark/enroll"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/internal/limit"
)

// openTrust reads what the operator keeps on file about TPMs.
func (h *house) openTrust(ctx context.Context) error {
	h.trust = &tpm.Trust{Own: h.ownAttestationKey}
	if makers := h.config.Attestation.Makers; makers == nil || *makers {
		h.trust.Makers = &tpm.Makers{}
		h.log.Info("the makers of TPMs in this program are trusted", "version", tpm.MakersVersion())
	}
	return h.loadTrust(ctx)
}

// loadTrust reads those files anew. What cannot be read leaves everything as it was.
func (h *house) loadTrust(context.Context) error {
	data, err := tpm.LoadDossier(h.path(h.config.Attestation.Dir))
	if err != nil {
		return fmt.Errorf("reading what is on file about TPMs: %w", err)
	}
	h.trust.Dossier.Store(data)
	return nil
}

// ownAttestationKey names the authority behind a certificate of an attestation
// key that we issued ourselves, and still stand by.
func (h *house) ownAttestationKey(ctx context.Context, leaf *x509.Certificate) (string, error) {
	_, err := h.authority.IssuedAK(ctx, leaf)
	if fault.Is(err, fault.NotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	issuer := sha256.Sum256(h.authority.Chain()[0].Raw)
	return hex.EncodeToString(issuer[:]), nil
}

// attestation is what the walk appraises evidence with.
func (h *house) attestation(baselines *attest.Baselines) *enroll.Attestation {
	return &enroll.Attestation{
		TPM:       &tpm.Verifier{Trust: h.trust, Now: time.Now},
		Baselines: baselines, Bonds: h.db, Evidence: h.db, Nonces: h.db,
		Limiter: h.config.nonceLimiter(), Expiry: time.Duration(h.config.Attestation.NonceExpiry), Observe: h.metrics.appraised,
	}
}

// nonceLimiter counts nonces as configured; nil if rate limits are off.
func (c *Config) nonceLimiter() *limit.Limiter {
	if !c.limited() {
		return nil
	}
	source, device := c.Attestation.NoncesPerSource, c.Attestation.NoncesPerDevice
	return limit.New(limit.Config{
		SourceRate: float64(source) / 60, SourceBurst: source, IdentityRate: float64(device) / 60, IdentityBurst: device,
	})
}

// baselines are the reference values that devices are held against.
func (h *house) baselines(register *fleet.Register) *attest.Baselines {
	return &attest.Baselines{Store: h.db, Bonds: h.db, Evidence: h.db, Now: time.Now, Replay: tpm.ReplayLog,
		Device: func(ctx context.Context, id string) (attest.Specimen, error) {
			d, err := register.Device(ctx, id)
			return attest.Specimen{Model: d.Model, InService: d.State.InService()}, err
		},
	}
}

// attestationKeys shapes the certificates of attestation keys. Where status and
// issuer are found is as with any profile.
func (c *Config) attestationKeys(issuer *x509.Certificate) ca.Profile {
	return ca.Profile{
		Lifetime:  time.Duration(c.Attestation.AKLifetime),
		IssuerURL: c.StatusURL + issuerPath, CRLURL: c.crlURL(issuer), OCSPURL: c.StatusURL + status.AnswerPath,
	}
}

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/attest/tpm"
	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/ca/keys"
	"github.com/hallmark-pki/hallmark/ca/status"
	"github.com/hallmark-pki/hallmark/console"
	"github.com/hallmark-pki/hallmark/decisionlog"
	"github.com/hallmark-pki/hallmark/enroll"
	"github.com/hallmark-pki/hallmark/enroll/akca"
	"github.com/hallmark-pki/hallmark/enroll/est"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/operators"
	"github.com/hallmark-pki/hallmark/operators/oidc"
	"github.com/hallmark-pki/hallmark/policy"
	"github.com/hallmark-pki/hallmark/policy/rego"
	"github.com/hallmark-pki/hallmark/policy/release"
	"github.com/hallmark-pki/hallmark/store"
)

// house is the running server: every room with its live parts. This file, and
// tpms.go for evidence, are the only places that turn paths and settings into them.
type house struct {
	options     options
	dir         string
	config      *Config
	debugListen string
	log         *slog.Logger
	metrics     *metrics

	db        *store.DB
	rules     *release.Running
	releases  *release.Releases
	outlet    *release.Outlet
	seal      *rego.Seal // nil: there is no key
	puller    puller
	policy    *policy.Point
	auditLog  *audit.Log
	forwarder *decisionlog.Forwarder
	recall    *release.Memory
	people    *operators.Register
	provider  *oidc.Provider // where operators sign in; nil: nowhere
	issuer    *ca.Local
	authority *ca.Authority
	boards    []*status.Board // of the issuer, and of the root where its key is at hand
	trust     *tpm.Trust
	est       *est.Door
	akca      *akca.Door
	console   *console.Console

	serverTLS atomic.Pointer[tls.Certificate] // our own certificate on the secure listener
	ready     atomic.Bool
}

// build opens everything that stands in the data directory. What it opened is
// closed again if a later part fails.
func build(ctx context.Context, o options) (_ *house, err error) {
	h := &house{options: o, dir: o.dir, debugListen: o.debugListen}
	if h.config, err = o.read(); err != nil {
		return nil, err
	}
	if h.log, err = newLogger(h.config.Log); err != nil {
		return nil, err
	}
	h.metrics = newMetrics()
	defer func() {
		if err != nil {
			h.close()
		}
	}()
	for _, open := range []func(context.Context) error{
		h.openStore, h.openPolicyKeys, h.openPolicy, h.openLog, h.openDecisionLog, h.openAuthority, h.openStatus, h.openOperators, h.openProvider, h.openTrust, h.openDoors, h.openServerCertificate,
	} {
		if err := open(ctx); err != nil {
			return nil, err
		}
	}
	chain := h.authority.Chain()
	h.metrics.expires("issuing", func() time.Time { return chain[0].NotAfter })
	h.metrics.expires("root", func() time.Time { return chain[1].NotAfter })
	h.metrics.expires("server", func() time.Time { return h.serverTLS.Load().Leaf.NotAfter })
	return h, nil
}

func (h *house) close() error {
	if h.db == nil {
		return nil
	}
	return h.db.Close()
}

func newLogger(c LogConfig) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		return nil, fmt.Errorf("log.level: %q is none of debug, info, warn, error", c.Level)
	}
	o := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, o)), nil
	}
	return slog.New(slog.NewTextHandler(os.Stderr, o)), nil
}

func (h *house) openStore(ctx context.Context) (err error) {
	c := store.Config{URL: h.config.Database.URL, Logger: h.log, Observe: h.metrics.committed}
	if c.URL == "" {
		c.Path = h.path(databaseFile)
	}
	h.db, err = store.Open(ctx, c)
	if err != nil {
		return fmt.Errorf("opening the database: %w", err)
	}
	return nil
}

func (h *house) openPolicy(ctx context.Context) error {
	if err := h.openRunning(ctx); err != nil {
		return err
	}
	h.policy = &policy.Point{Engine: h.rules, Journal: h.db, Warden: h.db, Deadline: time.Duration(h.config.Policy.Deadline), Observe: h.metrics.decided,
		Uphold: func(q *policy.Request) (policy.Reason, bool) {
			if why, allowed := operators.Uphold(q); allowed {
				return why, true
			}
			return h.rules.Uphold(q)
		}}
	return nil
}

func (h *house) openLog(context.Context) error {
	secret, err := os.ReadFile(h.path(logKeyFile))
	if err != nil {
		return fmt.Errorf("reading the audit log's key: %w", err)
	}
	public, err := os.ReadFile(h.path(logPublicFile))
	if err != nil {
		return fmt.Errorf("reading the audit log's public key: %w", err)
	}
	signer, err := audit.ReadSecret(secret)
	if err != nil {
		return fmt.Errorf("%s is not a signing key of an audit log: %w", logKeyFile, err)
	}
	verifier, err := audit.ReadKey(public)
	if err != nil {
		return fmt.Errorf("reading %s: %w", logPublicFile, err)
	}
	h.auditLog = &audit.Log{Store: h.db, Signer: signer, Verifier: verifier, Logger: h.log, Observe: h.metrics.sequencing}
	return nil
}

func (h *house) openAuthority(ctx context.Context) error {
	signer, err := keys.Ring{Dir: h.dir}.Open(ctx, h.config.Keys.Issuing)
	if err != nil {
		return fmt.Errorf("opening the issuing key: %w", err)
	}
	chain, err := h.certificates(issuingFile, rootFile)
	if err != nil {
		return err
	}
	if h.issuer, err = ca.NewLocal(signer, chain); err != nil {
		return err
	}
	profiles, err := h.config.caProfiles(chain[0])
	if err != nil {
		return err
	}
	h.authority, err = ca.New(ca.Config{Issuer: h.issuer, Profiles: profiles, AttestationKeys: h.config.attestationKeys(chain[0]), Store: h.db, Ledger: h.db, Now: time.Now,
		Revoked: func(reason ca.RevocationReason, n int) {
			h.metrics.revoked(string(reason), n)
			h.boards[0].Wake()
		}})
	return err
}

// openDoors builds the walk and the doors to it.
func (h *house) openDoors(context.Context) error {
	crew, err := h.certificates(operatorCAFile)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AddCert(crew[0])

	register := &fleet.Register{Store: h.db, Now: time.Now}
	tokens := &enroll.Tokens{Store: h.db, Now: time.Now}
	anchors := &enroll.Anchors{Store: h.db, Now: time.Now, Own: append(h.authority.Chain(), crew...)}
	waiting := &enroll.Waiting{Store: h.db, Journal: h.db, Now: time.Now}
	profiles, err := h.config.enrollProfiles(h.authority.Chain()[0])
	if err != nil {
		return err
	}
	h.trust.Anchors = anchors
	baselines := h.baselines(register)
	enroller := &enroll.Enroller{
		Profiles: profiles, Default: h.config.Default,
		Register: register, Tokens: tokens, Anchors: anchors, Waiting: waiting,
		CA: h.authority, Policy: h.policy, Now: time.Now, Attestation: h.attestation(baselines),
	}
	if err := h.openReleases(enroller); err != nil {
		return err
	}
	limiter := h.config.limiter()
	h.est = &est.Door{Enroller: enroller, Chain: h.authority.Chain, Log: h.log, Limiter: limiter, Observe: h.metrics.est}
	h.akca = &akca.Door{Enroller: enroller, Chain: h.authority.Chain, Log: h.log, Limiter: limiter, Observe: h.metrics.akca}
	h.console, err = console.New(console.Config{
		Policy: h.policy, Operators: pool, People: h.people,
		Fleet: register, Tokens: tokens, Anchors: anchors, Requests: waiting,
		Bonds: &attest.Bonds{Store: h.db, Now: time.Now}, Baselines: baselines, Releases: h.releases, Outlet: h.outlet,
		Provider: h.provider, Shelf: h.db,
		Authority: h.authority, Log: h.auditLog, Record: h.db, Events: func() *decisionlog.Scribe { return h.forwarder.Plan().Scribe }, Attempts: h.db, Backup: h.backup(), Logger: h.log,
		Limiter: limiter, Observe: h.metrics.called,
	})
	return err
}

// backup says what a backup of this server holds.
func (h *house) backup() console.Backup {
	b := console.Backup{Dir: h.dir, Files: backedUp, Database: databaseFile}
	if h.config.Database.URL == "" {
		b.Snapshot = h.db.Backup
	}
	return b
}

// reload reads anew what can be changed while the server runs. What cannot be
// read stays as it was.
func (h *house) reload(ctx context.Context) {
	err := h.rules.Reload(ctx)
	var problems rego.Problems
	switch {
	case err == nil:
		h.log.Info("policy reloaded", "policy", h.rules.Digest())
		if err := h.recordLoad(ctx); err != nil {
			h.log.Error("the reloaded policy is not in the record", "error", err)
		}
	case errors.As(err, &problems):
		for _, p := range problems {
			h.log.Error("policy not reloaded: the rules from before stay", "problem", p.String())
		}
	default:
		h.log.Error("policy not reloaded: the rules from before stay", "error", err)
	}
	if err := h.repull(); err != nil {
		h.log.Error("policy.keys and policy.source not reloaded: what was configured before stays", "error", err)
	}
	if err := h.redirectDecisionLog(); err != nil {
		h.log.Error("decision_log not reloaded: what was configured before stays", "error", err)
	}
	if err := h.loadTrust(ctx); err != nil {
		h.log.Error("attestation data not reloaded: what was known before stays", "error", err)
	} else {
		h.log.Info("attestation data reloaded")
	}
	if err := h.openServerCertificate(ctx); err != nil {
		h.log.Error("server certificate not reloaded", "error", err)
	}
	h.reloadProvider()
}

// certificates reads PEM files below the data directory, one certificate each.
func (h *house) certificates(files ...string) ([]*x509.Certificate, error) {
	var found []*x509.Certificate
	for _, file := range files {
		text, err := os.ReadFile(h.path(file))
		if err != nil {
			return nil, err
		}
		one, err := ca.ParsePEM(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", h.path(file), err)
		}
		found = append(found, one...)
	}
	return found, nil
}

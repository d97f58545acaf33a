package main

import (
	"context"
	"crypto"
	"errors"
	"io/fs"
	"time"

	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/ca/keys"
	"github.com/hallmark-pki/hallmark/operators"
)

// openOperators opens the register of people, and takes the first operator in
// who was made with the data directory.
func (h *house) openOperators(ctx context.Context) error {
	crew, err := h.certificates(operatorCAFile)
	if err != nil {
		return err
	}
	signer, err := h.operatorKey(ctx)
	if err != nil {
		return err
	}
	authority, err := ca.NewOperators(crew[0], signer)
	if err != nil {
		return err
	}
	h.people = &operators.Register{Store: h.db, Roster: h.db, Seals: h.db, Sessions: h.db, Authority: authority, Now: time.Now,
		Life: time.Duration(h.config.Operators.CertificateLifetime), Opened: h.opened}
	return h.adopt(ctx)
}

// operatorKey opens the key that certifies operators. A server without it works, and certifies nobody.
func (h *house) operatorKey(ctx context.Context) (crypto.Signer, error) {
	signer, err := keys.Ring{Dir: h.dir}.Open(ctx, operatorCAKey)
	if errors.Is(err, fs.ErrNotExist) {
		h.log.Warn("the operators' key is not here: this server certifies no operators", "key", operatorCAKey)
		return nil, nil
	}
	return signer, err
}

// adopt takes the first operator into an empty register.
func (h *house) adopt(ctx context.Context) error {
	first, err := h.certificates(adminCertFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	done, err := h.people.Adopt(ctx, first[0], operators.Role{Name: "admin"})
	if done {
		h.log.Info("the first operator is in the register", "operator", first[0].Subject.CommonName)
	}
	return err
}

// opened is told that somebody came by break-glass. Nobody may overlook that.
func (h *house) opened(o operators.Operator) {
	h.metrics.breakglass.Inc()
	h.log.Error("BREAK-GLASS OPENED: somebody has put the two halves together and may act as an administrator for an hour",
		"operator", o.Name, "seal", o.Breakglass.Seal, "reason", o.Breakglass.Reason, "expires", o.Breakglass.Expires)
}

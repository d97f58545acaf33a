package tpm

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// What one chain may cost. Every certificate looked at may be a signature check.
const (
	maxChain      = 10 // certificates sent, the leaf among them
	maxDepth      = 6  // authorities above a leaf
	maxCandidates = 16 // authorities looked at
	maxRSABits    = 8192
	maxVouchers   = 4096
)

// voucher is an authority whose own chain was verified: with it a leaf of its
// costs one signature check.
type voucher struct {
	authority   *x509.Certificate // folded
	top         *x509.Certificate // the root that its chain leads to, folded
	alone       bool              // nothing above it limits the names of leaves
	lists       []*revocations    // signed by it
	from, until time.Time         // when every certificate of the chain is valid
}

// vouchers are the authorities that chains were verified with before, by
// subject. They count for the data that they were verified against, and no longer.
type vouchers struct {
	mu   sync.RWMutex
	data *Dossier
	by   map[string][]*voucher
	n    int
}

func (v *voucher) covers(at time.Time) bool { return !at.Before(v.from) && !at.After(v.until) }

func (v *vouchers) of(data *Dossier, leaf *x509.Certificate) []*voucher {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if v.data != data {
		return nil
	}
	return v.by[string(leaf.RawIssuer)]
}

func (v *vouchers) keep(data *Dossier, add *voucher) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.data != data || v.n >= maxVouchers {
		v.data, v.by, v.n = data, map[string][]*voucher{}, 0
	}
	name := string(add.authority.RawSubject)
	for _, known := range v.by[name] {
		if known.authority.Equal(add.authority) && known.top.Equal(add.top) {
			return
		}
	}
	// A new slice: readers hold the old one.
	v.by[name] = append(slices.Clip(v.by[name]), add)
	v.n++
}

// unvouched is a chain that leads to nothing we trust; it says so to the technician at the device.
type unvouched struct {
	says string
	err  error
}

func (u *unvouched) Error() string { return u.says }
func (u *unvouched) Unwrap() error { return u.err }

// errRevoked is a chain with a certificate in it that was revoked.
var errRevoked = errors.New("the certificate, or the authority that issued it, is revoked")

// inquiry is the search for a chain.
type inquiry struct {
	data    *Dossier
	makers  *Makers             // nil: no maker counts
	anchors []*x509.Certificate // of the profile
	sent    [][]byte            // the authorities that came with the leaf, DER
	at      time.Time
}

// chain finds the root that vouches for a leaf. Its errors are unvouched,
// errRevoked, and failures of our own.
func (t *Trust) chain(ctx context.Context, profile, kind string, leaf *x509.Certificate, sent [][]byte, at time.Time) (*x509.Certificate, error) {
	anchors, err := t.Anchors.Roots(ctx, profile, kind)
	if err != nil {
		return nil, fmt.Errorf("reading the %s anchors of profile %s: %w", kind, profile, err)
	}
	q := inquiry{data: t.data(), anchors: anchors, sent: sent, at: at}
	if kind == ekAnchors && t.Makers != nil {
		if err := t.Makers.open(); err != nil {
			return nil, err
		}
		q.makers = t.Makers
	}
	if at.Before(leaf.NotBefore) || at.After(leaf.NotAfter) {
		return nil, &unvouched{says: fmt.Sprintf("the certificate is valid from %s to %s, and not now",
			leaf.NotBefore.Format(time.DateOnly), leaf.NotAfter.Format(time.DateOnly))}
	}
	leaf = withoutSAN(fold(leaf))
	for _, v := range t.vouchers.of(q.data, leaf) {
		if !v.covers(at) || !q.trusts(v.top) {
			continue
		}
		if _, err := leaf.Verify(options(pool(v.authority), nil, at)); err == nil {
			return v.top, q.data.check(leaf, v.lists)
		}
	}
	v, err := q.search(leaf)
	if err != nil {
		return nil, err
	}
	if v.alone {
		t.vouchers.keep(q.data, v)
	}
	return v.top, nil
}

func pool(c *x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(c)
	return p
}

// options asks for no extended key usage: those of TPM keys are looked at one by one.
func options(roots, intermediates *x509.CertPool, at time.Time) x509.VerifyOptions {
	return x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
}

// trusts reports whether a root still counts.
func (q *inquiry) trusts(top *x509.Certificate) bool {
	same := func(c *x509.Certificate) bool { return bytes.Equal(c.Raw, top.Raw) }
	return slices.ContainsFunc(q.anchors, same) ||
		q.makers != nil && slices.ContainsFunc(q.makers.roots[string(top.RawSubject)], same)
}

// search gathers the authorities that may stand above a leaf, lets crypto/x509
// find the ways through them, and takes the first on which nothing is revoked.
func (q *inquiry) search(leaf *x509.Certificate) (*voucher, error) {
	roots, intermediates := q.gather(leaf)
	chains, err := leaf.Verify(options(roots, intermediates, q.at))
	if err != nil {
		return nil, unvouchedBecause(err, leaf)
	}
	for _, chain := range chains {
		if revoked := q.revoked(chain); revoked != nil {
			err = revoked
			continue
		}
		return q.vouch(chain), nil
	}
	return nil, err
}

// gather returns what may stand above a leaf, by name, up to maxCandidates.
func (q *inquiry) gather(leaf *x509.Certificate) (roots, intermediates *x509.CertPool) {
	roots, intermediates = x509.NewCertPool(), x509.NewCertPool()
	sources := q.sources(roots, intermediates)
	seen := map[string]bool{}
	below := []*x509.Certificate{leaf}
	for range maxDepth {
		var above []*x509.Certificate
		for _, c := range below {
			for _, s := range sources {
				for _, authority := range s.issuers(c) {
					if key := string(authority.Raw); !seen[key] && len(seen) < maxCandidates {
						seen[key] = true
						s.pool.AddCert(authority)
						above = append(above, authority)
					}
				}
			}
		}
		below = above
	}
	return roots, intermediates
}

// source is a shelf, and the pool that its certificates belong into.
type source struct {
	shelf
	pool *x509.CertPool
}

// sources come in the order of how well they are known: what was sent comes last, so that it cannot crowd out the rest.
func (q *inquiry) sources(roots, intermediates *x509.CertPool) []source {
	anchors, sent := shelf{}, shelf{}
	for _, c := range q.anchors {
		anchors.put(c)
	}
	for _, der := range q.sent {
		// One that cannot be read, or would cost too much, helps no more than one that is missing.
		if c, err := parseCertificate(der); err == nil && affordable(c) {
			sent.put(c)
		}
	}
	all := []source{{anchors, roots}, {q.data.intermediates, intermediates}}
	if q.makers != nil {
		all = append(all, source{q.makers.roots, roots}, source{q.makers.intermediates, intermediates})
	}
	return append(all, source{sent, intermediates})
}

func affordable(c *x509.Certificate) bool {
	key, ok := c.PublicKey.(*rsa.PublicKey)
	return !ok || key.N.BitLen() <= maxRSABits
}

// revoked looks every certificate of a chain up, the root excepted.
func (q *inquiry) revoked(chain []*x509.Certificate) error {
	for i, c := range chain[:len(chain)-1] {
		if err := q.data.check(c, q.data.lists(chain[i+1])); err != nil {
			return err
		}
	}
	return nil
}

// vouch is what a verified chain shows of the authority next to the leaf.
func (q *inquiry) vouch(chain []*x509.Certificate) *voucher {
	v := &voucher{authority: chain[1], top: chain[len(chain)-1], alone: true, lists: q.data.lists(chain[1]), from: chain[1].NotBefore, until: chain[1].NotAfter}
	for _, c := range chain[1:] {
		if c.NotBefore.After(v.from) {
			v.from = c.NotBefore
		}
		if c.NotAfter.Before(v.until) {
			v.until = c.NotAfter
		}
		v.alone = v.alone && !slices.ContainsFunc(c.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidNameConstraints) })
	}
	return v
}

// unvouchedBecause puts the outcome of a verification into words.
func unvouchedBecause(err error, leaf *x509.Certificate) error {
	issuer := printable(leaf.Issuer.String())
	says := fmt.Sprintf("it was issued by %q, and no authority that is trusted stands behind that", issuer)
	var invalid x509.CertificateInvalidError
	var critical x509.UnhandledCriticalExtension
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		says = fmt.Sprintf("it was issued by %q, and an authority of that chain has expired", issuer)
	case errors.As(err, &invalid):
		says = fmt.Sprintf("it was issued by %q, and an authority of that chain may not issue it", issuer)
	case errors.As(err, &critical):
		says = "it has a critical extension that is not known here"
	}
	return &unvouched{says: says, err: err}
}

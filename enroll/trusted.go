package enroll

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"time"
)

// trusted is what one profile trusts to vouch for factory certificates, ready
// to verify with, as the store had it at one moment.
type trusted struct {
	read     time.Time
	pool     *x509.CertPool
	ids      map[string]string // anchor's DER → its id
	subjects map[string]bool   // the anchors' subjects, DER
}

// freshness is how long what was read of the anchors may be gone by. A change
// made through this process counts at once, one made at another replica this
// much later at the most.
const freshness = time.Second

// trusted returns the anchors of a profile.
func (a *Anchors) trusted(ctx context.Context, profile string, at time.Time) (*trusted, error) {
	a.mu.Lock()
	known, changes := a.known[profile], a.changes
	a.mu.Unlock()
	if known != nil && at.Sub(known.read).Abs() < freshness {
		return known, nil
	}
	anchors, err := a.Store.Anchors(ctx, profile, IDevID)
	if err != nil {
		return nil, err
	}
	t := &trusted{read: at, pool: x509.NewCertPool(), ids: map[string]string{}, subjects: map[string]bool{}}
	for i := range anchors {
		c, err := x509.ParseCertificate(anchors[i].DER)
		if err != nil {
			return nil, fmt.Errorf("reading anchor %s: %w", anchors[i].ID, err)
		}
		t.pool.AddCert(c)
		t.ids[string(c.Raw)], t.subjects[string(c.RawSubject)] = anchors[i].ID, true
	}
	a.keep(profile, t, changes)
	return t, nil
}

// keep remembers t, unless anchors have changed while it was read.
func (a *Anchors) keep(profile string, t *trusted, changes int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.changes != changes {
		return
	}
	if a.known == nil {
		a.known = map[string]*trusted{}
	}
	a.known[profile] = t
}

// forget makes the next request read the anchors anew.
func (a *Anchors) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.known, a.changes = nil, a.changes+1
}

// named reports whether a certificate says of itself that an anchor of the
// profile issued it, and none of our own authorities. It proves nothing.
func (a *Anchors) named(ctx context.Context, profile string, leaf *x509.Certificate, at time.Time) (bool, error) {
	for _, own := range a.Own {
		if bytes.Equal(own.RawSubject, leaf.RawIssuer) {
			return false, nil
		}
	}
	t, err := a.trusted(ctx, profile, at)
	return err == nil && t.subjects[string(leaf.RawIssuer)], err
}

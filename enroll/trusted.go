package enroll

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/hallmark-pki/hallmark/attest/idevid"
)

// trusted is what one profile trusts to vouch for one kind of thing, ready to
// verify with, as the store had it at one moment.
type trusted struct {
	read      time.Time
	list      []*x509.Certificate
	factories *idevid.Anchors // made of the list
}

// vouching says whose anchors are meant.
type vouching struct {
	profile string
	kind    AnchorKind
}

// freshness is how long what was read of the anchors may be gone by. A change
// made through this process counts at once, one made at another replica this
// much later at the most.
const freshness = time.Second

// Roots returns the certificates that a profile trusts to vouch for one kind
// of thing (idevid, ek, ak). The caller does not change them.
func (a *Anchors) Roots(ctx context.Context, profile, kind string) ([]*x509.Certificate, error) {
	t, err := a.trusted(ctx, vouching{profile, AnchorKind(kind)}, a.Now())
	if err != nil {
		return nil, err
	}
	return t.list, nil
}

// trusted returns the anchors of a profile and kind.
func (a *Anchors) trusted(ctx context.Context, of vouching, at time.Time) (*trusted, error) {
	a.mu.Lock()
	known, changes := a.known[of], a.changes
	a.mu.Unlock()
	if known != nil && at.Sub(known.read).Abs() < freshness {
		return known, nil
	}
	anchors, err := a.Store.Anchors(ctx, of.profile, of.kind)
	if err != nil {
		return nil, err
	}
	t := &trusted{read: at}
	for i := range anchors {
		c, err := x509.ParseCertificate(anchors[i].DER)
		if err != nil {
			return nil, fmt.Errorf("reading anchor %s: %w", anchors[i].ID, err)
		}
		t.list = append(t.list, c)
	}
	t.factories = idevid.Trust(t.list)
	a.keep(of, t, changes)
	return t, nil
}

// keep remembers t, unless anchors have changed while it was read.
func (a *Anchors) keep(of vouching, t *trusted, changes int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.changes != changes {
		return
	}
	if a.known == nil {
		a.known = map[vouching]*trusted{}
	}
	a.known[of] = t
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
	t, err := a.trusted(ctx, vouching{profile, IDevID}, at)
	return err == nil && t.factories.Named(leaf), err
}

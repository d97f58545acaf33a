package ca

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	casapi "github.com/smallstep/certificates/cas/apiv1"
)

// Upstream issues through an authority elsewhere, by the interface for which
// smallstep's adapters (Vault, Google, step-ca …) are written. The authority has
// to follow the template: what it adds, drops or changes is found afterwards and
// the certificate is not handed out.
type Upstream struct {
	service casapi.CertificateAuthorityService
	chain   []*x509.Certificate
}

// NewUpstream returns an issuer over a service that issues under chain[0]. The
// chain is issuing certificate first, root last, and is verified.
func NewUpstream(service casapi.CertificateAuthorityService, chain []*x509.Certificate) (*Upstream, error) {
	if err := checkChain(chain); err != nil {
		return nil, err
	}
	return &Upstream{service: service, chain: chain}, nil
}

// Chain implements Issuer.
func (u *Upstream) Chain() []*x509.Certificate { return u.chain }

// Issue implements Issuer. The service's own deadline applies: its interface has no context.
func (u *Upstream) Issue(_ context.Context, d *Draft) ([]byte, error) {
	template, err := d.template()
	if err != nil {
		return nil, err
	}
	answer, err := u.service.CreateCertificate(&casapi.CreateCertificateRequest{
		Template: template,
		CSR:      d.CSR.Request,
		Lifetime: time.Until(d.NotAfter),
		Backdate: d.profile.Backdate,
	})
	if err != nil {
		return nil, fmt.Errorf("upstream authority: %w", err)
	}
	if answer == nil || answer.Certificate == nil {
		return nil, fmt.Errorf("upstream authority answered without a certificate")
	}
	return answer.Certificate.Raw, nil
}

// template is the draft in the form that x509.CreateCertificate takes, with
// every extension spelled out so that its encoding is ours.
func (d *Draft) template() (*x509.Certificate, error) {
	der, err := assemble(d.TBS, d.profile.signing.identifier, throwAway)
	if err != nil {
		return nil, fmt.Errorf("assembling a draft: %w", err)
	}
	t, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading a draft: %w", err)
	}
	t.ExtraExtensions = t.Extensions
	return t, nil
}

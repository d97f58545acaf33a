package est

import (
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"net"
	"net/http"

	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/enroll"
	"github.com/hallmark-pki/hallmark/internal/cms"
	"github.com/hallmark-pki/hallmark/internal/limit"
)

// caCerts gives out the certificates to trust (RFC 7030, Section 4.1).
func (d *Door) caCerts(c *call) error {
	chain := d.Chain()
	raw := make([][]byte, len(chain))
	for i, certificate := range chain {
		raw[i] = certificate.Raw
	}
	der, err := cms.CertsOnly(raw...)
	if err != nil {
		return err
	}
	c.send(typeCACerts, der)
	return nil
}

// csrAttrs says what a CSR should be like (RFC 7030, Section 4.5).
func (d *Door) csrAttrs(c *call) error {
	der, err := attributesOf(c.profile).encode()
	if err != nil {
		return err
	}
	c.send(typeCSRAttrs, der)
	return nil
}

// enroll serves simpleenroll and simplereenroll (RFC 7030, Section 4.2).
func (d *Door) enroll(operation enroll.Operation) func(*call) error {
	return func(c *call) error {
		request, err := d.request(c, operation)
		if err != nil {
			return err
		}
		certificate, err := d.Enroller.Enroll(c.r.Context(), request)
		if err != nil {
			return err
		}
		der, err := cms.CertsOnly(certificate.DER) // the new one and no other (RFC 7030, Section 4.2.3)
		if err != nil {
			return err
		}
		d.issued(c, certificate)
		c.send(typeCert, der)
		return nil
	}
}

// request reads what an enrolment needs. A caller who brings no proof and
// nothing to be enrolled either is asked for the proof first: some clients send
// an empty body to find out how to authenticate.
func (d *Door) request(c *call, operation enroll.Operation) (enroll.Request, error) {
	proof := proofOf(c.r)
	c.identity = identityOf(c.source, &proof)
	if wait, ok := d.Limiter.Allow(c.source, c.identity); !ok {
		return enroll.Request{}, tooMany(wait)
	}
	request := enroll.Request{
		Door: "est", Operation: operation, Profile: c.label, Proof: proof, Source: c.source, ID: c.id,
		Challenge: challengeOf(c.r),
	}
	err := d.readCSR(c, &request)
	if err != nil && len(proof.Chain) == 0 && !proof.HasBasic {
		err = errChallenge
	}
	return request, err
}

// readCSR completes a request with its CSR and what ties that to the connection.
func (d *Door) readCSR(c *call, request *enroll.Request) error {
	der, err := c.readRequest()
	if err != nil {
		return err
	}
	csr, err := ca.ParseCSR(der)
	if err != nil {
		return d.Enroller.TurnAway(c.r.Context(), *request, err)
	}
	request.CSR, request.Bindings = csr, bindings(c.r.TLS, csr)
	return nil
}

// proofOf collects what the caller brought. Nothing of it is checked here.
func proofOf(r *http.Request) enroll.Proof {
	p := enroll.Proof{Chain: r.TLS.PeerCertificates}
	p.User, p.Password, p.HasBasic = r.BasicAuth()
	return p
}

// identityOf is whom refusals are counted against besides the source; empty if
// nobody is named.
func identityOf(source string, p *enroll.Proof) string {
	switch {
	case len(p.Chain) > 0:
		return limit.Certificate(p.Chain[0].Raw)
	case p.User != "":
		return limit.User(source, p.User)
	}
	return ""
}

func (d *Door) issued(c *call, certificate *ca.Certificate) {
	d.Log.LogAttrs(c.r.Context(), slog.LevelInfo, "est issued",
		slog.String("request", c.id), slog.String("operation", c.operation), slog.String("source", c.source),
		slog.String("device", certificate.Device), slog.String("profile", certificate.Profile), slog.String("serial", certificate.Serial))
}

// sourceOf is the caller's IP address.
func sourceOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

func newID() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

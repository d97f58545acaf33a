package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/hallmark-pki/hallmark/internal/estclient"
)

// asking is one attempt to get a certificate.
type asking struct {
	client  estclient.Client
	folder  folder
	state   state
	key     crypto.Signer
	subject []byte        // DER; nil leaves the name to the server
	renewal bool          // simplereenroll
	attest  *attestor     // brings evidence of the TPM; nil for a software key
	wait    time.Duration // how long to wait for an operator's approval
	say     func(format string, args ...any)
}

// run asks until there is an answer, and keeps what was given.
func (a *asking) run(ctx context.Context) (*credential, error) {
	deadline := time.Now().Add(a.wait)
	for {
		got, err := a.once(ctx)
		if err == nil {
			return got, a.folder.save(got)
		}
		var answer *estclient.Error
		if !errors.As(err, &answer) || answer.Status != http.StatusAccepted {
			return nil, err
		}
		pause := max(answer.RetryAfter, time.Second)
		if time.Now().Add(pause).After(deadline) {
			return nil, fmt.Errorf("held for an operator's approval; the same command later takes it up again: %w", err)
		}
		a.say("held for an operator's approval (ref %s); asking again in %s", answer.Ref, pause)
		if err := sleep(ctx, pause, nil); err != nil {
			return nil, err
		}
	}
}

// once is one exchange with the server, and another one if it has forgotten
// the attestation key since.
func (a *asking) once(ctx context.Context) (*credential, error) {
	got, err := a.exchange(ctx)
	if err != nil && a.attest.forgotten(err) {
		a.say("the server does not know the attestation key (any more); the endorsement key vouches for it")
		return a.exchange(ctx)
	}
	return got, err
}

// exchange is what is said over one connection.
func (a *asking) exchange(ctx context.Context) (*credential, error) {
	session, err := a.client.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer session.Close()
	wishes, err := session.CSRAttrs(ctx)
	if err != nil {
		return nil, err
	}
	request := estclient.Request{Key: a.key, Subject: a.subject}
	if estclient.WantsBinding(wishes) {
		request.Challenge = session.Binding()
	}
	if a.attest != nil {
		if request.Attestation, err = a.attest.evidence(ctx, session, tpmKey(a.key)); err != nil {
			return nil, err
		}
	}
	csr, err := request.DER()
	if err != nil {
		return nil, err
	}
	// The chain comes first: once there is a certificate, nothing may keep it from being saved.
	chain, err := session.CACerts(ctx)
	if err != nil {
		return nil, err
	}
	enroll := session.Enroll
	if a.renewal {
		enroll = session.Reenroll
	}
	certificate, err := enroll(ctx, csr)
	if err != nil {
		return nil, err
	}
	got := &credential{key: a.key, certificate: certificate, chain: chain, state: a.state}
	got.state.Issued = time.Now().UTC().Truncate(time.Second)
	return got, got.check()
}

// check refuses a certificate that is not over our key, or that the chain does
// not vouch for: it would lock the device out of everything, renewal included.
func (c *credential) check() error {
	spki, err := x509.MarshalPKIXPublicKey(c.key.Public())
	if err != nil {
		return err
	}
	if !bytes.Equal(spki, c.certificate.RawSubjectPublicKeyInfo) {
		return errors.New("the server sent a certificate over another key")
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	for _, ca := range c.chain {
		if bytes.Equal(ca.RawSubject, ca.RawIssuer) {
			roots.AddCert(ca)
		} else {
			intermediates.AddCert(ca)
		}
	}
	_, err = c.certificate.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return fmt.Errorf("the server sent a certificate that its own authorities do not vouch for: %w", err)
	}
	return nil
}

// renewal prepares to renew c, over its own key or a new one of the same type.
func (f folder) renewal(c *credential, sameKey bool) (*asking, error) {
	key := c.key
	attest, err := f.attestorOf(c.state.TPM)
	if err != nil {
		return nil, err
	}
	if !sameKey {
		if key, err = f.pendingKey(typeOf(c.key), attest); err != nil {
			return nil, err
		}
	}
	roots, err := rootsOf([]byte(c.state.CA))
	if err != nil {
		return nil, err
	}
	return &asking{
		client: estclient.Client{
			Server: c.state.Server, Label: c.state.Profile, Roots: roots,
			Certificate: c.tls(),
		},
		folder: f, state: c.state, key: key, renewal: true, attest: attest,
		say:     func(string, ...any) {},
		subject: c.certificate.RawSubject, // RFC 7030, Section 4.2.2: the same subject
	}, nil
}

// tls is the credential as a TLS client shows it.
func (c *credential) tls() *tls.Certificate {
	pair := tls.Certificate{Certificate: [][]byte{c.certificate.Raw}, PrivateKey: c.key}
	if key := tpmKey(c.key); key != nil {
		pair = key.TLS(pair.Certificate)
	}
	pair.Leaf = c.certificate
	return &pair
}

func rootsOf(text []byte) (*x509.CertPool, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, errors.New("the CA file has no certificate in PEM")
	}
	return roots, nil
}

// renewAt is when to renew: after two thirds of the certificate's life, a bit
// earlier by a fraction in [0,1) that spreads a fleet over a twentieth of it.
func (c *credential) renewAt(fraction float64) time.Time {
	life := c.certificate.NotAfter.Sub(c.certificate.NotBefore)
	return c.certificate.NotBefore.Add(life*2/3 - time.Duration(fraction*float64(life/20)))
}

// device is the id that the certificate names.
func (c *credential) device() string {
	if id := c.certificate.Subject.SerialNumber; id != "" {
		return id
	}
	return c.certificate.Subject.CommonName
}

// serial is the certificate's serial number as the server writes it: hex, in whole bytes.
func (c *credential) serial() string { return hex.EncodeToString(c.certificate.SerialNumber.Bytes()) }

// errAsked ends a sleep before its time.
var errAsked = errors.New("asked to attest")

// sleep waits in short steps by the wall clock, so that a device that was
// suspended wakes up to what is due by now.
func sleep(ctx context.Context, d time.Duration, asked <-chan os.Signal) error {
	until := time.Now().Add(d).Round(0) // Round drops the monotonic clock
	for {
		left := time.Until(until)
		if left <= 0 {
			return ctx.Err()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-asked:
			return errAsked
		case <-time.After(min(left, 30*time.Second)):
		}
	}
}

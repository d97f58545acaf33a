package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hallmark-pki/hallmark/ca"
)

// openServerCertificate reads the certificate of the secure listener, and makes
// a new one if it is due or does not name all hosts.
func (h *house) openServerCertificate(ctx context.Context) error {
	found, err := tls.LoadX509KeyPair(h.path(serverFile), h.path(serverFile))
	switch {
	case errors.Is(err, os.ErrNotExist), err == nil && ca.ServerDue(found.Leaf, h.hosts(), time.Now()):
		if found, err = h.makeServerCertificate(ctx); err != nil {
			return err
		}
	case err != nil:
		return fmt.Errorf("reading %s: %w", h.path(serverFile), err)
	}
	h.serverTLS.Store(&found)
	return nil
}

// hosts are the names by which this server is reached.
func (h *house) hosts() []string { return append([]string{hostName()}, h.config.Hosts...) }

func (h *house) makeServerCertificate(ctx context.Context) (tls.Certificate, error) {
	var none tls.Certificate
	key, err := newKey()
	if err != nil {
		return none, err
	}
	certificate, err := h.issuer.Server(key.Public(), h.hosts(), time.Now())
	if err != nil {
		return none, err
	}
	if err := h.db.Append(ctx, ca.Made("server.renew", "server", certificate, time.Now())); err != nil {
		return none, err
	}
	text, err := withKey(key, certificate, h.issuer.Chain()[0])
	if err != nil {
		return none, err
	}
	if err := replaceFile(h.path(serverFile), text); err != nil {
		return none, err
	}
	return tls.X509KeyPair(text, text)
}

// serverCertificate is tls.Config.GetCertificate.
func (h *house) serverCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return h.serverTLS.Load(), nil
}

// renewServer looks every hour whether the server's certificate is due.
func (h *house) renewServer(ctx context.Context) error {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := h.openServerCertificate(ctx); err != nil {
				h.log.Error("renewing the server's certificate", "error", err)
			}
		}
	}
}

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// withKey writes a key and its certificates in PEM.
func withKey(key crypto.PrivateKey, chain ...*x509.Certificate) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	pem.Encode(&b, &pem.Block{Type: "PRIVATE KEY", Bytes: der}) // a Buffer never fails
	b.Write(ca.EncodePEM(chain...))
	return b.Bytes(), nil
}

// replaceFile writes a secret file so that it is there whole or not at all.
func replaceFile(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it has been renamed, as it should
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return errors.Join(os.Rename(f.Name(), path), syncDir(filepath.Dir(path)))
}

package ca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Issuer turns drafts into certificates: a key of our own (Local), or an
// authority elsewhere (Upstream). The Authority trusts neither: it holds what
// comes back against the draft.
type Issuer interface {
	// Chain returns the issuing certificate first and the root last. It does not change.
	Chain() []*x509.Certificate

	// Issue returns the certificate for the draft, DER.
	Issue(ctx context.Context, d *Draft) ([]byte, error)
}

// signing is how a key signs: the hash, and the AlgorithmIdentifier for it.
type signing struct {
	hash       crypto.Hash // 0 signs the message itself
	identifier []byte      // DER AlgorithmIdentifier
	x509       x509.SignatureAlgorithm
}

// signingWith returns how a key of that kind signs (RFC 4055, 5758, 8410).
func signingWith(pub crypto.PublicKey) (signing, error) {
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		switch pub.Curve {
		case elliptic.P256():
			return signing{crypto.SHA256, algorithmIdentifier(false, 1, 2, 840, 10045, 4, 3, 2), x509.ECDSAWithSHA256}, nil
		case elliptic.P384():
			return signing{crypto.SHA384, algorithmIdentifier(false, 1, 2, 840, 10045, 4, 3, 3), x509.ECDSAWithSHA384}, nil
		}
	case *rsa.PublicKey:
		return signing{crypto.SHA256, algorithmIdentifier(true, 1, 2, 840, 113549, 1, 1, 11), x509.SHA256WithRSA}, nil
	case ed25519.PublicKey:
		return signing{0, algorithmIdentifier(false, 1, 3, 101, 112), x509.PureEd25519}, nil
	}
	return signing{}, fmt.Errorf("an issuer's key is ECDSA P-256 or P-384, RSA or Ed25519, not %T", pub)
}

// algorithmIdentifier is SEQUENCE { oid, NULL for RSA and nothing for the others }.
func algorithmIdentifier(null bool, oid ...int) []byte {
	var b cryptobyte.Builder
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier(oid))
		if null {
			b.AddASN1NULL()
		}
	})
	return b.BytesOrPanic()
}

// Local issues with a key of our own.
type Local struct {
	signer  crypto.Signer
	signing signing
	chain   []*x509.Certificate
}

// NewLocal returns an issuer that signs with signer in the name of chain[0].
// The chain is issuing certificate first, root last, and is verified: names that
// match are not enough, the signatures must.
func NewLocal(signer crypto.Signer, chain []*x509.Certificate) (*Local, error) {
	if err := checkChain(chain); err != nil {
		return nil, err
	}
	if !sameKey(signer.Public(), chain[0].PublicKey) {
		return nil, fmt.Errorf("the issuing key does not belong to the certificate of %q", chain[0].Subject)
	}
	s, err := signingWith(signer.Public())
	if err != nil {
		return nil, err
	}
	return &Local{signer: signer, signing: s, chain: chain}, nil
}

// Chain implements Issuer.
func (l *Local) Chain() []*x509.Certificate { return l.chain }

// Issue implements Issuer.
func (l *Local) Issue(_ context.Context, d *Draft) ([]byte, error) {
	signature, err := l.sign(d.TBS)
	if err != nil {
		return nil, fmt.Errorf("signing a certificate: %w", err)
	}
	return assemble(d.TBS, l.signing.identifier, signature)
}

func (l *Local) sign(tbs []byte) ([]byte, error) {
	if l.signing.hash == 0 {
		return l.signer.Sign(rand.Reader, tbs, l.signing.hash)
	}
	h := l.signing.hash.New()
	h.Write(tbs)
	return l.signer.Sign(rand.Reader, h.Sum(nil), l.signing.hash)
}

// inMemory reports whether the key is an elliptic-curve key in this process.
// crypto/rsa verifies what it signs by itself; keys elsewhere answer over a wire.
func (l *Local) inMemory() bool {
	switch l.signer.(type) {
	case *ecdsa.PrivateKey, ed25519.PrivateKey:
		return true
	}
	return false
}

// assemble is Certificate ::= SEQUENCE { tbs, algorithm, signature BIT STRING } (RFC 5280, Section 4.1).
func assemble(tbs, algorithm, signature []byte) ([]byte, error) {
	b := cryptobyte.NewBuilder(make([]byte, 0, len(tbs)+len(algorithm)+len(signature)+16))
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		b.AddBytes(algorithm)
		b.AddASN1BitString(signature)
	})
	return b.Bytes()
}

// checkChain verifies a chain of authorities, issuing certificate first.
func checkChain(chain []*x509.Certificate) error {
	if len(chain) == 0 {
		return errors.New("an issuer needs its certificate")
	}
	for i, c := range chain {
		if !c.IsCA || c.KeyUsage&x509.KeyUsageCertSign == 0 || len(c.SubjectKeyId) == 0 {
			return fmt.Errorf("the certificate of %q is not an authority's (CA:TRUE, keyCertSign, subject key identifier)", c.Subject)
		}
		parent := chain[min(i+1, len(chain)-1)] // the last is its own
		if !bytes.Equal(c.RawIssuer, parent.RawSubject) {
			return fmt.Errorf("the chain is not complete up to its root: %q does not come after %q", parent.Subject, c.Subject)
		}
		if err := c.CheckSignatureFrom(parent); err != nil {
			return fmt.Errorf("the certificate of %q is not signed by that of %q: %w", c.Subject, parent.Subject, err)
		}
	}
	return nil
}

// sameKey compares public keys.
func sameKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

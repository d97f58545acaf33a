package tpm

import (
	"crypto/x509"
	_ "embed"
	"encoding/pem"
	"fmt"
	"strings"
	"sync"
)

//go:embed makers.pem
var makersPEM string

// Makers is the bundle of certificates of TPM makers that the program carries:
// roots, which are trusted, and intermediate authorities, which help to get there. It is read when
// the first endorsement key asks for it. The zero Makers is ready.
type Makers struct {
	once          sync.Once
	roots         shelf
	intermediates shelf
	err           error
}

// MakersVersion is the date of the bundle, as in 2026-04-11.
func MakersVersion() string {
	_, version, _ := strings.Cut(makersPEM, "# version ")
	version, _, _ = strings.Cut(version, "\n")
	return version
}

func (m *Makers) open() error {
	m.once.Do(func() { m.err = m.read(makersPEM) })
	return m.err
}

// read fills both shelves. What a certificate is stands before it, as in "# IFX root".
func (m *Makers) read(bundle string) error {
	m.roots, m.intermediates = shelf{}, shelf{}
	for i, text := range strings.SplitAfter(bundle, "-----END CERTIFICATE-----\n") {
		says, _, _ := strings.Cut(text[strings.LastIndex(text, "\n\n")+1:], "-----BEGIN")
		block, _ := pem.Decode([]byte(text))
		if block == nil {
			continue // after the last one
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return fmt.Errorf("reading certificate %d of the makers' bundle: %w", i+1, err)
		}
		title, _, _ := strings.Cut(strings.TrimSpace(says), "\n")
		if strings.HasSuffix(title, " root") {
			m.roots.put(c)
		} else {
			m.intermediates.put(c)
		}
	}
	return nil
}

// shelf holds certificates, folded, by their subject.
type shelf map[string][]*x509.Certificate

// put adds a certificate that is not there yet.
func (s shelf) put(c *x509.Certificate) {
	c = fold(c)
	for _, other := range s[string(c.RawSubject)] {
		if other.Equal(c) {
			return
		}
	}
	s[string(c.RawSubject)] = append(s[string(c.RawSubject)], c)
}

// issuers returns the certificates that may have issued c, which is folded.
func (s shelf) issuers(c *x509.Certificate) []*x509.Certificate { return s[string(c.RawIssuer)] }

package ca

import (
	"errors"
	"fmt"
	"strings"

	zx509 "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3/lint"
	_ "github.com/zmap/zlint/v3/lints/rfc" // registers the lints
)

// linter holds certificates to the rules of the RFCs before they are signed.
type linter struct {
	lints         []*lint.CertificateLint
	configuration lint.Configuration
}

// newLinter picks zlint's rules from RFC 5280, 5480 and 8813. Those of the
// CA/Browser Forum, Mozilla, Apple and ETSI are for public authorities, and
// contradict SPIFFE names here and there.
func newLinter() (*linter, error) {
	rules, err := lint.GlobalRegistry().Filter(lint.FilterOptions{
		IncludeSources: lint.SourceList{lint.RFC5280, lint.RFC5480, lint.RFC8813},
	})
	if err != nil {
		return nil, fmt.Errorf("choosing lints: %w", err)
	}
	return &linter{lints: rules.CertificateLints().Lints(), configuration: rules.GetConfiguration()}, nil
}

// throwAway stands in for the signature while the draft is linted: no lint
// verifies it, and no signature exists of what the lints refuse.
var throwAway = []byte{0x30, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01}

// check lints the exact bytes that are to be signed.
func (l *linter) check(tbs, algorithm []byte) error {
	der, err := assemble(tbs, algorithm, throwAway)
	if err != nil {
		return fmt.Errorf("assembling a draft: %w", err)
	}
	return l.checkDER(der)
}

// checkDER lints a certificate.
func (l *linter) checkDER(der []byte) error {
	c, err := zx509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("a certificate does not parse: %w", err)
	}
	var broken []string
	for _, rule := range l.lints {
		if r := rule.Execute(c, l.configuration); r.Status >= lint.Error {
			broken = append(broken, strings.TrimSpace(rule.Name+" "+r.Details))
		}
	}
	if broken != nil {
		return errors.New("a certificate breaks rules: " + strings.Join(broken, "; "))
	}
	return nil
}

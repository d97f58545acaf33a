package ca

import (
	"errors"
	"fmt"
	"strings"

	zx509 "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3/lint"
	_ "github.com/zmap/zlint/v3/lints/rfc" // registers the lints
)

// linter holds certificates to the rules of the RFCs.
type linter struct {
	rules         []*lint.CertificateLint
	configuration lint.Configuration
	passed        shapes
}

// exempt are rules of the RFCs that do not fit what is made here.
var exempt = []string{
	// RFC 5280, Section 4.2.1.6, wants a host in a URI to be a domain name or an
	// address. A trust domain is neither (SPIFFE-ID, Section 2.1); Profile.Check holds it to SPIFFE's rules.
	"e_ext_san_uri_host_not_fqdn_or_ip",
}

// newLinter picks zlint's rules from RFC 5280, 5480 and 8813. Those of the
// CA/Browser Forum, Mozilla, Apple and ETSI are for public authorities.
func newLinter() (*linter, error) {
	rules, err := lint.GlobalRegistry().Filter(lint.FilterOptions{
		IncludeSources: lint.SourceList{lint.RFC5280, lint.RFC5480, lint.RFC8813},
		ExcludeNames:   exempt,
	})
	if err != nil {
		return nil, fmt.Errorf("choosing lints: %w", err)
	}
	return &linter{rules: rules.CertificateLints().Lints(), configuration: rules.GetConfiguration()}, nil
}

// fit lints specimens of everything that a profile can make, to all rules, and
// returns a linter for the profile: the rules that apply to any of them. The
// others are about extensions, names and authorities that its certificates do
// not have, and would say so each time. So a profile whose certificates would
// break a rule is found when the server starts.
func (l *linter) fit(m *mould) (*linter, error) {
	specimens, err := m.specimens()
	if err != nil {
		return nil, fmt.Errorf("profile %q: %w", m.Name, err)
	}
	applies := make([]bool, len(l.rules))
	for _, f := range specimens {
		statuses, err := l.examine(f.TBS, m.signing.identifier)
		if err != nil {
			return nil, fmt.Errorf("profile %q: %w", m.Name, err)
		}
		for i, status := range statuses {
			applies[i] = applies[i] || status != lint.NA
		}
	}
	fitted := &linter{configuration: l.configuration}
	for i, rule := range l.rules {
		if applies[i] {
			fitted.rules = append(fitted.rules, rule)
		}
	}
	return fitted, nil
}

// throwAway stands in for the signature while a draft is linted: no rule
// verifies it, and no signature exists of what the rules refuse.
var throwAway = []byte{0x30, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01}

// check lints the exact bytes that are to be signed, unless a draft of the same
// shape has passed before.
func (l *linter) check(f *Draft) error {
	s := f.shape()
	if l.passed.has(s) {
		return nil
	}
	if _, err := l.examine(f.TBS, f.profile.signing.identifier); err != nil {
		return err
	}
	l.passed.add(s)
	return nil
}

func (l *linter) examine(tbs, algorithm []byte) ([]lint.LintStatus, error) {
	der, err := assemble(tbs, algorithm, throwAway)
	if err != nil {
		return nil, fmt.Errorf("assembling a draft: %w", err)
	}
	return l.examineDER(der)
}

// examineDER returns what each rule says of a certificate, and an error that
// names those it breaks.
func (l *linter) examineDER(der []byte) ([]lint.LintStatus, error) {
	c, err := zx509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("a certificate does not parse: %w", err)
	}
	statuses := make([]lint.LintStatus, len(l.rules))
	var broken []string
	for i, rule := range l.rules {
		r := rule.Execute(c, l.configuration)
		if statuses[i] = r.Status; r.Status >= lint.Error {
			broken = append(broken, strings.TrimSpace(rule.Name+" "+r.Details))
		}
	}
	if broken != nil {
		return nil, errors.New("a certificate breaks rules: " + strings.Join(broken, "; "))
	}
	return statuses, nil
}

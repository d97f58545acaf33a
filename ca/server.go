package ca

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"
)

// loopback is what every server certificate names.
var loopback = []string{"localhost", "127.0.0.1", "::1"}

// hostname is a DNS name in the preferred syntax (RFC 1123, Section 2.1).
var hostname = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)

// Server returns a certificate for our own listener, good for 90 days. hosts
// are DNS names and IP addresses besides the loopback ones.
func (l *Local) Server(pub crypto.PublicKey, hosts []string, now time.Time) (*x509.Certificate, error) {
	t := &x509.Certificate{
		NotBefore: later(now.Add(-foundingSlow), l.chain[0].NotBefore), NotAfter: now.Add(serverLife),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		// RFC 7030, Section 3.6.1: by id-kp-cmcRA clients know an EST server under the same root as devices.
		UnknownExtKeyUsage: []asn1.ObjectIdentifier{oidCMCRA},
	}
	var err error
	if t.DNSNames, t.IPAddresses, err = splitHosts(hosts); err != nil {
		return nil, err
	}
	named := t.DNSNames[0]
	for _, host := range t.DNSNames { // a name that says more than localhost, where there is one
		if host != loopback[0] && len(host) <= ubName {
			named = host
			break
		}
	}
	t.Subject = pkix.Name{Organization: l.chain[0].Subject.Organization, CommonName: named}
	return certify(t, l.chain[0], pub, l.signer)
}

// ServerDue reports whether the server's certificate should be replaced: less
// than a third of its life is left, or it does not name all hosts.
func ServerDue(c *x509.Certificate, hosts []string, now time.Time) bool {
	if c.NotAfter.Sub(now) < c.NotAfter.Sub(c.NotBefore)/3 {
		return true
	}
	names, addresses, err := splitHosts(hosts)
	if err != nil {
		return true // making the new one will say what is wrong
	}
	for _, name := range names {
		if !slices.Contains(c.DNSNames, name) {
			return true
		}
	}
	for _, address := range addresses {
		if !slices.ContainsFunc(c.IPAddresses, address.Equal) {
			return true
		}
	}
	return false
}

// splitHosts sorts hosts, and the loopback ones before them, into names and addresses, each once.
func splitHosts(hosts []string) (names []string, addresses []net.IP, err error) {
	for _, host := range slices.Concat(loopback, hosts) {
		if ip := net.ParseIP(host); ip != nil {
			if !slices.ContainsFunc(addresses, ip.Equal) {
				addresses = append(addresses, ip)
			}
			continue
		}
		host = strings.ToLower(strings.TrimSuffix(host, "."))
		if !hostname.MatchString(host) || len(host) > 253 {
			return nil, nil, fmt.Errorf("%q is neither a host name nor an IP address", host)
		}
		if !slices.Contains(names, host) {
			names = append(names, host)
		}
	}
	return names, addresses, nil
}

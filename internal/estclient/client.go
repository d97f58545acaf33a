// Package estclient is an EST client (RFC 7030): what the device's agent, the
// tests and the benchmark enrol with. It imports nothing of the server.
package estclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Client says where the server is and who asks. Its fields are not changed
// once it is in use.
type Client struct {
	Server      string           // https://HOST[:PORT]
	Label       string           // the profile to ask for; empty for the server's default
	Roots       *x509.CertPool   // whom to trust; never nil, or nobody is trusted
	Certificate *tls.Certificate // client certificate; nil for none
	User        string           // HTTP Basic: device id, may be empty
	Password    string           // HTTP Basic: enrolment token; empty for no HTTP Basic at all
	Timeout     time.Duration    // of one exchange, connecting included; 0 means 30 s
	MaxVersion  uint16           // highest TLS version; 0 means the newest
}

// Session is one TLS connection to the server. A channel binding holds for one
// connection only (RFC 7030, Section 3.5), so the CSR is made after the session
// has been opened. A Session is for one goroutine.
type Session struct {
	client  *Client
	base    string
	binding string
	cookie  string // of the nonce asked for last
	http    *http.Client
}

// Open connects. A server that is not whom Roots trust is an error.
func (c *Client) Open(ctx context.Context) (*Session, error) {
	base, address, err := c.locate()
	if err != nil {
		return nil, err
	}
	dial, cancel := context.WithTimeout(ctx, c.timeout())
	defer cancel()
	dialer := tls.Dialer{Config: c.tlsConfig()}
	connection, err := dialer.DialContext(dial, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", address, err)
	}
	state := connection.(*tls.Conn).ConnectionState()
	binding, err := bindingOf(&state)
	if err != nil {
		connection.Close()
		return nil, err
	}
	return &Session{client: c, base: base, binding: binding, http: &http.Client{
		Transport: oneConnection(connection),
		Timeout:   c.timeout(),
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("the server redirects, which EST does not do")
		},
	}}, nil
}

// Binding is the connection's channel binding in base64: what a server that asks
// for a challengePassword wants to find in it.
func (s *Session) Binding() string { return s.binding }

// Close ends the connection.
func (s *Session) Close() { s.http.CloseIdleConnections() }

func (c *Client) timeout() time.Duration {
	if c.Timeout > 0 {
		return c.Timeout
	}
	return 30 * time.Second
}

// locate takes the server's URL apart.
func (c *Client) locate() (base, address string, err error) {
	u, err := url.Parse(c.Server)
	if err != nil {
		return "", "", fmt.Errorf("server URL: %w", err)
	}
	if u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return "", "", fmt.Errorf("server URL %q: want https://HOST[:PORT]", u.Redacted())
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	base = "https://" + u.Host + "/.well-known/est/"
	if c.Label != "" {
		base += url.PathEscape(c.Label) + "/"
	}
	return base, net.JoinHostPort(u.Hostname(), port), nil
}

func (c *Client) tlsConfig() *tls.Config {
	roots := c.Roots
	if roots == nil {
		roots = x509.NewCertPool() // nil would mean the system's
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, MaxVersion: c.MaxVersion, RootCAs: roots,
		// A request is used whole or not at all: an event log in small records only costs both sides more of them.
		DynamicRecordSizingDisabled: true,
	}
	if c.Certificate != nil {
		// Sent whatever the server hints at: it names no authorities where it has many.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.Certificate, nil }
	}
	return config
}

// bindingOf is tls-exporter (RFC 9266) on TLS 1.3 and tls-unique (RFC 5929) before.
func bindingOf(state *tls.ConnectionState) (string, error) {
	value := state.TLSUnique
	if state.Version >= tls.VersionTLS13 {
		var err error
		if value, err = state.ExportKeyingMaterial("EXPORTER-Channel-Binding", []byte{}, 32); err != nil {
			return "", fmt.Errorf("computing the channel binding: %w", err)
		}
	}
	return base64.StdEncoding.EncodeToString(value), nil
}

// oneConnection is a transport that has this connection and never opens
// another: another would have another channel binding.
func oneConnection(connection net.Conn) *http.Transport {
	used := make(chan net.Conn, 1)
	used <- connection
	return &http.Transport{
		MaxConnsPerHost: 1,
		DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
			select {
			case c := <-used:
				return c, nil
			default:
				return nil, errClosed
			}
		},
	}
}

var errClosed = errors.New("the server has closed the connection")

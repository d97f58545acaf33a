package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/hallmark-pki/hallmark/console"
)

// session is an open line to the server's API.
type session struct {
	base     string // URL without a path
	http     *http.Client
	dir      string
	json     bool
	out, err io.Writer

	anchors  string // what the server is trusted by, PEM
	token    string // of a session; empty: a certificate is the credential, or there is none
	operator string // whose session it is
}

// open reads the credential and gets ready to call.
func (c *connection) open(out, errOut io.Writer) (*session, error) {
	asJSON, err := c.asJSON()
	if err != nil {
		return nil, err
	}
	if (c.cert == "") != (c.key == "") {
		return nil, usageError{errors.New("--cert and --key go together")}
	}
	base := strings.TrimSuffix(c.server, "/")
	if base == "" {
		_, err := os.Stat(c.dir)
		last := lastLogin()
		switch {
		case errors.Is(err, fs.ErrNotExist) && last != nil && !c.nobody:
			base = last.Server
		case errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("there is no data directory %s: start a server with \"hallmark serve\", "+
				"name its directory with --data, or reach one with --server, --ca, --cert and --key", c.dir)
		default:
			if base, err = serverURL(c.dir); err != nil {
				return nil, err
			}
		}
	}
	if u, err := url.Parse(base); err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, usageError{fmt.Errorf("--server is a URL such as https://ca.example.com:8443, not %q", base)}
	}
	login, err := c.credentialed(base)
	if err != nil {
		return nil, err
	}
	config, anchors, err := c.tls(login)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, ForceAttemptHTTP2: true,
		TLSHandshakeTimeout: 15 * time.Second, ResponseHeaderTimeout: 10 * time.Minute}
	s := &session{base: base, http: &http.Client{Transport: transport}, dir: c.dir, json: asJSON, out: out, err: errOut, anchors: anchors}
	if login != nil {
		s.token, s.operator = login.Token, login.Operator
	}
	return s, nil
}

// tls reads whom to trust, and who we are unless there is a session.
func (c *connection) tls(login *keptLogin) (*tls.Config, string, error) {
	ca, cert, key := c.ca, c.cert, c.key
	if ca == "" {
		ca = filepath.Join(c.dir, "root.crt")
	}
	if cert == "" {
		cert, key = filepath.Join(c.dir, "operators", "admin.crt"), filepath.Join(c.dir, "operators", "admin.key")
	}
	anchors, err := os.ReadFile(ca)
	if err != nil && login != nil && c.ca == "" {
		anchors, err = []byte(login.CA), nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("no certificate to trust the server by: %w (name one with --ca)", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(anchors) {
		return nil, "", fmt.Errorf("%s holds no certificate in PEM", ca)
	}
	if c.nobody || login != nil {
		return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}, string(anchors), nil
	}
	operator, err := tls.LoadX509KeyPair(cert, key)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil, "", fmt.Errorf("no operator credential: %w (name one with --cert and --key, or sign in: hallmark login)", err)
	}
	if err != nil {
		return nil, "", fmt.Errorf("operator credential %s, %s: %w", cert, key, err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool,
		// Whatever authorities the server names: let it say what is wrong with our certificate.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &operator, nil },
	}, string(anchors), nil
}

// refusal is a problem that the server answered with.
type refusal struct{ console.Problem }

// Error returns the reason, and on a second line what to quote.
func (r *refusal) Error() string {
	text := fmt.Sprintf("%s (%s)", escape(r.Detail), escape(r.Code))
	for _, p := range r.Problems {
		text += "\n  " + escape(p)
	}
	if r.Decision != "" {
		return text + "\ndecision: " + escape(r.Decision)
	}
	return text + "\nref: " + escape(r.Ref)
}

// content is a request's body.
type content struct {
	kind string
	body io.Reader
}

// object is v as a JSON body.
func object(v any) *content {
	text, err := json.Marshal(v)
	if err != nil {
		return &content{kind: "application/json", body: &broken{err}}
	}
	return &content{kind: "application/json", body: bytes.NewReader(text)}
}

// broken is a body that cannot be made.
type broken struct{ err error }

// Read returns the error.
func (b *broken) Read([]byte) (int, error) { return 0, b.err }

// call makes one call and returns the answer of a success; its body is the caller's to close.
func (s *session) call(ctx context.Context, method, path string, q url.Values, c *content) (*http.Response, error) {
	target := s.base + path
	if len(q) > 0 {
		target += "?" + q.Encode()
	}
	var body io.Reader
	if c != nil {
		body = c.body
	}
	request, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, err
	}
	if c != nil {
		request.Header.Set("Content-Type", c.kind)
	}
	request.Header.Set("User-Agent", "hallmark/"+version)
	if s.token != "" {
		request.Header.Set("Authorization", "Bearer "+s.token)
	}
	response, err := s.send(request)
	if err != nil {
		return nil, s.explain(err)
	}
	if response.StatusCode/100 == 2 && response.Header.Get("Content-Type") != "application/problem+json" {
		return response, nil
	}
	defer response.Body.Close()
	err = readRefusal(response)
	if refused, ok := errors.AsType[*refusal](err); ok {
		return nil, s.ended(refused)
	}
	return nil, err
}

const maxProblem = 64 << 10

func readRefusal(response *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(response.Body, maxProblem))
	if err != nil {
		return err
	}
	var r refusal
	if response.Header.Get("Content-Type") == "application/problem+json" && json.Unmarshal(text, &r.Problem) == nil {
		return &r
	}
	first, _, _ := strings.Cut(string(text), "\n")
	return fmt.Errorf("the server answered %s: %s", response.Status, escape(first))
}

// do makes a call and decodes the JSON that it answers into v, unless v is nil.
func (s *session) do(ctx context.Context, method, path string, q url.Values, c *content, v any) error {
	response, err := s.call(ctx, method, path, q, c)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if v == nil || response.StatusCode == http.StatusNoContent {
		return nil
	}
	if err := json.NewDecoder(response.Body).Decode(v); err != nil {
		return fmt.Errorf("the server's answer cannot be read: %w", err)
	}
	return nil
}

// explain turns the errors of a connection into what to do about them.
func (s *session) explain(err error) error {
	var (
		foreign  x509.UnknownAuthorityError
		hostname x509.HostnameError
		alert    tls.AlertError
	)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no server answers at %s: is it running? (hallmark serve --data %s)", s.base, s.dir)
	case errors.As(err, &foreign):
		return fmt.Errorf("%s is not the server that was expected: its certificate is not from the authority to trust (--ca)", s.base)
	case errors.As(err, &hostname):
		return fmt.Errorf("the server's certificate does not name %s: %w", hostname.Host, hostname)
	case errors.As(err, &alert):
		return fmt.Errorf("the server broke off the TLS handshake: %w", alert)
	}
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	return fmt.Errorf("calling %s: %w", s.base, err)
}

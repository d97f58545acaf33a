package source

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy/rego"
)

// patience is how long one look may take, beyond what the server was asked to wait.
const patience = time.Minute

// longPollType is the media type of servers that let their callers wait.
const longPollType = "application/vnd.openpolicyagent.bundles"

// NewClient returns a client that believes the authorities of roots (nil: those of the system), and shows
// the certificate if there is one. It stays on the host that it was sent to: headers may hold credentials.
func NewClient(roots *x509.CertPool, shown *tls.Certificate) *http.Client {
	c := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	if shown != nil {
		c.Certificates = []tls.Certificate{*shown}
	}
	return &http.Client{
		Transport: &http.Transport{TLSClientConfig: c, Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, MaxIdleConns: 1,
			IdleConnTimeout: 2 * time.Minute, TLSHandshakeTimeout: 10 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
			DisableCompression:     true}, // a bundle is packed once, and unpacked within bounds
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if first := via[0].URL; r.URL.Host != first.Host || r.URL.Scheme != first.Scheme || len(via) > 4 {
				return errors.New("the server sends us elsewhere, to " + r.URL.Scheme + "://" + r.URL.Host)
			}
			return nil
		},
	}
}

// download fetches the bundle, or nothing if it is the one that was looked at last.
func (s *Source) download(ctx context.Context) (packed []byte, etag string, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.Wait+patience)
	defer cancel()
	request, err := s.request(ctx)
	if err != nil {
		return nil, "", err
	}
	answer, err := s.Client.Do(request)
	if err != nil {
		var wrapped *url.Error // its text has the URL, with what secrets that may hold
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return nil, "", fmt.Errorf("asking the bundle server: %w", err)
	}
	defer answer.Body.Close()
	switch {
	case answer.StatusCode == http.StatusNotModified && s.etag != "":
		return nil, s.etag, nil
	case answer.StatusCode != http.StatusOK:
		return nil, "", fmt.Errorf("the bundle server answers %d %s", answer.StatusCode, http.StatusText(answer.StatusCode))
	}
	packed, err = io.ReadAll(io.LimitReader(answer.Body, rego.MaxPacked+1))
	switch {
	case err != nil:
		return nil, "", fmt.Errorf("the transfer broke off: %w", err)
	case len(packed) > rego.MaxPacked:
		return nil, "", fmt.Errorf("the bundle server sends more than %d KiB", rego.MaxPacked>>10)
	case len(packed) == 0:
		return nil, "", errors.New("the bundle server sends nothing")
	}
	kind, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	s.long = s.Wait > 0 && kind == longPollType
	return packed, answer.Header.Get("ETag"), nil
}

// request asks for the bundle as OPA's own agents do.
func (s *Source) request(ctx context.Context) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, nil)
	if err != nil {
		return nil, errors.New("the URL of the bundle cannot be read")
	}
	if s.Header != nil {
		header, err := s.Header()
		if err != nil {
			return nil, err
		}
		request.Header = header
	}
	request.Header.Set("User-Agent", "hallmark")
	prefer := "modes=snapshot"
	if s.Wait > 0 {
		prefer += ";wait=" + strconv.Itoa(int(s.Wait/time.Second))
	}
	request.Header.Set("Prefer", prefer)
	if s.etag != "" {
		request.Header.Set("If-None-Match", s.etag)
	}
	return request, nil
}

// plain is a URL without what may be secret in it.
func plain(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

// problems are what a report found, as an error.
type problems []string

// Error returns the problems, one a line.
func (p problems) Error() string { return strings.Join(p, "\n") }

// isProblem reports whether the bundle itself is to blame.
func isProblem(err error) bool {
	var found rego.Problems
	return errors.As(err, &found)
}

// maxWhy bounds what a status says of what is wrong.
const maxWhy = 2000

// says is what is wrong, for people.
func says(err error) string {
	var found rego.Problems
	var reported problems
	text := err.Error()
	switch e := fault.Of(err); {
	case errors.As(err, &found):
		text = found.Error()
	case errors.As(err, &reported):
		text = e.Says + "\n" + reported.Error()
	case e.Says != "":
		text = e.Says
		if e.Ref != "" {
			text += " (decision " + e.Ref + ")"
		}
	}
	return strings.ToValidUTF8(text[:min(len(text), maxWhy)], "\uFFFD")
}

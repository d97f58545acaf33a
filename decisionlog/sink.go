package decisionlog

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// Address says where events go and how the sink is spoken to.
type Address struct {
	URL        string            // of the service; events go to URL + Resource
	Resource   string            // path below URL; empty: /logs, and /logs/Partition where there is one
	Partition  string            // as OPA's partition_name
	Headers    map[string]string // sent with each request
	BearerFile string            // holds the bearer token; read for each request, since tokens are renewed
	CertFile   string            // client certificate, PEM
	KeyFile    string            // its key
	CAFile     string            // who vouches for the sink, PEM; empty: whom the machine trusts
	Timeout    time.Duration     // for one request, the answer included; 0 means DefaultTimeout
}

// DefaultTimeout bounds one request to a sink.
const DefaultTimeout = 10 * time.Second

// Sink is a service that takes events as OPA sends them: gzipped JSON arrays by POST.
type Sink struct {
	address Address
	url     string
	client  *http.Client
}

// NewSink reads the files that the address names. Plain HTTP is for loopback addresses alone.
func NewSink(a Address) (*Sink, error) {
	u, err := url.Parse(a.URL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errors.New("url must look like https://host/path")
	}
	switch {
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return nil, errors.New("url must be https: decisions tell of devices and people. Plain http is for a sink on this very machine")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("url must have no user, query or fragment; credentials go into headers, bearer_file or cert")
	case a.Resource != "" && a.Partition != "":
		return nil, errors.New("set either resource or partition")
	}
	resource := a.Resource
	if resource == "" {
		resource = strings.TrimSuffix("/logs/"+url.PathEscape(a.Partition), "/")
	}
	s := &Sink{address: a, url: strings.TrimSuffix(a.URL, "/") + "/" + strings.TrimPrefix(resource, "/")}
	if s.address.Timeout == 0 {
		s.address.Timeout = DefaultTimeout
	}
	for name, value := range a.Headers {
		if strings.ContainsAny(name, " \r\n\t:") || name == "" || strings.ContainsAny(value, "\r\n\x00") {
			return nil, fmt.Errorf("headers: %q is not a header", name)
		}
	}
	if a.BearerFile != "" {
		if _, err := s.bearer(); err != nil {
			return nil, err
		}
	}
	s.client, err = s.newClient()
	return s, err
}

// Close drops the connections that wait to be used again.
func (s *Sink) Close() { s.client.CloseIdleConnections() }

// URL is where the sink's events go: it names the sink.
func (s *Sink) URL() string { return s.url }

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (s *Sink) newClient() (*http.Client, error) {
	a := &s.address
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if a.CAFile != "" {
		text, err := os.ReadFile(a.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("ca: %s holds no certificate", a.CAFile)
		}
	}
	if (a.CertFile == "") != (a.KeyFile == "") {
		return nil, errors.New("cert and key belong together")
	}
	if a.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(a.CertFile, a.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("cert: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return &http.Client{
		Timeout: s.address.Timeout,
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, ForceAttemptHTTP2: true,
			MaxIdleConns: 2, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 32 << 10, DisableCompression: true,
		},
		// Whoever answers with another place does not get our credentials sent there.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

func (s *Sink) bearer() (string, error) {
	text, err := os.ReadFile(s.address.BearerFile)
	if err != nil {
		return "", fmt.Errorf("bearer_file: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("bearer_file: %s does not hold one token", s.address.BearerFile)
	}
	return token, nil
}

// verdict is what an answer of the sink means for the events sent.
type verdict int

const (
	taken   verdict = iota
	later           // the sink or the way to it is in trouble: all of them again, later
	unfit           // these events are refused: fewer at a time may do
	locked          // the sink does not let us in: a person has to change something
	garbled         // the sink is not what it should be
)

// refusal is an error of a sink.
type refusal struct {
	verdict verdict
	status  int
	after   time.Duration // the sink asks for this much patience; 0: it does not say
	says    string
	cause   error
}

func (r *refusal) Error() string { return r.says }
func (r *refusal) Unwrap() error { return r.cause }

func (r *refusal) tooLarge() bool { return r.status == http.StatusRequestEntityTooLarge }

// why names the kind of trouble, for metrics.
func (r *refusal) why() string {
	return [...]string{"", "unavailable", "refused", "forbidden", "unexpected"}[r.verdict]
}

// post sends one chunk: a gzipped JSON array of events.
func (s *Sink) post(ctx context.Context, chunk []byte, now time.Time) *refusal {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(chunk))
	if err != nil {
		return &refusal{verdict: locked, says: "the sink cannot be asked", cause: err}
	}
	for name, value := range s.address.Headers {
		r.Header.Set(name, value)
	}
	if s.address.BearerFile != "" {
		token, err := s.bearer()
		if err != nil {
			return &refusal{verdict: locked, says: err.Error(), cause: err}
		}
		r.Header.Set("Authorization", "Bearer "+token)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Content-Encoding", "gzip")
	answer, err := s.client.Do(r)
	if err != nil {
		return &refusal{verdict: later, says: "the sink cannot be reached: " + s.scrub(err), cause: ctx.Err()}
	}
	defer answer.Body.Close()
	_, _ = io.CopyN(io.Discard, answer.Body, 64<<10) // so that the connection can be used again
	return judge(answer, now)
}

// scrub is the error's text without the URL in front of it, which the log line names anyway.
func (s *Sink) scrub(err error) string {
	if e := (*url.Error)(nil); errors.As(err, &e) {
		err = e.Err
	}
	return err.Error()
}

// judge reads the status of an answer: 2xx has taken the events, for OPA as for us.
func judge(answer *http.Response, now time.Time) *refusal {
	r := &refusal{says: "the sink answers " + strconv.Itoa(answer.StatusCode), verdict: unfit, status: answer.StatusCode, after: patience(answer.Header.Get("Retry-After"), now)}
	switch code := answer.StatusCode; {
	case code >= 200 && code < 300:
		return nil
	case code >= 300 && code < 400:
		r.verdict, r.says = garbled, r.says+", a redirect; the address of the sink has to be its own"
	case code >= 500, code == http.StatusRequestTimeout, code == http.StatusTooEarly, code == http.StatusTooManyRequests:
		r.verdict = later
	case code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusProxyAuthRequired:
		r.verdict = locked
	case code == http.StatusNotFound, code == http.StatusMethodNotAllowed, code == http.StatusGone, code < 200:
		r.verdict = garbled
	}
	return r
}

// longestPatience bounds what a sink may ask for.
const longestPatience = time.Hour

// patience reads Retry-After (RFC 9110, Section 10.2.3): seconds or a date.
func patience(text string, now time.Time) time.Duration {
	if text == "" {
		return 0
	}
	if seconds, err := strconv.Atoi(text); err == nil {
		return time.Duration(max(0, min(seconds, int(longestPatience/time.Second)))) * time.Second
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	return max(0, min(at.Sub(now), longestPatience))
}

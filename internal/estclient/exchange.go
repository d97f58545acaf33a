package estclient

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"

	"github.com/hallmark-pki/hallmark/internal/cms"
)

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 256 << 10

// CACerts returns the authority's certificates (RFC 7030, Section 4.1).
func (s *Session) CACerts(ctx context.Context) ([]*x509.Certificate, error) {
	_, body, err := s.exchange(ctx, http.MethodGet, "cacerts", nil)
	if err != nil {
		return nil, err
	}
	der, err := decode(body)
	if err != nil {
		return nil, err
	}
	return cms.Parse(der)
}

// CSRAttrs returns what the server wishes a CSR to be, as the DER of CsrAttrs,
// or nil if it has no wishes (RFC 7030, Section 4.5).
func (s *Session) CSRAttrs(ctx context.Context) ([]byte, error) {
	_, body, err := s.exchange(ctx, http.MethodGet, "csrattrs", nil)
	if Status(err) == http.StatusNotFound {
		return nil, nil
	}
	if err != nil || len(body) == 0 {
		return nil, err
	}
	return decode(body)
}

// Enroll asks for a first certificate over the DER of a PKCS#10 request (RFC
// 7030, Section 4.2.1).
func (s *Session) Enroll(ctx context.Context, csr []byte) (*x509.Certificate, error) {
	return s.enroll(ctx, "simpleenroll", csr)
}

// Reenroll asks for another one on the strength of the client certificate (RFC
// 7030, Section 4.2.2).
func (s *Session) Reenroll(ctx context.Context, csr []byte) (*x509.Certificate, error) {
	return s.enroll(ctx, "simplereenroll", csr)
}

func (s *Session) enroll(ctx context.Context, operation string, csr []byte) (*x509.Certificate, error) {
	_, body, err := s.exchange(ctx, http.MethodPost, operation, csr)
	if err != nil {
		return nil, err
	}
	der, err := decode(body)
	if err != nil {
		return nil, err
	}
	return single(der)
}

// ServerKeygen asks the server for a key and a certificate over it (RFC 7030,
// Section 4.4). The CSR's own key counts for nothing.
func (s *Session) ServerKeygen(ctx context.Context, csr []byte) (crypto.PrivateKey, *x509.Certificate, error) {
	header, body, err := s.exchange(ctx, http.MethodPost, "serverkeygen", csr)
	if err != nil {
		return nil, nil, err
	}
	return keyAndCertificate(header.Get("Content-Type"), body)
}

// keyAndCertificate reads the multipart answer of RFC 7030, Section 4.4.2: the
// key first, then the certificate.
func keyAndCertificate(contentType string, body []byte) (crypto.PrivateKey, *x509.Certificate, error) {
	kind, parameters, err := mime.ParseMediaType(contentType)
	if err != nil || kind != "multipart/mixed" {
		return nil, nil, fmt.Errorf("the server answered %q instead of multipart/mixed", contentType)
	}
	parts := multipart.NewReader(bytes.NewReader(body), parameters["boundary"])
	pkcs8, err := part(parts, "application/pkcs8")
	if err != nil {
		return nil, nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(pkcs8)
	if err != nil {
		return nil, nil, errors.New("the server sent a private key that cannot be read")
	}
	der, err := part(parts, "application/pkcs7-mime")
	if err != nil {
		return nil, nil, err
	}
	certificate, err := single(der)
	return key, certificate, err
}

// part reads the next part of a multipart answer.
func part(parts *multipart.Reader, want string) ([]byte, error) {
	p, err := parts.NextRawPart()
	if err != nil {
		return nil, fmt.Errorf("reading the multipart answer: %w", err)
	}
	if kind, _, err := mime.ParseMediaType(p.Header.Get("Content-Type")); err != nil || kind != want {
		return nil, fmt.Errorf("the server sent %q where %s belongs", p.Header.Get("Content-Type"), want)
	}
	body, err := io.ReadAll(p)
	if err != nil {
		return nil, fmt.Errorf("reading the multipart answer: %w", err)
	}
	return decode(body)
}

// exchange sends one request over the session's connection and returns the
// answer if it is a success, else an *Error.
func (s *Session) exchange(ctx context.Context, method, operation string, csr []byte) (http.Header, []byte, error) {
	var body io.Reader
	if csr != nil {
		body = strings.NewReader(base64.StdEncoding.EncodeToString(csr))
	}
	request, err := http.NewRequestWithContext(ctx, method, s.base+operation, body)
	if err != nil {
		return nil, nil, err
	}
	if csr != nil {
		request.Header.Set("Content-Type", "application/pkcs10")
		request.Header.Set("Content-Transfer-Encoding", "base64")
	}
	return s.send(request)
}

// send sends a request with what says who asks.
func (s *Session) send(request *http.Request) (http.Header, []byte, error) {
	if s.client.Password != "" {
		request.SetBasicAuth(s.client.User, s.client.Password)
	}
	if s.cookie != "" {
		request.AddCookie(&http.Cookie{Name: nonceCookie, Value: s.cookie})
	}
	response, err := s.http.Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("reading the answer: %w", err)
	case len(answer) > maxAnswer:
		return nil, nil, errors.New("the server's answer is too large")
	case response.StatusCode == http.StatusNoContent:
		return response.Header, nil, nil
	case response.StatusCode != http.StatusOK:
		return nil, nil, errorOf(response, answer)
	}
	return response.Header, answer, nil
}

// decode reads base64 with or without line breaks (RFC 8951, Section 3.1).
func decode(body []byte) ([]byte, error) {
	der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(body)), ""))
	if err != nil {
		return nil, fmt.Errorf("the server's answer is not base64: %w", err)
	}
	return der, nil
}

// single reads certs-only CMS with exactly one certificate.
func single(der []byte) (*x509.Certificate, error) {
	found, err := cms.Parse(der)
	if err != nil {
		return nil, err
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("the server sent %d certificates where one belongs", len(found))
	}
	return found[0], nil
}

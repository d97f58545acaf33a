package main

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"time"
)

// keyHeader names a change, so that the server does it once however often it is
// sent (draft-ietf-httpapi-idempotency-key-header).
const keyHeader = "Idempotency-Key"

// A change whose connection broke is sent once more. While the server says that
// the first is under way, it is asked again what became of that.
const (
	mostQuestions = 20
	betweenThem   = time.Second
)

// send sends a request. A change gets a key, and is sent again if the connection breaks before the answer.
func (s *session) send(request *http.Request) (*http.Response, error) {
	if request.Method == http.MethodGet {
		return s.http.Do(request)
	}
	request.Header.Set(keyHeader, `"`+rand.Text()+`"`)
	response, err := s.http.Do(request)
	if err == nil || !cutOff(err) || request.Context().Err() != nil {
		return response, err
	}
	for range mostQuestions {
		again := request.Clone(request.Context())
		if request.Body != nil {
			if request.GetBody == nil { // a file that is read as it goes
				return nil, err
			}
			if again.Body, err = request.GetBody(); err != nil {
				return nil, err
			}
		}
		response, err = s.http.Do(again)
		if err != nil || response.StatusCode != http.StatusConflict || response.Header.Get("Retry-After") == "" {
			break
		}
		response.Body.Close()
		select {
		case <-time.After(betweenThem):
		case <-request.Context().Done():
			return nil, request.Context().Err()
		}
	}
	return response, err
}

// cutOff reports whether a call failed after it may have reached the server.
func cutOff(err error) bool {
	var (
		op    *net.OpError
		alert tls.AlertError
		cert  *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &op) && op.Op == "dial", errors.As(err, &alert), errors.As(err, &cert):
		return false
	}
	return true
}

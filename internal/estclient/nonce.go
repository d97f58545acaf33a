package estclient

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// The media type of nonce exchanges (draft-ietf-lamps-attestation-freshness),
// and the identifiers of what both sides add about a TPM. Nobody has registered any, so these are two of a UUID's arc.
const (
	typeFreshness  = "application/est-attestation-freshness+json"
	typeTPMRequest = "2.25.197995676531165126923878663687273591694.1"
	typeTPMAnswer  = "2.25.197995676531165126923878663687273591694.2"
)

// nonceCookie is what the server recognises its challenge by.
const nonceCookie = "estnonce"

// Freshness is what a device says of its TPM when it asks for a nonce. All of
// it may be empty.
type Freshness struct {
	Banks    []string // PCR banks in use: sha256, sha384
	AKPublic []byte   // TPMT_PUBLIC of the attestation key, where no certificate vouches for it
	EKPublic []byte   // TPMT_PUBLIC of the endorsement key, which asks for an activation
	EKCerts  [][]byte // its certificate chain, DER, leaf first
}

// Challenge is what the server asks a device to prove.
type Challenge struct {
	Nonce           []byte
	Expiry          time.Duration
	Bank            string // of the PCRs to quote; empty for no quote
	PCRs            []int  // ascending
	Certify         bool   // the key is to be certified
	EventLog        bool   // an event log is welcome
	CredentialBlob  []byte // TPM2B_ID_OBJECT; nil where there is nothing to activate
	EncryptedSecret []byte // TPM2B_ENCRYPTED_SECRET
}

// bytes64 are bytes in base64url without padding.
type bytes64 []byte

// MarshalJSON writes the string.
func (b bytes64) MarshalJSON() ([]byte, error) {
	return []byte(`"` + base64.RawURLEncoding.EncodeToString(b) + `"`), nil
}

// UnmarshalJSON reads the string.
func (b *bytes64) UnmarshalJSON(text []byte) (err error) {
	var s string
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	*b, err = base64.RawURLEncoding.DecodeString(s)
	return err
}

type nonceRequest struct {
	Len         int `json:"len"`
	ReqTypeInfo struct {
		Type    string `json:"type"`
		ReqInfo struct {
			HashAlgs []string  `json:"hashAlgs,omitempty"`
			AKPub    bytes64   `json:"akPub,omitempty"`
			EKCerts  []bytes64 `json:"ekCerts,omitempty"`
			EKPub    bytes64   `json:"ekPub,omitempty"`
		} `json:"reqInfo"`
	} `json:"reqTypeInfo"`
}

type nonceAnswer struct {
	Nonce        bytes64 `json:"nonce"`
	Expiry       int     `json:"expiry"` // seconds
	RespTypeInfo struct {
		Type     string `json:"type"`
		RespInfo struct {
			Selection []struct {
				HashAlgo string `json:"tpm20-hash-algo"`
				Index    []int  `json:"pcr-index"`
			} `json:"tpm20-pcr-selection"`
			Quote      bool `json:"quote"`
			EventLog   bool `json:"eventLog"`
			Certify    bool `json:"certify"`
			Activation struct {
				CredentialBlob  bytes64 `json:"credentialBlob"`
				EncryptedSecret bytes64 `json:"encryptedSecret"`
			} `json:"activation"`
		} `json:"respInfo"`
	} `json:"respTypeInfo"`
}

// Nonce asks what the enrolment to come has to prove, and remembers the
// server's cookie for it.
func (s *Session) Nonce(ctx context.Context, f Freshness) (*Challenge, error) {
	var ask nonceRequest
	ask.Len = 32
	ask.ReqTypeInfo.Type = typeTPMRequest
	about := &ask.ReqTypeInfo.ReqInfo
	about.HashAlgs, about.AKPub, about.EKPub = f.Banks, f.AKPublic, f.EKPublic
	for _, certificate := range f.EKCerts {
		about.EKCerts = append(about.EKCerts, certificate)
	}
	body, err := json.Marshal(ask)
	if err != nil {
		return nil, fmt.Errorf("asking for a nonce: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.base+"nonce", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", typeFreshness)
	header, answer, err := s.send(request)
	if err != nil {
		return nil, err
	}
	for _, cookie := range (&http.Response{Header: header}).Cookies() {
		if cookie.Name == nonceCookie {
			s.cookie = cookie.Value
		}
	}
	return readChallenge(answer)
}

// readChallenge reads the body of a nonce answer. One that asks for nothing
// that this client knows is an error: there would be nothing to answer it with.
func readChallenge(body []byte) (*Challenge, error) {
	var answer nonceAnswer
	decoder := json.NewDecoder(bytes.NewReader(body))
	if err := decoder.Decode(&answer); err != nil {
		return nil, fmt.Errorf("reading the server's nonce: %w", err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, errors.New("the server's nonce has something behind it")
	}
	if len(answer.Nonce) > 64 { // what a TPM takes as qualifying data
		return nil, fmt.Errorf("the server's nonce has %d bytes, and a TPM takes 64", len(answer.Nonce))
	}
	c := &Challenge{Nonce: answer.Nonce, Expiry: time.Duration(min(max(answer.Expiry, 0), 86400)) * time.Second}
	if answer.RespTypeInfo.Type == "" {
		c.Certify = true // the least that evidence can be
		return c, nil
	}
	if answer.RespTypeInfo.Type != typeTPMAnswer {
		return nil, fmt.Errorf("the server asks for evidence of a type %q, which this agent does not know", printable(answer.RespTypeInfo.Type))
	}
	about := &answer.RespTypeInfo.RespInfo
	c.Certify, c.EventLog = about.Certify, about.EventLog
	c.CredentialBlob, c.EncryptedSecret = about.Activation.CredentialBlob, about.Activation.EncryptedSecret
	if !about.Quote {
		return c, nil
	}
	if len(about.Selection) != 1 || len(about.Selection[0].Index) == 0 {
		return nil, fmt.Errorf("the server asks for a quote of %d PCR banks; one is what this agent can do", len(about.Selection))
	}
	c.Bank = strings.ToLower(strings.TrimPrefix(printable(about.Selection[0].HashAlgo), "TPM_ALG_"))
	c.PCRs = about.Selection[0].Index
	return c, nil
}

// Appraisal is what the server makes of evidence between renewals.
type Appraisal struct {
	Decision string   `json:"decision"` // id of the recorded decision
	Verdict  string   `json:"verdict"`  // affirming, warning or none
	Reasons  []string `json:"reasons"`  // what a person should know nevertheless
}

// Attest hands in evidence between renewals: the DER of an AttestationBundle
// about the client certificate's key, to the nonce asked for last.
func (s *Session) Attest(ctx context.Context, evidence []byte) (*Appraisal, error) {
	server, _, _ := strings.Cut(s.base, "/.well-known/")
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, server+"/v1/devices/self/attestations",
		strings.NewReader(base64.StdEncoding.EncodeToString(evidence)))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/octet-stream")
	request.Header.Set("Content-Transfer-Encoding", "base64")
	_, body, err := s.send(request)
	if err != nil {
		return nil, err
	}
	var a Appraisal
	if err := json.Unmarshal(body, &a); err != nil {
		return nil, fmt.Errorf("reading the server's appraisal: %w", err)
	}
	a.Decision, a.Verdict = printable(a.Decision), printable(a.Verdict)
	for i := range a.Reasons {
		a.Reasons[i] = printable(a.Reasons[i])
	}
	return &a, nil
}

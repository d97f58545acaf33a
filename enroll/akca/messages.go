package akca

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"

	"github.com/hallmark-pki/hallmark/attest/tpm"
	"github.com/hallmark-pki/hallmark/enroll"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

// Bounds of a request. An endorsement key's chain takes a few kilobytes.
const (
	maxRequest = 64 << 10 // bytes as sent
	maxEKCerts = 10
	secretSize = 32 // bytes of an opened secret
)

// attestRequest is the body of attest, with Go's JSON for bytes: padded base64
// (RFC 4648, Section 4). Members that are not here are passed over; what tpmInfo says of the
// TPM counts for nothing, since the TPM's certificate says it.
type attestRequest struct {
	Info struct {
		Version int `json:"version"` // 2 for TPM 2.0
	} `json:"tpmInfo"`
	EK      []byte   `json:"ek"`      // SubjectPublicKeyInfo
	EKCerts [][]byte `json:"ekCerts"` // DER, leaf first
	Params  struct {
		Public      []byte `json:"public"`                  // TPMT_PUBLIC of the attestation key
		TrouSerS    bool   `json:"useTCSDActivationFormat"` // of TPM 1.2
		Data        []byte `json:"createData"`              // TPMS_CREATION_DATA
		Attestation []byte `json:"createAttestation"`       // TPMS_ATTEST
		Signature   []byte `json:"createSignature"`         // TPMT_SIGNATURE
	} `json:"params"`
}

type attestAnswer struct {
	Credential []byte `json:"credential"` // TPM2B_ID_OBJECT
	Secret     []byte `json:"secret"`     // TPM2B_ENCRYPTED_SECRET
}

type secretRequest struct {
	Secret []byte `json:"secret"` // opened
}

type secretAnswer struct {
	Chain [][]byte `json:"chain"` // DER: the attestation key's certificate first, then its issuers without the root
}

// attest introduces a TPM and its attestation key.
func (d *Door) attest(c *call) error {
	var m attestRequest
	if err := c.read(&m); err != nil {
		return err
	}
	r, err := m.request(c.request)
	if err != nil {
		return err
	}
	activation, err := d.Enroller.ChallengeAK(c.r.Context(), r)
	if err != nil {
		return err
	}
	return c.answer(attestAnswer{Credential: activation.CredentialBlob, Secret: activation.EncryptedSecret})
}

// request is the message as the walk takes it.
func (m *attestRequest) request(r enroll.Request) (enroll.AKRequest, error) {
	switch {
	case m.Info.Version != 0 && m.Info.Version != 2 || m.Params.TrouSerS:
		return enroll.AKRequest{}, malformed("only TPM 2.0 is served here", nil)
	case len(m.EK) == 0 || len(m.Params.Public) == 0:
		return enroll.AKRequest{}, malformed("ek and params.public are missing", nil)
	case len(m.EKCerts) > maxEKCerts:
		return enroll.AKRequest{}, malformed(fmt.Sprintf("ekCerts has more than %d certificates", maxEKCerts), nil)
	}
	p := &m.Params
	return enroll.AKRequest{Request: r, EK: m.EK, EKCerts: m.EKCerts, Key: tpm.Creation{
		Public: p.Public, Data: p.Data, Attestation: p.Attestation, Signature: p.Signature,
	}}, nil
}

// secret answers an opened secret with the certificate.
func (d *Door) secret(c *call) error {
	var m secretRequest
	if err := c.read(&m); err != nil {
		return err
	}
	if len(m.Secret) != secretSize {
		return malformed(fmt.Sprintf("secret has %d bytes; it has %d when the TPM has opened it", len(m.Secret), secretSize), nil)
	}
	certificate, err := d.Enroller.CertifyAK(c.r.Context(), c.request, m.Secret)
	if err != nil {
		return err
	}
	answer := secretAnswer{Chain: [][]byte{certificate.DER}}
	issuers := d.Chain()
	for _, issuer := range issuers[:len(issuers)-1] {
		answer.Chain = append(answer.Chain, issuer.Raw)
	}
	d.Log.LogAttrs(c.r.Context(), slog.LevelInfo, "attestation key certified",
		slog.String("request", c.id), slog.String("source", c.source),
		slog.String("device", certificate.Device), slog.String("serial", certificate.Serial))
	return c.answer(answer)
}

// read reads one JSON object. No media type is asked for: smallstep's client names none.
func (c *call) read(into any) error {
	if c.r.ContentLength > maxRequest {
		return errTooLarge
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxRequest))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return errTooLarge
	case err != nil:
		return fault.Wrap(fault.Malformed, "body_incomplete", "the request body did not arrive completely", err)
	}
	return parse(body, into)
}

// parse reads a body.
func parse(body []byte, into any) error {
	if err := json.Unmarshal(body, into); err != nil {
		return malformed("want one JSON object, with bytes in padded base64", err)
	}
	return nil
}

func malformed(says string, cause error) error {
	return fault.Wrap(fault.Malformed, "request_malformed", "the request cannot be read: "+says, cause)
}

// answer writes a success.
func (c *call) answer(v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("laying out an answer: %w", err)
	}
	c.write(http.StatusOK, "application/json", append(body, '\n'))
	return nil
}

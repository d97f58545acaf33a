package est

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hallmark-pki/hallmark/enroll"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

// typeFreshness is the media type of nonce requests and of their answers
// (draft-ietf-lamps-attestation-freshness).
const typeFreshness = "application/est-attestation-freshness+json"

// The type-specific parts of a nonce exchange about a TPM. No identifier is
// registered, so these are two of a UUID's arc (X.667).
const (
	typeTPMRequest = "2.25.197995676531165126923878663687273591694.1"
	typeTPMAnswer  = "2.25.197995676531165126923878663687273591694.2"
)

// Bounds of a nonce request. A chain of endorsement key certificates takes a few kilobytes.
const (
	maxNonceRequest = 32 << 10
	maxHashAlgs     = 16
	maxEKCerts      = 10
)

// Lengths of nonces, in bytes (draft-ietf-lamps-attestation-freshness).
const (
	minNonce = 8
	maxNonce = 64
)

// nonceRequest is the body of a POST. Unknown members are passed over.
type nonceRequest struct {
	Len         *int `json:"len"`
	ReqTypeInfo *struct {
		Type    string          `json:"type"`
		ReqInfo json.RawMessage `json:"reqInfo"`
	} `json:"reqTypeInfo"`
}

// tpmRequest is what a TPM's owner adds.
type tpmRequest struct {
	HashAlgs []string  `json:"hashAlgs"`
	AKPub    bytes64   `json:"akPub"`   // TPMT_PUBLIC
	EKCerts  []bytes64 `json:"ekCerts"` // DER, leaf first
	EKPub    bytes64   `json:"ekPub"`   // TPMT_PUBLIC
}

// nonceAnswer is the body of the answer.
type nonceAnswer struct {
	Nonce        string       `json:"nonce"`
	Expiry       int          `json:"expiry"` // seconds
	RespTypeInfo *typedAnswer `json:"respTypeInfo,omitempty"`
}

type typedAnswer struct {
	Type     string    `json:"type"`
	RespInfo tpmAnswer `json:"respInfo"`
}

// tpmAnswer says what evidence to bring; its PCR members are named as in RFC 9684.
type tpmAnswer struct {
	Selection  []pcrSelection `json:"tpm20-pcr-selection"`
	Quote      bool           `json:"quote"`
	EventLog   bool           `json:"eventLog"`
	Certify    bool           `json:"certify"`
	Activation *activation    `json:"activation,omitempty"`
}

type pcrSelection struct {
	HashAlgo string `json:"tpm20-hash-algo"`
	Index    []int  `json:"pcr-index"`
}

type activation struct {
	CredentialBlob  bytes64 `json:"credentialBlob"`  // TPM2B_ID_OBJECT
	EncryptedSecret bytes64 `json:"encryptedSecret"` // TPM2B_ENCRYPTED_SECRET
}

// bytes64 are bytes in base64url without padding.
type bytes64 []byte

// UnmarshalJSON reads a string of base64url without padding, and nothing else:
// not null, and no line breaks, which the decoder would skip.
func (b *bytes64) UnmarshalJSON(text []byte) error {
	var s *string
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	if s == nil || bytes.ContainsAny([]byte(*s), "\r\n") {
		return errors.New("want a string in base64url without padding")
	}
	var err error
	*b, err = base64.RawURLEncoding.Strict().DecodeString(*s)
	return err
}

// MarshalJSON writes the string.
func (b bytes64) MarshalJSON() ([]byte, error) {
	return []byte(`"` + base64.RawURLEncoding.EncodeToString(b) + `"`), nil
}

// parseNonceRequest reads a request into what is asked. foreign reports
// whether its type-specific part is of a type that is not ours, which was passed over. Errors
// are of kind Malformed.
func parseNonceRequest(body []byte, ask *enroll.Ask) (foreign bool, err error) {
	var r nonceRequest
	if !bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{")) {
		return false, malformedNonce("want one JSON object", nil)
	}
	if err := json.Unmarshal(body, &r); err != nil {
		return false, malformedNonce("want one JSON object as the attestation freshness draft has it", err)
	}
	if r.Len != nil {
		if ask.Length = *r.Len; ask.Length < minNonce || ask.Length > maxNonce {
			return false, malformedNonce(fmt.Sprintf("len is %d to %d bytes", minNonce, maxNonce), nil)
		}
	}
	if r.ReqTypeInfo == nil {
		return false, nil
	}
	if r.ReqTypeInfo.Type == "" {
		return false, malformedNonce("reqTypeInfo has no type", nil)
	}
	if r.ReqTypeInfo.Type != typeTPMRequest {
		return true, nil
	}
	return false, readTPMRequest(r.ReqTypeInfo.ReqInfo, ask)
}

func readTPMRequest(body []byte, ask *enroll.Ask) error {
	var t tpmRequest
	if len(body) == 0 {
		return malformedNonce("reqTypeInfo has no reqInfo", nil)
	}
	if err := json.Unmarshal(body, &t); err != nil {
		return malformedNonce("reqInfo has a member of the wrong form", err)
	}
	switch {
	case len(t.HashAlgs) > maxHashAlgs || len(t.EKCerts) > maxEKCerts:
		return malformedNonce(fmt.Sprintf("at most %d hashAlgs and %d ekCerts", maxHashAlgs, maxEKCerts), nil)
	case len(t.EKPub) > 0 && len(t.AKPub) == 0:
		return malformedNonce("ekPub asks for the activation of an attestation key: send akPub, too", nil)
	case len(t.EKCerts) > 0 && len(t.EKPub) == 0:
		return malformedNonce("ekCerts are of no use without ekPub: the certificate does not say how the key is used", nil)
	}
	ask.Hashes, ask.AKPublic, ask.EKPublic = t.HashAlgs, t.AKPub, t.EKPub
	for _, certificate := range t.EKCerts {
		ask.EKCerts = append(ask.EKCerts, certificate)
	}
	return nil
}

func malformedNonce(says string, cause error) error {
	return fault.Wrap(fault.Malformed, "nonce_malformed", "the nonce request cannot be read: "+says, cause)
}

// layOut is the body of an answer. One to a request of a foreign type holds a
// nonce and nothing about TPMs.
func layOut(a *enroll.Answer, foreign bool) ([]byte, error) {
	answer := nonceAnswer{Nonce: base64.RawURLEncoding.EncodeToString(a.Nonce), Expiry: seconds(a.Expiry)}
	if !foreign {
		answer.RespTypeInfo = &typedAnswer{Type: typeTPMAnswer, RespInfo: tpmAnswer{
			Selection: []pcrSelection{{HashAlgo: "TPM_ALG_" + strings.ToUpper(a.Bank), Index: a.PCRs}},
			Quote:     true, EventLog: true, Certify: true,
		}}
		if a.Activation != nil {
			answer.RespTypeInfo.RespInfo.Activation = &activation{a.Activation.CredentialBlob, a.Activation.EncryptedSecret}
		}
	}
	body, err := json.Marshal(answer)
	if err != nil {
		return nil, fmt.Errorf("laying out a nonce answer: %w", err)
	}
	return append(body, '\n'), nil
}

func seconds(d time.Duration) int { return int(d / time.Second) }

package est

import (
	"encoding/json"
	"log/slog"
	"net/http"

	"github.com/hallmark-pki/hallmark/enroll"
)

// selfPath is where a device shows its state between renewals. It is no path
// of EST's, but it takes what the nonce of EST's was given out for, from the same clients over
// the same connections, so it is served here.
const selfPath = "/v1/devices/self/attestations"

// appraisalAnswer is the body of the answer: what the evidence came to, and
// the decision that the record holds. What the device was held against it is not told.
type appraisalAnswer struct {
	Decision string   `json:"decision"`
	Verdict  string   `json:"verdict"` // affirming, warning or none
	Reasons  []string `json:"reasons"` // claims short of a refusal, such as clock_unsafe
}

// attest takes an AttestationBundle from a device that holds a certificate of
// ours, about that certificate's key. Errors are those of an enrolment.
func (d *Door) attest(c *call) error {
	request := enroll.Request{
		Door: "est", Operation: enroll.Attest, Proof: proofOf(c.r), Challenge: challengeOf(c.r), Source: c.source, ID: c.id,
	}
	c.identity = identityOf(c.source, &request.Proof)
	if wait, ok := d.Limiter.Allow(c.source, c.identity); !ok {
		return tooMany(wait)
	}
	if len(request.Proof.Chain) == 0 {
		return errNoCertificate
	}
	der, err := c.readBundle()
	if err != nil {
		return err
	}
	appraisal, err := d.Enroller.Attest(c.r.Context(), request, der)
	if err != nil {
		return err
	}
	answer := appraisalAnswer{Decision: appraisal.Decision, Verdict: appraisal.Verdict.String(), Reasons: []string{}}
	for _, r := range appraisal.Reasons {
		answer.Reasons = append(answer.Reasons, string(r))
	}
	body, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	d.Log.LogAttrs(c.r.Context(), slog.LevelInfo, "attested", slog.String("request", c.id), slog.String("source", c.source),
		slog.String("ref", appraisal.Decision), slog.String("verdict", answer.Verdict))
	c.write(http.StatusOK, "application/json", append(body, '\n'))
	return nil
}

// readBundle returns the DER of the body, which is base64 or DER as it is. Its
// first byte tells: a SEQUENCE starts with a character that base64 of one never starts with.
func (c *call) readBundle() ([]byte, error) {
	raw, err := c.readAll(MaxRequest)
	if err != nil || len(raw) > 0 && raw[0] == 0x30 {
		return raw, err
	}
	return decodeBody(raw)
}

package est

import (
	"fmt"
	"mime"
	"net/http"
	"strings"

	"github.com/hallmark-pki/hallmark/enroll"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

// nonceCookie is the cookie that a challenge travels in.
const nonceCookie = "estnonce"

// nonce gives out what evidence has to be fresh by. It takes the credential of
// the enrolment to come, and refuses as that would be refused.
func (d *Door) nonce(c *call) error {
	ask := enroll.Ask{Request: enroll.Request{
		Door: "est", Operation: enroll.Nonce, Profile: c.label, Proof: proofOf(c.r), Source: c.source, ID: c.id,
	}}
	if len(ask.Proof.Chain) == 0 && !ask.Proof.HasBasic {
		return errChallenge
	}
	c.identity = identityOf(c.source, &ask.Proof)
	if wait, ok := d.Limiter.Allow(c.source, c.identity); !ok {
		return tooMany(wait)
	}
	foreign := false
	if c.r.Method == http.MethodPost {
		body, err := c.readNonceRequest()
		if err != nil {
			return err
		}
		if foreign, err = parseNonceRequest(body, &ask); err != nil {
			return d.Enroller.TurnAway(c.r.Context(), ask.Request, err)
		}
	}
	answer, err := d.Enroller.Challenge(c.r.Context(), ask)
	if err != nil {
		return asTooMany(err)
	}
	remember(c.r.Context(), answer.Sealed)
	h := c.w.Header()
	h.Set("Set-Cookie", fmt.Sprintf("%s=%s; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=%d", nonceCookie, answer.Sealed, seconds(answer.Expiry)))
	h.Set("Cache-Control", "no-store")
	body, err := layOut(&answer, foreign)
	if err != nil {
		return err
	}
	c.write(http.StatusOK, typeFreshness, body)
	return nil
}

// readNonceRequest returns the JSON of a POST.
func (c *call) readNonceRequest() ([]byte, error) {
	kind, parameters, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if charset, ok := parameters["charset"]; err != nil || kind != typeFreshness || ok && !strings.EqualFold(charset, "utf-8") {
		return nil, errNotFreshness
	}
	return c.readAll(maxNonceRequest)
}

// asTooMany gives the refusal of a device that asks for nonces too often the
// status that HTTP has for it.
func asTooMany(err error) error {
	if f := fault.Of(err); f.Code == enroll.TooManyNonces {
		return &transport{fault: f, status: http.StatusTooManyRequests}
	}
	return err
}

// Package akca is the door where TPMs have their attestation keys certified. It
// speaks what smallstep's clients call an attestation CA (step, step-agent and everything on
// go.step.sm/crypto/tpm): two POSTs of JSON without a session between them,
//
//	{base}/attest   the TPM introduces itself and a key, and is given a secret to open
//	{base}/secret   the opened secret comes back, and the certificate is the answer
//
// with {base} at /attestation, or /attestation/LABEL for a profile. It decides nothing: the walk does.
package akca

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/hallmark-pki/hallmark/enroll"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/internal/limit"
)

// Door serves the attestation CA. Its fields are set before the first request and not changed after.
type Door struct {
	Enroller *enroll.Enroller
	Chain    func() []*x509.Certificate // the issuing authority first, the root last
	Log      *slog.Logger
	Limiter  *limit.Limiter                                      // of refusals, shared with the other doors; nil: no limits
	Observe  func(operation string, status int, d time.Duration) // told of each answer, for metrics; may be nil
}

// base is where the door stands.
const base = "/attestation/"

// Serves reports whether a URL path is for this door.
func Serves(path string) bool { return strings.HasPrefix(path, base) }

// call is one HTTP exchange.
type call struct {
	w         http.ResponseWriter
	r         *http.Request
	id        string // request id, in the log and in answers that have no decision to refer to
	source    string // the caller's IP address
	operation string // attest or secret, or "none"; safe as a metric's label
	request   enroll.Request
	status    int // what was answered
}

// ServeHTTP answers one request.
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	c := &call{w: w, r: r, id: newID(), source: sourceOf(r), operation: "none"}
	if err := d.survive(c); err != nil && c.status == 0 {
		d.refuse(c, err)
	}
	if d.Observe != nil {
		d.Observe(c.operation, c.status, time.Since(start))
	}
}

// survive turns a panic into an error, so that a bug costs one request and its
// caller still gets a reference to it.
func (d *Door) survive(c *call) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return d.serve(c)
}

// serve finds the operation and runs it. What it returns is answered by refuse.
func (d *Door) serve(c *call) error {
	if c.r.TLS == nil {
		return fault.New(fault.Denied, "tls_required", "attestation keys are certified over TLS only")
	}
	label, operation, run := d.find(c.r.URL.EscapedPath())
	if run == nil {
		return errNoSuchPath
	}
	c.operation = operation
	c.request = enroll.Request{Door: "akca", Profile: label, Source: c.source, ID: c.id}
	if _, err := d.Enroller.Profile(label); err != nil {
		return err
	}
	if c.r.Method != http.MethodPost {
		return errMethod
	}
	if wait, ok := d.Limiter.Allow(c.source, ""); !ok {
		return tooMany(wait)
	}
	return run(c)
}

// find takes a path apart. As it stands, or there is nothing there.
func (d *Door) find(path string) (label, operation string, run func(*call) error) {
	operation = strings.TrimPrefix(path, base)
	if before, after, two := strings.Cut(operation, "/"); two {
		label, operation = before, after
		if label == "" {
			return "", "", nil
		}
	}
	switch operation {
	case "attest":
		return label, operation, d.attest
	case "secret":
		return label, operation, d.secret
	}
	return "", "", nil
}

// sourceOf is the caller's IP address.
func sourceOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

func newID() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

package console

import (
	"net/http"

	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/internal/limit"
	"github.com/hallmark-pki/hallmark/operators"
)

// meet authenticates the caller of a route, unless they have been refused too
// often. A stranger answers for the address, too; operators answer for their
// certificate or session alone, so that nobody who shares an address with them, or with
// the proxy before them, can lock them out.
func (c *Console) meet(call *call, rt route) (err error) {
	source, identity := accountable(call.Request)
	if err := c.throttle(source, identity); err != nil { // before any signature of a chain is checked
		return err
	}
	prove := rt.proof
	if prove == nil {
		prove = (*Console).byCredential
	}
	call.caller, err = prove(c, call)
	switch {
	case err == nil:
		return nil
	case call.caller.Name() != "":
		return c.barred(call, rt.action, err)
	}
	if busy := c.throttle(callerIP(call.Request), identity); busy != nil {
		err = busy
	}
	return err
}

// throttle returns an error that says when to come back, if there were too many refusals.
func (c *Console) throttle(source, identity string) error {
	wait, ok := c.Limiter.Allow(source, identity)
	if ok {
		return nil
	}
	f := fault.New(fault.Busy, codeTooMany, "too many refused requests; wait before the next")
	f.After = wait
	return f
}

// settle ends every call of this door: it counts, and answers.
func (c *Console) settle(w http.ResponseWriter, r *http.Request, action string, caller operators.Caller, a answer, err error) {
	status, p := a.status, Problem{}
	if err != nil {
		p = problem(err, w.Header().Get(requestIDHeader))
		status = p.Status
	}
	c.charge(r, caller, status)
	if c.Observe != nil {
		c.Observe(action, status)
	}
	if err != nil {
		c.fail(w, r, p, err)
		return
	}
	c.write(w, r, a)
}

// charge counts a refusal: of a stranger whatever is the stranger's fault, of an
// operator what policy or the register denied. An operator's slip of the pen is none.
func (c *Console) charge(r *http.Request, caller operators.Caller, status int) {
	switch {
	case status < 400 || status >= 500 || status == http.StatusTooManyRequests:
	case caller.Name() == "":
		c.Limiter.Charge(callerIP(r), identityOf(r))
	case status == http.StatusForbidden, status == http.StatusUnauthorized:
		c.Limiter.Charge(accountable(r))
	}
}

// accountable is what answers for a call: the certificate or session, or the address of who brought none.
func accountable(r *http.Request) (source, identity string) {
	if identity = identityOf(r); identity == "" {
		source = callerIP(r)
	}
	return source, identity
}

// identityOf is the caller's certificate, or else session, as the limits know it; empty without either.
func identityOf(r *http.Request) string {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		if token, _ := sessionToken(r); operators.IsToken(token) {
			return limit.Session(token)
		}
		return ""
	}
	return limit.Certificate(r.TLS.PeerCertificates[0].Raw)
}

package console

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/operators"
	"github.com/hallmark-pki/hallmark/policy"
)

// longestName bounds an operator's name, as X.520 bounds a common name (ub-common-name).
const longestName = 64

// longestChain bounds the certificates that a caller presents.
const longestChain = 5

// byCertificate names the operator behind a connection. The TLS layer has seen
// proof of the private key, on this connection or the one that it resumes. What
// the certificate is worth is found out here, on every request, so that no
// connection outlives it; and the register has the last word, so that nobody outlives
// being thrown out.
func (c *Console) byCertificate(call *call) (operators.Caller, error) {
	leaf, err := c.operatorCertificate(call.TLS)
	if err != nil {
		return operators.Caller{}, err
	}
	return c.People.Identify(call.Context(), leaf)
}

// operatorCertificate is the certificate that the connection's peer has
// proven to hold, if it is one that the operators' authority has signed and that is valid now.
func (c *Console) operatorCertificate(state *tls.ConnectionState) (*x509.Certificate, error) {
	if state == nil || len(state.PeerCertificates) == 0 {
		return nil, fault.New(fault.Unauthenticated, "no_operator_certificate",
			"this API is for operators: present an operator certificate in the TLS handshake")
	}
	leaf := state.PeerCertificates[0]
	if len(state.PeerCertificates) > longestChain { // every link may cost a signature check
		return nil, fault.New(fault.Unauthenticated, "not_an_operator", "the certificate chain presented is too long")
	}
	between := x509.NewCertPool()
	for _, cert := range state.PeerCertificates[1:] {
		between.AddCert(cert)
	}
	// Only the operators' own authority is a root here: a device certificate or a
	// factory certificate has no path to it, whatever its names are.
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots:         c.Operators,
		Intermediates: between,
		CurrentTime:   c.Now(),
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return nil, fault.Wrap(fault.Unauthenticated, "not_an_operator",
			"the certificate presented is not a valid operator certificate of this server", err)
	}
	// Verify takes a certificate without the extension as good for every use.
	if !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth) || leaf.IsCA {
		return nil, fault.New(fault.Unauthenticated, "not_an_operator",
			"the certificate presented is not one for client authentication")
	}
	name := leaf.Subject.CommonName
	if name == "" || checkText("name", name, longestName) != nil {
		return nil, fault.New(fault.Unauthenticated, "not_an_operator",
			"the certificate presented does not name an operator in its common name")
	}
	return leaf, nil
}

// barred puts on the record that somebody came whom the register knows and
// does not let in any more, and returns the refusal.
func (c *Console) barred(call *call, action policy.Action, cause error) error {
	refusal := fault.Of(cause)
	if refusal.Kind != fault.Denied && refusal.Kind != fault.Unauthenticated {
		return cause
	}
	subject := call.caller.Subject()
	return policy.Refuse(call.Context(), c.Policy, policy.Request{
		Subject: subject, Action: action, Resource: policy.Entity{Type: "operator", ID: subject.ID},
		Context: call.caller.Context(), At: call.at, Source: callerIP(call.Request), RequestID: call.requestID,
	}, refusal)
}

// attend cuts a long transfer short when its caller is barred meanwhile, and
// ends the work that is done for them. The function that it returns ends that.
func (c *Console) attend(w http.ResponseWriter, call *call) (done func()) {
	ctx, cancel := context.WithCancel(call.Context())
	work, stop := context.WithCancel(ctx)
	call.Request = call.WithContext(work)
	var watch sync.WaitGroup
	watch.Go(func() {
		for c.People.Barred(ctx, call.caller) { // again each second: the transfer may have been given its time only now
			stop()
			control, past := http.NewResponseController(w), time.Unix(1, 0)
			_ = control.SetReadDeadline(past) // a connection that cannot be told ends with the transfer
			_ = control.SetWriteDeadline(past)
		}
	})
	return func() {
		cancel()
		watch.Wait()
	}
}

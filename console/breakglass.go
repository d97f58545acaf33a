package console

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"net/http"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/operators"
	"github.com/hallmark-pki/hallmark/policy"
)

// newSeal is the body of POST /breakglass: a certification request (PKCS #10,
// PEM) over the key that was cut in two. Only the key is taken from it.
type newSeal struct {
	CSR string `json:"csr"`
}

// opening is the body of POST /breakglass/open: the same over the key put
// together again, which proves that somebody holds it, and why.
type opening struct {
	CSR    string `json:"csr"`
	Reason string `json:"reason"`

	seal string // its id, once it is known
}

// openedSeal answers it.
type openedSeal struct {
	operators.Operator
	Certificate string `json:"certificate"` // PEM
}

func (c *Console) sealBreakglass(call *call) (deed, error) {
	var body newSeal
	if err := call.decode(&body, false); err != nil {
		return deed{}, err
	}
	csr, err := readCSR(body.CSR)
	if err != nil {
		return deed{}, err
	}
	id := audit.NewID(call.at).String()
	return deed{
		made:     true,
		resource: policy.Entity{Type: "breakglass", ID: id},
		do: func(ctx context.Context, p policy.Permit) (answer, error) {
			seal, err := c.People.Seal(ctx, p, id, csr.PublicKey)
			return answer{status: http.StatusCreated, value: seal}, err
		},
	}, nil
}

// byHalves names the caller who holds both halves of a sealed key. A
// certificate is not asked for: that there is none left is what break-glass is for.
func (c *Console) byHalves(call *call) (operators.Caller, error) {
	call.opening = &opening{}
	if err := call.decode(call.opening, false); err != nil {
		return operators.Caller{}, err
	}
	csr, err := readCSR(call.opening.CSR)
	if err != nil {
		return operators.Caller{}, err
	}
	caller, seal, err := c.People.Unseal(call.Context(), csr.PublicKey, call.opening.Reason)
	call.opening.seal = seal
	return caller, err
}

func (c *Console) openBreakglass(call *call) (deed, error) {
	return deed{
		resource:   policy.Entity{Type: "breakglass", ID: call.opening.seal},
		parameters: policy.Properties{"reason": call.opening.Reason},
		do: func(ctx context.Context, p policy.Permit) (answer, error) {
			made, signed, err := c.People.Open(ctx, p, call.caller)
			if err != nil {
				return answer{}, err
			}
			return ok(openedSeal{made, pemText(signed)}), nil
		},
	}, nil
}

// readCSR reads a certification request in PEM.
func readCSR(text string) (*ca.CSR, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE REQUEST" || len(rest) > 0 {
		return nil, fault.New(fault.Malformed, "csr_malformed", "csr is one certification request (PKCS #10) in PEM")
	}
	return ca.ParseCSR(block.Bytes)
}

// pemText is a certificate in PEM.
func pemText(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

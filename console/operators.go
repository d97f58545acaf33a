package console

import (
	"context"
	"crypto"
	"crypto/x509"

	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/operators"
	"github.com/hallmark-pki/hallmark/policy"
)

// newOperator is the body of POST /operators.
type newOperator struct {
	Name  string           `json:"name"`
	Roles []operators.Role `json:"roles"`
	OIDC  string           `json:"oidc_subject,omitempty"` // at the identity provider; may be empty
	Email string           `json:"oidc_email,omitempty"`   // there, until the first sign-in; may be empty
	CSR   string           `json:"csr,omitempty"`          // PKCS #10 in PEM, over the operator's key; nothing but the key is taken from it. May be empty for who signs in there
}

// certifiedOperator answers it: the entry, and the certificate in PEM, if a key was sent.
type certifiedOperator struct {
	operators.Operator
	Certificate string `json:"certificate,omitempty"`
}

func (c *Console) addOperator(call *call) (deed, error) {
	var body newOperator
	if err := call.decode(&body, false); err != nil {
		return deed{}, err
	}
	o := operators.Operator{Name: body.Name, Roles: body.Roles, Binding: operators.Binding{Subject: body.OIDC, Email: body.Email}}
	var key crypto.PublicKey
	if body.CSR != "" || !o.Bound() {
		csr, err := readCSR(body.CSR)
		if err != nil {
			return deed{}, err
		}
		key = csr.PublicKey
	}
	if err := o.Check(); err != nil {
		return deed{}, err
	}
	parameters := operators.Describe(body.Roles)
	if o.Bound() {
		parameters["oidc_subject"], parameters["oidc_email"] = body.OIDC, body.Email
	}
	return deed{
		resource:   policy.Entity{Type: "operator", ID: body.Name, Properties: policy.Properties{}},
		parameters: parameters,
		do: func(ctx context.Context, p policy.Permit) (answer, error) {
			made, signed, err := c.People.Add(ctx, p, o, key)
			if err != nil {
				return answer{}, err
			}
			shown := certifiedOperator{Operator: made}
			if signed != nil {
				shown.Certificate = pemText(signed)
			}
			return created("/api/v1/operators/"+made.Name, shown), nil
		},
	}, nil
}

func (c *Console) listOperators(call *call) (deed, error) {
	page, err := call.page()
	if err != nil {
		return deed{}, err
	}
	state := call.query("state")
	filter := operators.Filter{State: operators.State(state), After: page.cursor, Limit: page.ask()}
	return deed{
		resource:   policy.Entity{Type: "operator"},
		parameters: policy.Properties{"state": state},
		do: func(ctx context.Context, p policy.Permit) (answer, error) {
			found, err := c.People.List(ctx, p, filter)
			if err != nil {
				return answer{}, err
			}
			return listOf(page, found, func(o operators.Operator) string { return o.Name }, same), nil
		},
	}, nil
}

func (c *Console) showOperator(call *call) (deed, error) {
	return call.about("operator", "name", func(ctx context.Context, p policy.Permit, name string) (answer, error) {
		found, err := c.People.Show(ctx, p, name)
		return ok(found), err
	})
}

// newRoles is the body of PUT /operators/{name}/roles.
type newRoles struct {
	Roles []operators.Role `json:"roles"`
}

func (c *Console) assignOperator(call *call) (deed, error) {
	name, err := call.name("name")
	if err != nil {
		return deed{}, err
	}
	var body newRoles
	if err := call.decode(&body, false); err != nil {
		return deed{}, err
	}
	return deed{
		resource:   policy.Entity{Type: "operator", ID: name},
		parameters: operators.Describe(body.Roles),
		do: func(ctx context.Context, p policy.Permit) (answer, error) {
			return done(), c.People.Assign(ctx, p, name, body.Roles)
		},
	}, nil
}

func (c *Console) suspendOperator(call *call) (deed, error) {
	return call.uponOperator(c.People.Suspend)
}

func (c *Console) resumeOperator(call *call) (deed, error) {
	return call.uponOperator(c.People.Resume)
}

func (c *Console) removeOperator(call *call) (deed, error) {
	return call.uponOperator(c.People.Remove)
}

// uponOperator is a deed upon an operator, with a reason for it.
func (call *call) uponOperator(do func(ctx context.Context, p policy.Permit, name, reason string) error) (deed, error) {
	name, err := call.name("name")
	if err != nil {
		return deed{}, err
	}
	var body reasoned
	if err := call.decode(&body, true); err != nil {
		return deed{}, err
	}
	return deed{
		resource:   policy.Entity{Type: "operator", ID: name},
		parameters: policy.Properties{"reason": body.Reason},
		do: func(ctx context.Context, p policy.Permit) (answer, error) {
			return done(), do(ctx, p, name, body.Reason)
		},
	}, checkText("reason", body.Reason, maxReason)
}

// operatorRevocation is the body of POST /operators/{name}/revoke. One of serial and all is set.
type operatorRevocation struct {
	Serial string `json:"serial,omitempty"` // lower-case hex
	All    bool   `json:"all,omitempty"`
	Reason string `json:"reason,omitempty"`
}

func (c *Console) revokeOperator(call *call) (deed, error) {
	name, err := call.name("name")
	if err != nil {
		return deed{}, err
	}
	var body operatorRevocation
	if err := call.decode(&body, false); err != nil {
		return deed{}, err
	}
	if (body.Serial == "") != body.All {
		return deed{}, fault.New(fault.Malformed, "bad_field", "say either the serial of one certificate, or all")
	}
	for field, value := range map[string]string{"serial": body.Serial, "reason": body.Reason} {
		if err := checkText(field, value, maxReason); err != nil {
			return deed{}, err
		}
	}
	return deed{
		resource:   policy.Entity{Type: "operator", ID: name},
		parameters: policy.Properties{"serial": body.Serial, "reason": body.Reason},
		do: func(ctx context.Context, p policy.Permit) (answer, error) {
			return done(), c.People.Revoke(ctx, p, name, body.Serial, body.Reason)
		},
	}, nil
}

// request is the body of the calls that get another certificate.
type request struct {
	CSR string `json:"csr"` // PKCS #10 in PEM
}

// issuedOperator answers them.
type issuedOperator struct {
	Name        string `json:"name"`
	Certificate string `json:"certificate"` // PEM
}

func (c *Console) certifyOperator(call *call) (deed, error) {
	return call.certifying(func(ctx context.Context, p policy.Permit, name string, key crypto.PublicKey) (*x509.Certificate, error) {
		return c.People.Certify(ctx, p, name, key)
	})
}

func (c *Console) renewOperator(call *call) (deed, error) {
	return call.certifying(func(ctx context.Context, p policy.Permit, _ string, key crypto.PublicKey) (*x509.Certificate, error) {
		return c.People.Renew(ctx, p, call.caller, key)
	})
}

// certifying is a deed that certifies another key of an operator.
func (call *call) certifying(do func(ctx context.Context, p policy.Permit, name string, key crypto.PublicKey) (*x509.Certificate, error)) (deed, error) {
	name, err := call.name("name")
	if err != nil {
		return deed{}, err
	}
	var body request
	if err := call.decode(&body, false); err != nil {
		return deed{}, err
	}
	csr, err := readCSR(body.CSR)
	if err != nil {
		return deed{}, err
	}
	return deed{
		resource: policy.Entity{Type: "operator", ID: name},
		do: func(ctx context.Context, p policy.Permit) (answer, error) {
			signed, err := do(ctx, p, name, csr.PublicKey)
			if err != nil {
				return answer{}, err
			}
			return ok(issuedOperator{name, pemText(signed)}), nil
		},
	}, nil
}

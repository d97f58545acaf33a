package console

import (
	"context"
	"time"

	"github.com/hallmark-pki/hallmark/audit"
	"github.com/hallmark-pki/hallmark/enroll"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// newToken is the body of POST /tokens. All of it is optional.
type newToken struct {
	Device  string `json:"device,omitempty"`  // only for this device; empty: for any that is registered
	Profile string `json:"profile,omitempty"` // only under this profile; empty: any
	Uses    *int   `json:"uses,omitempty"`    // how many certificates it is good for. Default 1
	TTL     string `json:"ttl,omitempty"`     // how long it lives, such as 24h or 7d. Default 24h
}

// issuedToken is the answer to it, and the only place where the secret is ever seen.
type issuedToken struct {
	enroll.Token
	Secret string `json:"token"`
}

const defaultTTL = 24 * time.Hour

func (c *Console) createToken(call *call) (deed, error) {
	var body newToken
	if err := call.decode(&body, true); err != nil {
		return deed{}, err
	}
	token := enroll.Token{ID: audit.NewID(call.at).String(), Device: body.Device, Profile: body.Profile, Uses: 1}
	if body.Uses != nil {
		token.Uses = *body.Uses
	}
	ttl := defaultTTL
	if body.TTL != "" {
		var err error
		if ttl, err = parseSpan("ttl", body.TTL); err != nil {
			return deed{}, err
		}
	}
	for field, value := range map[string]string{"device": token.Device, "profile": token.Profile} {
		if err := checkText(field, value, maxName); err != nil {
			return deed{}, err
		}
	}
	token.Expires = call.at.Add(ttl).UTC().Truncate(time.Second)
	return deed{
		made:     true,
		resource: policy.Entity{Type: "token", ID: token.ID},
		parameters: policy.Properties{
			"device": token.Device, "profile": token.Profile, "uses": token.Uses, "ttl_s": int64(ttl / time.Second),
		},
		do: func(ctx context.Context, p policy.Permit) (answer, error) {
			secret, made, err := c.Tokens.Create(ctx, p, token)
			if err != nil {
				return answer{}, err
			}
			made.Created = made.Created.UTC().Truncate(time.Millisecond) // as it is kept
			return created("/api/v1/tokens/"+made.ID, issuedToken{made, secret}), nil
		},
	}, nil
}

func (c *Console) listTokens(call *call) (deed, error) {
	page, err := call.page()
	if err != nil {
		return deed{}, err
	}
	filter := enroll.TokenFilter{Device: call.query("device"), Before: page.cursor, Limit: page.ask()}
	return deed{
		resource:   policy.Entity{Type: "token"},
		parameters: policy.Properties{"device": filter.Device},
		do: func(ctx context.Context, p policy.Permit) (answer, error) {
			tokens, err := c.Tokens.List(ctx, p, filter)
			if err != nil {
				return answer{}, err
			}
			return listOf(page, tokens, func(t enroll.Token) string { return t.ID }, same), nil
		},
	}, nil
}

func (c *Console) showToken(call *call) (deed, error) {
	return call.about("token", "id", func(ctx context.Context, p policy.Permit, id string) (answer, error) {
		tokens, err := c.Tokens.List(ctx, p, enroll.TokenFilter{ID: id, Limit: 1})
		if err != nil {
			return answer{}, err
		}
		if len(tokens) == 0 {
			return answer{}, fault.New(fault.NotFound, "token_unknown", "no token has this id")
		}
		return ok(tokens[0]), nil
	})
}

func (c *Console) revokeToken(call *call) (deed, error) {
	return call.about("token", "id", func(ctx context.Context, p policy.Permit, id string) (answer, error) {
		return done(), c.Tokens.Revoke(ctx, p, id)
	})
}

package enroll

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// Bounds of a token.
const (
	MaxTokenUses = 1_000_000
	MaxTokenTTL  = 366 * 24 * time.Hour
)

// tokenPrefix marks our tokens, so that secret scanners can find stray ones.
const tokenPrefix = "hmt_"

// Tokens are the enrolment tokens as the walk and the operators use them.
type Tokens struct {
	Store TokenStore
	Now   func() time.Time
}

// Create makes a token with the ID, Device, Profile, Uses and Expires of t and
// returns its secret, which is shown this once: the store keeps only its
// SHA-256. The permit must be for the token's ID.
func (t *Tokens) Create(ctx context.Context, p policy.Permit, token Token) (string, Token, error) {
	now := t.Now()
	switch {
	case token.Device != "" && fleet.CheckID(token.Device) != nil:
		return "", Token{}, fault.New(fault.Malformed, "device_id", fleet.CheckID(token.Device).Error())
	case token.Uses < 1 || token.Uses > MaxTokenUses:
		return "", Token{}, fault.New(fault.Malformed, "token_uses", fmt.Sprintf("a token has 1 to %d uses", MaxTokenUses))
	case !token.Expires.After(now) || token.Expires.After(now.Add(MaxTokenTTL)):
		return "", Token{}, fault.New(fault.Malformed, "token_ttl", "a token lives for more than nothing and at most 366 days")
	}
	var raw [20]byte // 160 bits: nobody guesses it, so a plain hash protects it
	rand.Read(raw[:])
	secret := tokenPrefix + base64.RawURLEncoding.EncodeToString(raw[:])
	token.Hash = sha256.Sum256([]byte(secret))
	token.Created, token.By, token.Used, token.Revoked = now, p.Actor(), 0, false
	event, err := p.Redeem(policy.CreateToken, token.ID, policy.Properties{"token": map[string]any{
		"device": token.Device, "profile": token.Profile, "uses": token.Uses, "expires": token.Expires.UTC().Format(time.RFC3339),
	}})
	if err != nil {
		return "", Token{}, err
	}
	return secret, token, t.Store.CreateToken(ctx, token, event)
}

// List returns the tokens that the filter selects, without their secrets.
func (t *Tokens) List(ctx context.Context, p policy.Permit, f TokenFilter) ([]Token, error) {
	if err := p.Covers(policy.ListTokens, ""); err != nil {
		return nil, err
	}
	return t.Store.Tokens(ctx, f)
}

// Find returns one token without its secret, or an error of kind NotFound. It
// is for asking policy about it, and answers no operator.
func (t *Tokens) Find(ctx context.Context, id string) (Token, error) {
	found, err := t.Store.Tokens(ctx, TokenFilter{ID: id, Limit: 1})
	if err == nil && len(found) == 0 {
		err = fault.New(fault.NotFound, "token_unknown", "no token has this id")
	}
	if err != nil {
		return Token{}, err
	}
	return found[0], nil
}

// Revoke ends a token.
func (t *Tokens) Revoke(ctx context.Context, p policy.Permit, id string) error {
	event, err := p.Redeem(policy.RevokeToken, id, policy.Properties{})
	if err != nil {
		return err
	}
	return t.Store.RevokeToken(ctx, id, event)
}

// find returns the token behind a secret, and the device that it is for: its
// own, or else the one named; nil if there is none in the register.
func (t *Tokens) find(ctx context.Context, secret, named string) (Token, *fleet.Device, error) {
	token, device, err := t.Store.TokenByHash(ctx, sha256.Sum256([]byte(secret)), named)
	if fault.Is(err, fault.NotFound) {
		err = fault.New(fault.Unauthenticated, "token_unknown", "no such enrolment token; check that it was copied whole")
	}
	return token, device, err
}

// check returns why the token cannot be used now by this user under this profile.
func (t *Token) check(profile, user string, now time.Time) error {
	switch {
	case t.Revoked:
		return fault.New(fault.Denied, "token_revoked", "the enrolment token was revoked")
	case !now.Before(t.Expires):
		return fault.New(fault.Denied, "token_expired", "the enrolment token has expired")
	case t.Used >= t.Uses:
		return fault.New(fault.Denied, "token_used", "the enrolment token has been used as often as it is good for")
	case t.Profile != "" && t.Profile != profile:
		return fault.New(fault.Denied, "token_profile", "the enrolment token is for another profile")
	case t.Device != "" && user != "" && user != t.Device:
		return fault.New(fault.Denied, "token_device", "the enrolment token is for another device than the user name says")
	case t.Device == "" && user == "":
		return fault.New(fault.Unauthenticated, "device_unnamed", "the enrolment token names no device: send the device id as user name")
	case t.Device == "" && fleet.CheckID(user) != nil:
		return fault.New(fault.Denied, "device_unknown", "the user name cannot be a device id")
	}
	return nil
}

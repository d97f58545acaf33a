package enroll

import (
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/internal/fault"
)

// A token says no in the order in which a technician would look.
func TestTokenCheck(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	sound := Token{Uses: 2, Used: 1, Expires: now.Add(time.Second)}
	bound := sound
	bound.Device, bound.Profile = "gw-1", "device"
	with := func(t Token, change func(*Token)) Token { change(&t); return t }
	for name, story := range map[string]struct {
		token         Token
		profile, user string
		kind          fault.Kind
		code          string // empty: passes
	}{
		"for anybody, who is named":       {sound, "device", "gw-1", 0, ""},
		"for anybody, nobody is named":    {sound, "device", "", fault.Unauthenticated, "device_unnamed"},
		"for anybody, named impossibly":   {sound, "device", "a b", fault.Denied, "device_unknown"},
		"for this one, unnamed":           {bound, "device", "", 0, ""},
		"for this one, named":             {bound, "device", "gw-1", 0, ""},
		"for another":                     {bound, "device", "gw-2", fault.Denied, "token_device"},
		"for another in another case":     {bound, "device", "GW-1", fault.Denied, "token_device"},
		"for another profile":             {bound, "long", "gw-1", fault.Denied, "token_profile"},
		"used up":                         {with(sound, func(t *Token) { t.Used = 2 }), "device", "gw-1", fault.Denied, "token_used"},
		"over this very moment":           {with(sound, func(t *Token) { t.Expires = now }), "device", "gw-1", fault.Denied, "token_expired"},
		"revoked":                         {with(sound, func(t *Token) { t.Revoked = true }), "device", "gw-1", fault.Denied, "token_revoked"},
		"the zero token is good for none": {Token{}, "device", "gw-1", fault.Denied, "token_expired"},
	} {
		t.Run(name, func(t *testing.T) {
			err := story.token.check(story.profile, story.user, now)
			if story.code == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if f := fault.Of(err); err == nil || f.Kind != story.kind || f.Code != story.code {
				t.Errorf("got %v, want %s %s", err, story.kind, story.code)
			}
		})
	}
}

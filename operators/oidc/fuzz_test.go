package oidc

import (
	"context"
	"testing"
	"time"
)

// FuzzUnseal: what browsers and command lines bring back is ours or nothing.
func FuzzUnseal(f *testing.F) {
	p, err := New(Config{Issuer: "https://id.test", ClientID: "c", Callback: callback, Secret: func(context.Context) ([]byte, error) { return make([]byte, 32), nil }})
	if err != nil {
		f.Fatal(err)
	}
	own := attempt{Errand: Errand{Next: "/"}, State: "s", Nonce: "n", Verifier: "v", Until: time.Unix(1, 0).UTC()}
	sealed, err := p.seal(f.Context(), "attempt", own)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		var a attempt
		if p.unseal(t.Context(), "attempt", text, &a) && a != own {
			t.Errorf("%q was unsealed as %+v", text, a)
		}
	})
}

// FuzzBounds: what is repeated of a provider's words is short and printable.
func FuzzBounds(f *testing.F) {
	f.Add("access_denied")
	f.Add("a\x00b\xff")
	f.Fuzz(func(t *testing.T, text string) {
		if out := bounds(text); len(out) > 210 || !printable(out) {
			t.Errorf("%q became %q", text, out)
		}
	})
}

package tpm

import (
	"sync"
	"testing"
)

// Chains are verified side by side, while the operator's files are read anew.
func TestTrustIsSharedByRequests(t *testing.T) {
	s, public := newShop(t, "Maker"), rsaKey(t).Public()
	trust, leaf := trusting(ekAnchors, s.root), s.ek(public, nil)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 20 {
				if i == 0 {
					trust.Dossier.Store(&Dossier{})
				}
				if ek, _, _, err := trust.EK(t.Context(), "factory", public, [][]byte{leaf, s.intermediate.Raw}, noon); err != nil || !ek.Trusted {
					t.Error(ek, err)
				}
			}
		})
	}
	all.Wait()
}

package enroll

import (
	"crypto/subtle"
	"strings"

	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

// checkLinking holds the channel binding in a CSR against those of the
// connection it came over: where a client includes it, it has to match (RFC
// 7030, Section 3.5). It stands in challengePassword or, by RFC 7894, Section
// 3.3, in estIdentityLinking.
func checkLinking(csr *ca.CSR, bindings []string, required bool) error {
	linked := false
	for _, claimed := range []string{csr.Challenge, csr.Linking} {
		if claimed == "" {
			continue
		}
		if !holds(claimed, bindings) {
			return fault.New(fault.Malformed, "linking_failed", "identity/PoP linking failed: the challengePassword in the CSR is not the channel binding of this connection")
		}
		linked = true
	}
	if required && !linked {
		return fault.New(fault.Malformed, "linking_missing", "identity/PoP linking failed: this profile needs the channel binding as challengePassword in the CSR")
	}
	return nil
}

// holds compares in constant time with each binding.
func holds(claimed string, bindings []string) bool {
	claimed = strings.Map(dropSpace, claimed)
	matched := 0
	for _, b := range bindings {
		matched |= subtle.ConstantTimeCompare([]byte(claimed), []byte(b))
	}
	return matched == 1
}

func dropSpace(r rune) rune {
	if r == ' ' || r == '\t' || r == '\r' || r == '\n' {
		return -1
	}
	return r
}

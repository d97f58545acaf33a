package enroll

import (
	"crypto/subtle"
	"strings"

	"github.com/hallmark-pki/hallmark/internal/fault"
)

// checkLinking holds the channel binding in a CSR against those of the
// connection it came over: "If the client included the value it MUST match"
// (RFC 7030, Section 3.5). claimed is empty if the CSR carries none.
func checkLinking(claimed string, bindings []string, required bool) error {
	claimed = strings.Map(dropSpace, claimed)
	if claimed == "" {
		if required {
			return fault.New(fault.Malformed, "linking_missing", "identity/PoP linking failed: this profile needs the channel binding as challengePassword in the CSR")
		}
		return nil
	}
	matched := 0
	for _, b := range bindings {
		matched |= subtle.ConstantTimeCompare([]byte(claimed), []byte(b))
	}
	if matched != 1 {
		return fault.New(fault.Malformed, "linking_failed", "identity/PoP linking failed: the challengePassword in the CSR is not the channel binding of this connection")
	}
	return nil
}

func dropSpace(r rune) rune {
	if r == ' ' || r == '\t' || r == '\r' || r == '\n' {
		return -1
	}
	return r
}

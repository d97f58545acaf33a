//go:build !cgo || !pkcs11

package keys_test

import (
	"strings"
	"testing"

	"github.com/hallmark-pki/hallmark/ca/keys"
)

// TestNoPKCS11 has the static build say which build can do what it cannot.
func TestNoPKCS11(t *testing.T) {
	const uri = "pkcs11:token=x?pin-value=s3cret"
	_, opening := keys.Ring{}.Open(t.Context(), uri)
	_, creating := keys.Ring{}.Create(t.Context(), uri, keys.P256)
	for _, err := range []error{opening, creating} {
		if err == nil || !strings.Contains(err.Error(), "-tags pkcs11") || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("got %v", err)
		}
	}
}

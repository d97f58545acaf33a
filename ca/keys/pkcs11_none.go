//go:build !cgo || !pkcs11

package keys

import (
	"context"
	"crypto"
	"errors"
)

// errNoPKCS11 tells which build has what this one lacks.
var errNoPKCS11 = errors.New("pkcs11: keys need a build with CGO_ENABLED=1 and -tags pkcs11; this one is static")

func openPKCS11(context.Context, string) (crypto.Signer, error) { return nil, errNoPKCS11 }

func createPKCS11(context.Context, string, Algorithm) (crypto.Signer, error) {
	return nil, errNoPKCS11
}

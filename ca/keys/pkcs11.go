//go:build cgo && pkcs11

package keys

import (
	"context"
	"crypto"
	"fmt"

	"go.step.sm/crypto/kms/apiv1"
	"go.step.sm/crypto/kms/pkcs11"
)

// openPKCS11 returns a signer over a key in a token. The session lives as long
// as the process, as its keys do.
func openPKCS11(ctx context.Context, uri string) (crypto.Signer, error) {
	token, err := pkcs11.New(ctx, apiv1.Options{URI: uri})
	if err != nil {
		return nil, fmt.Errorf("opening the PKCS#11 token: %w", err)
	}
	signer, err := token.CreateSigner(&apiv1.CreateSignerRequest{SigningKey: uri})
	if err != nil {
		return nil, fmt.Errorf("finding the key in the PKCS#11 token: %w", err)
	}
	return signer, nil
}

// createPKCS11 makes a key inside the token that never leaves it.
func createPKCS11(ctx context.Context, uri string, a Algorithm) (crypto.Signer, error) {
	request, err := a.request()
	if err != nil {
		return nil, err
	}
	token, err := pkcs11.New(ctx, apiv1.Options{URI: uri})
	if err != nil {
		return nil, fmt.Errorf("opening the PKCS#11 token: %w", err)
	}
	request.Name = uri
	if _, err := token.CreateKey(request); err != nil {
		return nil, fmt.Errorf("creating a %s key in the PKCS#11 token: %w", a, err)
	}
	return openPKCS11(ctx, uri)
}

package forge

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rsa"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/crypto/cryptobyte"
)

// errIntegrity is what a TPM says to a credential that is for another TPM, or
// for another attestation key (TPM_RC_INTEGRITY).
var errIntegrity = errors.New("forge: the credential is not for these keys")

// Activate is TPM2_ActivateCredential with t.EK and t.AK: it opens what
// TPM2_MakeCredential encrypted. Both arguments have their sizes before them.
func (t *TPM) Activate(credentialBlob, encryptedSecret []byte) ([]byte, error) {
	var object, secret, mac cryptobyte.String
	blob, sealed := cryptobyte.String(credentialBlob), cryptobyte.String(encryptedSecret)
	if !blob.ReadUint16LengthPrefixed(&object) || !blob.Empty() || !sealed.ReadUint16LengthPrefixed(&secret) || !sealed.Empty() || !object.ReadUint16LengthPrefixed(&mac) {
		return nil, errors.New("forge: the credential cannot be read")
	}
	seed, err := t.EK.decapsulate(secret)
	if err != nil {
		return nil, err
	}
	hash := hashes[t.EK.Area.NameAlg]
	name := t.AK.Area.Name()
	h := hmac.New(hash.New, tpm2.KDFa(hash, seed, "INTEGRITY", nil, nil, hash.Size()*8))
	h.Write(object)
	h.Write(name)
	if !hmac.Equal(h.Sum(nil), mac) {
		return nil, errIntegrity
	}
	block, err := aes.NewCipher(tpm2.KDFa(hash, seed, "STORAGE", name, nil, int(t.EK.Area.SymBits)))
	if err != nil {
		return nil, fmt.Errorf("forge: %w", err)
	}
	plain := make([]byte, len(object))
	//lint:ignore SA1019 TPMs protect credentials in this mode, under an HMAC (TPM 2.0 Library, Part 1, "Credential Protection")
	cipher.NewCFBDecrypter(block, make([]byte, block.BlockSize())).XORKeyStream(plain, object)
	in := cryptobyte.String(plain)
	var credential cryptobyte.String
	if !in.ReadUint16LengthPrefixed(&credential) || !in.Empty() {
		return nil, errIntegrity
	}
	return bytes.Clone(credential), nil
}

// decapsulate finds the seed that a credential is protected with.
func (k *Key) decapsulate(secret []byte) ([]byte, error) {
	hash := hashes[k.Area.NameAlg]
	switch private := k.Private.(type) {
	case *rsa.PrivateKey:
		seed, err := rsa.DecryptOAEP(hash.New(), nil, private, secret, []byte("IDENTITY\x00"))
		if err != nil {
			return nil, errIntegrity
		}
		return seed, nil
	case *ecdsa.PrivateKey:
		in := cryptobyte.String(secret)
		var x, y cryptobyte.String
		if !in.ReadUint16LengthPrefixed(&x) || !in.ReadUint16LengthPrefixed(&y) {
			return nil, errIntegrity
		}
		own, err := private.ECDH()
		if err != nil {
			return nil, fmt.Errorf("forge: %w", err)
		}
		other, err := own.Curve().NewPublicKey(append(append([]byte{4}, x...), y...))
		if err != nil {
			return nil, errIntegrity
		}
		z, err := own.ECDH(other)
		if err != nil {
			return nil, errIntegrity
		}
		return tpm2.KDFe(hash, z, "IDENTITY", x, k.Area.X, hash.Size()*8), nil
	}
	return nil, errKind(fmt.Sprintf("%T", k.Private))
}

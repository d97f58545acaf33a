package tpmdevice

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// ErrActivation means that a challenge was not made for this TPM's endorsement
// key and that attestation key.
var ErrActivation = errors.New("the server's challenge is for another endorsement key or another attestation key")

// Activate recovers the secret of a credential that was made for the
// endorsement key of an algorithm and for ak: TPM2B_ID_OBJECT and
// TPM2B_ENCRYPTED_SECRET, both with their sizes. The TPM does so only if it holds both keys.
func (t *TPM) Activate(ak *Key, ek Algorithm, credentialBlob, encryptedSecret []byte) (secret []byte, err error) {
	blob, err := unmarshal[tpm2.TPM2BIDObject](credentialBlob)
	if err != nil {
		return nil, fmt.Errorf("the server's challenge cannot be read: %w", err)
	}
	encrypted, err := unmarshal[tpm2.TPM2BEncryptedSecret](encryptedSecret)
	if err != nil {
		return nil, fmt.Errorf("the server's challenge cannot be read: %w", err)
	}
	kind, err := (*visit)(nil).chooseEndorsement(ek)
	if err != nil {
		return nil, err
	}
	return secret, t.visit(func(v *visit) error {
		akHandle, err := v.load(ak)
		if err != nil {
			return err
		}
		ekHandle, _, err := v.endorsementKey(kind)
		if err != nil {
			return err
		}
		if ekHandle.Auth, err = v.endorsementPolicy(); err != nil {
			return err
		}
		answer, err := tpm2.ActivateCredential{ActivateHandle: akHandle, KeyHandle: ekHandle, CredentialBlob: *blob, Secret: *encrypted}.Execute(v)
		if v.isWrongCredential(err, ak) {
			return fmt.Errorf("%w (%v)", ErrActivation, err)
		}
		if err != nil {
			return fmt.Errorf("activating a credential: %w", err)
		}
		secret = answer.CertInfo.Buffer
		return nil
	})
}

// isWrongCredential tells a challenge for other keys from a TPM in trouble. One
// for another endorsement key does not decrypt (value, size, and of some TPMs
// failure, which they also answer once they are broken); one for another
// attestation key has another integrity.
func (v *visit) isWrongCredential(err error, ak *Key) bool {
	for _, code := range []tpm2.TPMRC{tpm2.TPMRCValue, tpm2.TPMRCSize, tpm2.TPMRCInsufficient, tpm2.TPMRCIntegrity} {
		if errors.Is(err, code) {
			return true
		}
	}
	if !errors.Is(err, tpm2.TPMRCFailure) {
		return false
	}
	_, broken := v.load(ak)
	return broken == nil
}

// endorsementPolicy is the session that the endorsement key's template asks
// for: TPM2_PolicySecret with the endorsement hierarchy.
func (v *visit) endorsementPolicy() (tpm2.Session, error) {
	session, _, err := tpm2.PolicySession(v, tpm2.TPMAlgSHA256, 16)
	if err != nil {
		return nil, fmt.Errorf("opening a session: %w", err)
	}
	v.loaded = append(v.loaded, session.Handle())
	_, err = tpm2.PolicySecret{
		AuthHandle:    tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)},
		PolicySession: session.Handle(), NonceTPM: session.NonceTPM(),
	}.Execute(v)
	if err != nil {
		return nil, fmt.Errorf("authorising the endorsement key: %w", hierarchy("endorsement", err))
	}
	return session, nil
}

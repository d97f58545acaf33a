package main

import (
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"

	"github.com/hallmark-pki/hallmark/internal/estclient"
	"github.com/hallmark-pki/hallmark/internal/tpmdevice"
	"github.com/spf13/cobra"
)

// tpmState is how the device uses its TPM. It stands in state.json.
type tpmState struct {
	Address  string              `json:"address"`
	EventLog string              `json:"event_log,omitempty"` // file; empty for where the kernel shows it
	EK       tpmdevice.Algorithm `json:"ek,omitempty"`        // of the endorsement key that activates
	NoEKCert bool                `json:"no_ek_cert,omitempty"`
	AKCert   string              `json:"ak_cert,omitempty"` // PEM, with its chain
}

// tpmFlags are what a first use of the TPM can be told. Later commands know
// it from state.json, and take what has changed.
type tpmFlags struct {
	address, eventLog, akCert, akType, ek string
	akHandle                              uint32
	noEKCert                              bool
}

func (f *tpmFlags) addPlace(c *cobra.Command) {
	c.Flags().StringVar(&f.address, "tpm", "", "`address` of the TPM: a device such as /dev/tpmrm0, swtpm:HOST:PORT, or swtpm:/path/to/socket")
	c.Flags().StringVar(&f.eventLog, "event-log", "", "`file` with the firmware's event log; not needed where the kernel shows it")
}

func (f *tpmFlags) add(c *cobra.Command) {
	f.addPlace(c)
	flags := c.Flags()
	flags.StringVar(&f.akCert, "ak-cert", "", "PEM `file` with a certificate of the attestation key and its chain, which then vouches for it")
	flags.StringVar(&f.akType, "ak-type", string(tpmdevice.P256), "type of the attestation key: p256, p384, rsa2048")
	flags.Uint32Var(&f.akHandle, "ak-handle", 0, "persistent `handle` of the attestation key, such as 0x81010020; one that is not there is made there")
	flags.StringVar(&f.ek, "ek", "", "which endorsement key vouches: rsa2048 or p256; by default the one with a certificate")
	flags.BoolVar(&f.noEKCert, "no-ek-cert", false, "do not show the endorsement key's certificate; the register has to list the key (ek_sha256)")
}

// check refuses flags that cannot be meant.
func (f *tpmFlags) check() error {
	if f.address == "" {
		for name, given := range map[string]bool{"--event-log": f.eventLog != "", "--ak-cert": f.akCert != "", "--ak-handle": f.akHandle != 0,
			"--ek": f.ek != "", "--no-ek-cert": f.noEKCert} {
			if given {
				return usagef("%s is about a TPM: give --tpm, too", name)
			}
		}
		return nil
	}
	switch {
	case f.ek != "" && f.ek != string(tpmdevice.RSA2048) && f.ek != string(tpmdevice.P256):
		return usagef("unknown endorsement key %q: want rsa2048 or p256", f.ek)
	case f.akType != string(tpmdevice.P256) && f.akType != string(tpmdevice.P384) && f.akType != string(tpmdevice.RSA2048):
		return usagef("unknown type of attestation key %q: want p256, p384 or rsa2048", f.akType)
	}
	if _, err := tpmdevice.At(f.address); err != nil {
		return &usageError{err}
	}
	return nil
}

// attestor brings evidence of a TPM along with a request.
type attestor struct {
	tpm    *tpmdevice.TPM
	ak     *tpmdevice.Key
	state  *tpmState
	pinned bool // the server knows the attestation key from before
}

// attestor opens the TPM for a first enrolment. The attestation key is the one
// that the folder knows, if that is still one of this TPM, or a new one.
func (f *tpmFlags) attestor(to folder) (*attestor, error) {
	t, err := tpmdevice.Open(f.address)
	if err != nil {
		return nil, err
	}
	a := &attestor{tpm: t, state: &tpmState{Address: f.address, EventLog: f.eventLog, EK: tpmdevice.Algorithm(f.ek), NoEKCert: f.noEKCert}}
	if f.akCert != "" {
		certificates, err := readCertificates(f.akCert)
		if err != nil {
			return nil, err
		}
		a.state.AKCert = string(encodeCertificates(certificates...))
	}
	a.ak, err = f.attestationKey(t, to)
	return a, err
}

func (f *tpmFlags) attestationKey(t *tpmdevice.TPM, to folder) (*tpmdevice.Key, error) {
	if f.akHandle != 0 {
		return f.persistentKey(t, to)
	}
	known, err := to.attestationKey(t)
	if err == nil {
		if err = known.Check(); err == nil && known.Algorithm() == tpmdevice.Algorithm(f.akType) {
			return known, nil
		}
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, tpmdevice.ErrForeignKey) {
		return nil, err
	}
	made, err := t.CreateAK(tpmdevice.Algorithm(f.akType))
	if err != nil {
		return nil, fmt.Errorf("making the attestation key: %w", err)
	}
	return made, to.saveAttestationKey(made)
}

func (f *tpmFlags) persistentKey(t *tpmdevice.TPM, to folder) (*tpmdevice.Key, error) {
	there, err := t.KeyAt(f.akHandle)
	if errors.Is(err, tpmdevice.ErrAbsent) {
		var made *tpmdevice.Key
		if made, err = t.CreateAK(tpmdevice.Algorithm(f.akType)); err == nil {
			there, err = made.Persist(f.akHandle)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("attestation key: %w", err)
	}
	return there, to.saveAttestationKey(there)
}

// attestorOf is the one of a device that has enrolled with its TPM, nil if it has not.
func (f folder) attestorOf(s *tpmState) (*attestor, error) {
	if s == nil {
		return nil, nil
	}
	t, err := tpmdevice.Open(s.Address)
	if err != nil {
		return nil, err
	}
	ak, err := f.attestationKey(t)
	if err != nil {
		return nil, fmt.Errorf("the attestation key: %w", err)
	}
	return &attestor{tpm: t, ak: ak, state: s, pinned: true}, nil
}

// evidence asks the server what to prove, and proves it of key: the DER of an AttestationBundle.
func (a *attestor) evidence(ctx context.Context, s *estclient.Session, key *tpmdevice.Key) ([]byte, error) {
	ask, ek, err := a.freshness()
	if err != nil {
		return nil, err
	}
	challenge, err := s.Nonce(ctx, ask)
	if err != nil {
		return nil, err
	}
	answer := tpmdevice.Ask{ExtraData: challenge.Nonce, Bank: challenge.Bank, PCRs: challenge.PCRs}
	if challenge.Certify {
		answer.Key = key
	}
	if challenge.CredentialBlob != nil && ek != nil {
		secret, err := a.tpm.Activate(a.ak, ek.Algorithm, challenge.CredentialBlob, challenge.EncryptedSecret)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(append(challenge.Nonce, secret...))
		answer.ExtraData = sum[:]
	}
	if challenge.EventLog {
		if answer.EventLog, err = a.tpm.EventLog(a.state.EventLog); err != nil {
			return nil, err
		}
	}
	if a.state.AKCert != "" {
		chain, err := parseCertificates([]byte(a.state.AKCert))
		if err != nil {
			return nil, fmt.Errorf("certificate of the attestation key: %w", err)
		}
		answer.Certs = rawOf(chain)
	}
	return a.tpm.Evidence(a.ak, answer)
}

// freshness says who is to vouch for the attestation key: its certificate, the
// server's memory of it, or else the endorsement key, which is then returned.
func (a *attestor) freshness() (f estclient.Freshness, ek *tpmdevice.EK, err error) {
	if f.Banks, err = a.tpm.Banks(); err != nil || a.state.AKCert != "" {
		return f, nil, err
	}
	f.AKPublic = a.ak.Area()
	if a.pinned {
		return f, nil, nil
	}
	if ek, err = a.tpm.EK(a.state.EK); err != nil {
		return f, nil, err
	}
	a.state.EK = ek.Algorithm // a certificate that comes later must not change which TPM this is
	f.EKPublic = ek.Area
	if !a.state.NoEKCert {
		f.EKCerts = ek.Certificates
	}
	return f, ek, nil
}

// forgotten reports whether the server does not know the attestation key any
// more, and takes note: the endorsement key vouches from now on.
func (a *attestor) forgotten(err error) bool {
	var refusal *estclient.Error
	if a == nil || !a.pinned || a.state.AKCert != "" || !errors.As(err, &refusal) || refusal.Code != "ak_untrusted" {
		return false
	}
	a.pinned = false
	return true
}

// tpmKey is key if it lives in the TPM.
func tpmKey(key crypto.Signer) *tpmdevice.Key {
	k, _ := key.(*tpmdevice.Key)
	return k
}

package tpm_test

import (
	"crypto/x509"
	"errors"
	"testing"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/attest/tpm"
	"github.com/hallmark-pki/hallmark/internal/forge"
	"github.com/hallmark-pki/hallmark/internal/swtpm"
	"github.com/hallmark-pki/hallmark/internal/tpmdevice"
)

// machine is a device with a TPM of libtpms, and the verifier that trusts its maker.
type machine struct {
	*world
	power  *swtpm.TPM
	device *tpmdevice.TPM
	key    *tpmdevice.Key
}

func newMachine(t *testing.T, maker *swtpm.Maker) *machine {
	t.Helper()
	m := &machine{world: newWorld(t, "p256", "p256", "p256"), power: maker.TPM(t, swtpm.Options{ECC: true})}
	m.Trust = &tpm.Trust{Anchors: anchors{"ek": {maker.Issuer(t)}}}
	m.device = must[*tpmdevice.TPM](t)(tpmdevice.Open(m.power.Address()))
	m.key = must[*tpmdevice.Key](t)(m.device.CreateKey(tpmdevice.P256))
	return m
}

// attest goes through an exchange and returns what came of it. With an endorsement key
// there is an activation.
func (m *machine) attest(t *testing.T, ak *tpmdevice.Key, ek *tpmdevice.EK) (attest.Result, error) {
	t.Helper()
	q := m.question
	q.AKPublic = ak.Area()
	if ek != nil {
		q.EKPublic, q.EKCerts = ek.Area, ek.Certificates
	}
	c, activation, err := m.Challenge(t.Context(), q)
	if err != nil {
		return attest.Result{}, err
	}
	extra := c.Nonce
	if activation != nil {
		secret, err := m.device.Activate(ak, ek.Algorithm, activation.CredentialBlob, activation.EncryptedSecret)
		if err != nil {
			return attest.Result{}, err
		}
		extra = forge.ExtraData(c.Nonce, secret)
	}
	der, err := m.device.Evidence(ak, tpmdevice.Ask{ExtraData: extra, Key: m.key, Bank: c.Bank, PCRs: c.PCRs})
	if err != nil {
		return attest.Result{}, err
	}
	spki := must[[]byte](t)(x509.MarshalPKIXPublicKey(m.key.Public()))
	e, err := attest.ParseEvidence(der)
	if err != nil {
		return attest.Result{}, err
	}
	return m.Verify(t.Context(), e, attest.Binding{SPKI: spki, Challenge: c, Profile: q.Profile, Device: q.Device, Bond: q.Bond})
}

// TestRealTPM goes through every kind of endorsement key, attestation key and
// bank with a TPM that others wrote.
func TestRealTPM(t *testing.T) {
	m := newMachine(t, swtpm.NewMaker(t))
	for _, kind := range []tpmdevice.Algorithm{tpmdevice.RSA2048, tpmdevice.P256} {
		ek := must[*tpmdevice.EK](t)(m.device.EK(kind))
		for _, algorithm := range []tpmdevice.Algorithm{tpmdevice.P256, tpmdevice.P384, tpmdevice.RSA2048} {
			ak := must[*tpmdevice.Key](t)(m.device.CreateAK(algorithm))
			for _, bank := range []string{"sha256", "sha384"} {
				m.question.Bank = bank
				r, err := m.attest(t, ak, ek)
				if err != nil || r.Case != attest.CaseActivation || !r.EK.Trusted || !r.Attested() || len(r.PCR.Values) != len(registers) {
					t.Errorf("endorsement key %s, attestation key %s, bank %s: case %s, %+v, %v", kind, algorithm, bank, r.Case, r.EK, err)
				}
			}
		}
	}
}

// TestRealClock: a TPM that was restarted goes on, one that was put back to an
// earlier state is told.
func TestRealClock(t *testing.T) {
	m := newMachine(t, swtpm.NewMaker(t))
	ak := must[*tpmdevice.Key](t)(m.device.CreateAK(tpmdevice.P256))
	ek := must[*tpmdevice.EK](t)(m.device.EK(tpmdevice.P256))
	restore := m.power.Snapshot()
	for restarts := range 3 {
		r, err := m.attest(t, ak, ek)
		if err != nil || restarts > 0 && r.Case != attest.CasePinned {
			t.Fatalf("after %d restarts: case %s, %v", restarts, r.Case, err)
		}
		m.question.Bond, ek = new(r.Next("gw-1", [32]byte{}, m.question.Bond)), nil
		m.power.Restart()
	}
	restore()
	_, err := m.attest(t, ak, ek)
	refused(t, err, attest.ClockRollback)
	_, err = m.attest(t, must[*tpmdevice.Key](t)(m.device.CreateAK(tpmdevice.RSA2048)), must[*tpmdevice.EK](t)(m.device.EK(tpmdevice.P256)))
	refused(t, err, attest.ClockRollback) // another attestation key makes it no better
}

// TestRealThieves: one TPM cannot answer for another.
func TestRealThieves(t *testing.T) {
	maker := swtpm.NewMaker(t)
	victim, thief := newMachine(t, maker), newMachine(t, maker)
	ek := must[*tpmdevice.EK](t)(victim.device.EK(tpmdevice.RSA2048))
	own := must[*tpmdevice.EK](t)(thief.device.EK(tpmdevice.RSA2048))
	ak := must[*tpmdevice.Key](t)(thief.device.CreateAK(tpmdevice.P256))
	if _, err := thief.attest(t, ak, ek); !errors.Is(err, tpmdevice.ErrActivation) {
		t.Errorf("a credential for another endorsement key: %v", err)
	}
	thief.question.Bond = &attest.Bond{Device: "gw-1", EK: ek.SHA256()}
	_, err := thief.attest(t, ak, own)
	refused(t, err, attest.EKMismatch)
	thief.question.Bond = nil
	r, err := thief.attest(t, ak, own)
	if err != nil || r.EK.SHA256 != own.SHA256() {
		t.Fatalf("by its own endorsement key: %v", err)
	}
	thief.question.Bond = new(r.Next("gw-1", [32]byte{}, nil))
	_, err = victim.attest(t, must[*tpmdevice.Key](t)(victim.device.CreateAK(tpmdevice.P256)), nil)
	refused(t, err, attest.AKUntrusted)
}

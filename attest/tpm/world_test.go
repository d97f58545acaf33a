package tpm_test

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/attest/tpm"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/internal/forge"
)

// anchors trusts certificates by their kind, whatever the profile.
type anchors map[string][]*x509.Certificate

func (a anchors) Roots(_ context.Context, _, kind string) ([]*x509.Certificate, error) {
	return a[kind], nil
}

// registers are those that a world asks for.
var registers = []int{0, 1, 2, 3, 4, 5, 6, 7, 9, 14}

// world is a verifier that trusts one maker and one issuer of attestation keys,
// and a device with a TPM.
type world struct {
	*tpm.Verifier
	maker, issuer *forge.Authority
	tpm           *forge.TPM
	question      tpm.Question
	terms         attest.Terms
}

var model = forge.Model{Manufacturer: "id:494E5443", Model: "SPT", Version: "id:00020008"}

func newWorld(t testing.TB, ek, ak, key string) *world {
	t.Helper()
	w := &world{maker: authority(t, "Maker of TPMs"), issuer: authority(t, "Issuer of attestation keys")}
	device, err := forge.New(ek, ak, key)
	if err != nil {
		t.Fatal(err)
	}
	w.tpm = device
	device.Extend(4, []byte("boot loader"))
	w.Verifier = &tpm.Verifier{
		Trust: &tpm.Trust{Anchors: anchors{"ek": {w.maker.Certificate}, "ak": {w.issuer.Certificate}}},
		Now:   time.Now,
	}
	w.question = tpm.Question{Profile: "factory", Bank: "sha256", PCRs: registers, Device: attest.Identity{ID: "gw-1", Serial: "SN-1"}}
	return w
}

func authority(t testing.TB, name string) *forge.Authority {
	t.Helper()
	a, err := forge.NewAuthority(name)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func spkiSHA256(k *forge.Key) string {
	sum := sha256.Sum256(k.SPKI())
	return hex.EncodeToString(sum[:])
}

// bondOf is what a device that attested before with this TPM leaves behind.
func bondOf(d *forge.TPM) *attest.Bond {
	return &attest.Bond{
		Device: "gw-1", EK: spkiSHA256(d.EK), AK: spkiSHA256(d.AK), AKName: d.AK.Area.Name(), AKPublic: d.AK.Area.Bytes(),
		Clock: attest.Clock{Clock: d.Clock.Clock, Reset: d.Clock.Reset, Restart: d.Clock.Restart},
	}
}

// ask asks as the case wants it: C with a certificate of the endorsement key, E
// without, B for a pinned key, A with nothing named.
func (w *world) ask(t testing.TB, how attest.Case) (attest.Challenge, *tpm.Activation, error) {
	t.Helper()
	q := w.question
	if how != attest.CaseCertificate && q.AKPublic == nil {
		q.AKPublic = w.tpm.AK.Area.Bytes()
	}
	if (how == attest.CaseActivation || how == attest.CaseRegistered) && q.EKPublic == nil {
		q.EKPublic = w.tpm.EK.Area.Bytes()
	}
	if how == attest.CaseActivation && q.EKCerts == nil {
		q.EKCerts = [][]byte{must[[]byte](t)(w.maker.EK(w.tpm, model))}
	}
	return w.Challenge(t.Context(), q)
}

// exchange is one exchange as it goes between an honest device and its server.
type exchange struct {
	*world
	how       attest.Case
	challenge attest.Challenge
	extra     []byte // what the device knows to put into its statements
	bundle    *forge.Bundle
}

// begin goes as far as an honest bundle that is not sent yet.
func (w *world) begin(t testing.TB, how attest.Case) *exchange {
	t.Helper()
	if how == attest.CasePinned && w.question.Bond == nil {
		w.question.Bond = bondOf(w.tpm)
	}
	if how == attest.CaseRegistered && w.question.Device.EKSHA256 == "" {
		w.question.Device.EKSHA256 = spkiSHA256(w.tpm.EK)
	}
	c, activation, err := w.ask(t, how)
	if err != nil {
		t.Fatal(err)
	}
	x := &exchange{world: w, how: how, challenge: c, extra: c.Nonce}
	if activation != nil {
		secret, err := w.tpm.Activate(activation.CredentialBlob, activation.EncryptedSecret)
		if err != nil {
			t.Fatal(err)
		}
		x.extra = forge.ExtraData(c.Nonce, secret)
	}
	x.bundle = must[*forge.Bundle](t)(w.tpm.Evidence(x.extra, w.question.Bank, w.question.PCRs))
	if how == attest.CaseCertificate {
		x.bundle.Certs = [][]byte{must[[]byte](t)(w.issuer.AK(w.tpm, "gw-1", ""))}
	}
	return x
}

// send parses and verifies the bundle.
func (x *exchange) send(t testing.TB) (attest.Result, error) {
	t.Helper()
	e, err := attest.ParseEvidence(x.bundle.DER())
	if err != nil {
		return attest.Result{}, err
	}
	return x.Verify(t.Context(), e, x.binding())
}

func (x *exchange) binding() attest.Binding {
	return attest.Binding{
		SPKI: x.tpm.Key.SPKI(), Challenge: x.challenge, Profile: x.question.Profile, Terms: x.terms,
		Device: x.question.Device, Bond: x.question.Bond,
	}
}

// refused wants an error with a reason as its code.
func refused(t testing.TB, err error, want attest.Reason) {
	t.Helper()
	if err == nil {
		t.Errorf("accepted, want %s", want)
		return
	}
	got := fault.Of(err)
	kind := fault.Denied
	if want == attest.MalformedEvidence {
		kind = fault.Malformed
	}
	if got.Code != string(want) || got.Kind != kind || len(got.Says) < 20 {
		t.Errorf("refused with %s %q: %v; want %s", got.Kind, got.Code, err, want)
	}
}

package tpm_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/attest/tpm"
	"github.com/hallmark-pki/hallmark/internal/forge"
)

// TestCases lets honest devices through, by every way of vouching for the
// attestation key, with every kind of key, and reads what was proven.
func TestCases(t *testing.T) {
	kinds := [][3]string{{"rsa", "p256", "p256"}, {"p256", "rsa", "rsa"}, {"p384", "p384", "p384"}}
	for _, kind := range kinds {
		w := newWorld(t, kind[0], kind[1], kind[2])
		for _, how := range []attest.Case{attest.CaseCertificate, attest.CasePinned, attest.CaseActivation, attest.CaseRegistered} {
			w.question.Bond, w.question.Device.EKSHA256 = nil, ""
			x := w.begin(t, how)
			r, err := x.send(t)
			if err != nil {
				t.Errorf("%v by case %s: %v", kind, how, err)
				continue
			}
			if r.Case != how || !r.Attested() || !r.Key.Fixed || !r.Fresh || r.Verdict != attest.None || len(r.Reasons) > 0 {
				t.Errorf("%v by case %s: %+v", kind, how, r)
			}
			if r.AK.SHA256 != spkiSHA256(w.tpm.AK) || !bytes.Equal(r.Key.Name, w.tpm.Key.Area.Name()) {
				t.Errorf("%v by case %s: the keys are not those of the TPM", kind, how)
			}
			if len(r.PCR.Values) != len(registers) || !bytes.Equal(r.PCR.Values[4], w.tpm.PCR("sha256", 4)) || r.Clock.Reset != 2 || !r.Clock.Safe {
				t.Errorf("%v by case %s: the registers or the clock are not those of the TPM", kind, how)
			}
			if ek := how != attest.CaseCertificate; ek && (r.EK.SHA256 != spkiSHA256(w.tpm.EK) || !r.EK.Trusted) {
				t.Errorf("%v by case %s: endorsement key %+v", kind, how, r.EK)
			}
		}
	}
}

// TestPinnedWithoutNaming needs no akPub in the exchange: the bond says which key.
func TestPinnedWithoutNaming(t *testing.T) {
	w := newWorld(t, "p256", "p256", "p256")
	w.question.Bond = bondOf(w.tpm)
	x := w.begin(t, attest.CaseCertificate)
	x.bundle.Certs = nil
	r, err := x.send(t)
	if err != nil || r.Case != attest.CasePinned || r.EK.SHA256 != w.question.Bond.EK {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestSizedForms takes the four structures with the size before them that a TPM2B has.
func TestSizedForms(t *testing.T) {
	w := newWorld(t, "rsa", "rsa", "p256")
	w.question.AKPublic, w.question.EKPublic = forge.Sized(w.tpm.AK.Area.Bytes()), forge.Sized(w.tpm.EK.Area.Bytes())
	x := w.begin(t, attest.CaseActivation)
	for _, s := range []*forge.Statement{x.bundle.Certify, x.bundle.Quote} {
		s.Attest, s.Signature = forge.Sized(s.Attest), forge.Sized(s.Signature)
	}
	x.bundle.Certify.Third = forge.Sized(x.bundle.Certify.Third)
	if r, err := x.send(t); err != nil || !r.Attested() {
		t.Error(err)
	}
}

// TestSHA384Bank quotes the other bank, under a signature with SHA-256.
func TestSHA384Bank(t *testing.T) {
	w := newWorld(t, "p256", "p256", "p256")
	w.question.Bank = "sha384"
	r, err := w.begin(t, attest.CaseActivation).send(t)
	if err != nil || r.PCR.Bank != "sha384" || len(r.PCR.Values[4]) != 48 || len(r.PCR.Digest) != 32 {
		t.Errorf("%+v, %v", r.PCR, err)
	}
}

// TestWithoutQuote certifies alone, where the profile asks for no registers.
func TestWithoutQuote(t *testing.T) {
	w := newWorld(t, "p256", "p256", "p256")
	w.question.PCRs = nil
	r, err := w.begin(t, attest.CaseActivation).send(t)
	if err != nil || !r.Fresh || r.PCR.Bank != "" || r.Clock.Reset != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	x := w.begin(t, attest.CaseActivation)
	x.bundle.Certify = must[*forge.Statement](t)(w.tpm.Certify([]byte{0, 0xff, 0x55, 0xaa}).SignedBy(w.tpm.AK))
	x.bundle.Certify.Third = w.tpm.Key.Area.Bytes()
	_, err = x.send(t)
	refused(t, err, attest.CertifyStale)
	x = w.begin(t, attest.CaseActivation)
	x.bundle.Quote = must[*forge.Statement](t)(w.tpm.Quote(x.extra, "sha256", nil).SignedBy(w.tpm.AK))
	if r, err := x.send(t); err != nil || r.PCR.Bank != "" {
		t.Errorf("a quote of nothing, as asked: %v", err)
	}
}

// TestLogWithoutQuote: a log that no quote stands behind says nothing.
func TestLogWithoutQuote(t *testing.T) {
	w := newWorld(t, "p256", "p256", "p256")
	w.question.PCRs, w.terms.EventLog = nil, true
	x := w.begin(t, attest.CaseActivation)
	log := &forge.EventLog{}
	log.Boot(w.tpm, "Firmware 1.0", true, "shim 15.8", "linux 6.12")
	x.bundle.EventLog = log.Bytes()
	r, err := x.send(t)
	if err != nil || r.Boot.LogReplayed || r.Boot.SecureBoot != nil {
		t.Errorf("%+v, %v", r.Boot, err)
	}
}

// TestToolsConstant accepts what tpm2_certify makes beside a fresh quote, unless
// the profile wants better.
func TestToolsConstant(t *testing.T) {
	for _, strict := range []bool{false, true} {
		w := newWorld(t, "p256", "p256", "p256")
		w.terms.CertifyFresh = strict
		x := w.begin(t, attest.CaseActivation)
		x.bundle.Certify = must[*forge.Statement](t)(w.tpm.Certify([]byte{0, 0xff, 0x55, 0xaa}).SignedBy(w.tpm.AK))
		x.bundle.Certify.Third = w.tpm.Key.Area.Bytes()
		if r, err := x.send(t); strict {
			refused(t, err, attest.CertifyStale)
		} else if err != nil || !r.Fresh {
			t.Errorf("%+v, %v", r, err)
		}
	}
}

// TestClaims are what a rule has to judge: they refuse nothing.
func TestClaims(t *testing.T) {
	w := newWorld(t, "p256", "p256", "p256")
	w.tpm.Clock.Safe = false
	r, err := w.begin(t, attest.CaseActivation).send(t)
	if err != nil || !slices.Equal(r.Reasons, []attest.Reason{attest.ClockUnsafe}) || r.Clock.Safe {
		t.Errorf("an unsafe clock: %v, %v", r.Reasons, err)
	}
	w.tpm.Clock.Safe = true
	w.question.EKCerts = [][]byte{must[[]byte](t)(authority(t, "Nobody knows").EK(w.tpm, model))}
	r, err = w.begin(t, attest.CaseActivation).send(t)
	if err != nil || !slices.Equal(r.Reasons, []attest.Reason{attest.EKUntrusted}) || r.EK.Trusted {
		t.Errorf("an unknown maker: %v, %+v, %v", r.Reasons, r.EK, err)
	}
	w.question.Device.EKSHA256 = spkiSHA256(w.tpm.EK)
	r, err = w.begin(t, attest.CaseActivation).send(t)
	if err != nil || len(r.Reasons) > 0 || !r.EK.Trusted {
		t.Errorf("an unknown maker of a registered TPM: %v, %+v, %v", r.Reasons, r.EK, err)
	}
	w.question.Device.EKSHA256 = ""
	c, _, err := w.ask(t, attest.CaseRegistered)
	if err != nil || !slices.Equal(c.EKReasons, []attest.Reason{attest.EKUntrusted}) {
		t.Errorf("neither a certificate nor in the register: %v, %v", c.EKReasons, err)
	}
}

// TestActivationTakesBothKeys: a credential opens only with the endorsement key
// and the attestation key that it was made for.
func TestActivationTakesBothKeys(t *testing.T) {
	for _, kind := range []string{"rsa", "p256", "p384"} {
		w := newWorld(t, kind, "p256", "p256")
		c, activation, err := w.ask(t, attest.CaseActivation)
		if err != nil {
			t.Fatal(err)
		}
		other := must[*forge.TPM](t)(forge.New("p256", "p256", "p256"))
		for says, thief := range map[string]*forge.TPM{"another endorsement key": {EK: other.EK, AK: w.tpm.AK}, "another attestation key": {EK: w.tpm.EK, AK: other.AK}} {
			if _, err := thief.Activate(activation.CredentialBlob, activation.EncryptedSecret); err == nil {
				t.Errorf("%s: a TPM with %s opened the credential", kind, says)
			}
		}
		secret, err := w.tpm.Activate(activation.CredentialBlob, activation.EncryptedSecret)
		if err != nil || !bytes.Equal(c.ExtraData, forge.ExtraData(c.Nonce, secret)) {
			t.Errorf("%s: the TPM itself did not: %v", kind, err)
		}
	}
}

// TestMakeCredential is used without a challenge, too.
func TestMakeCredential(t *testing.T) {
	d := must[*forge.TPM](t)(forge.New("p256", "p256", "p256"))
	a, err := tpm.MakeCredential(d.EK.Area.Bytes(), d.AK.Area.Name(), []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := d.Activate(a.CredentialBlob, a.EncryptedSecret); string(got) != "secret" {
		t.Errorf("%q, %v", got, err)
	}
	_, err = tpm.MakeCredential(d.AK.Area.Bytes(), d.AK.Area.Name(), []byte("secret"))
	refused(t, err, attest.MalformedEvidence)
}

package tpm_test

import (
	"crypto/elliptic"
	"os"
	"path/filepath"
	"testing"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/attest/tpm"
	"github.com/hallmark-pki/hallmark/internal/forge"
)

// onFile gives the verifier one file of the operator's.
func (w *world) onFile(t *testing.T, name, text string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	w.Trust.Dossier.Store(must[*tpm.Dossier](t)(tpm.LoadDossier(dir)))
}

// TestRevokedSince: a TPM that was revoked after the nonce, or after its key was
// pinned, is refused by every case.
func TestRevokedSince(t *testing.T) {
	for _, how := range []attest.Case{attest.CaseCertificate, attest.CasePinned, attest.CaseActivation, attest.CaseRegistered} {
		w := newWorld(t, "p256", "p256", "p256")
		x := w.begin(t, how)
		w.onFile(t, "revoked.json", `[{"sha256": "`+spkiSHA256(w.tpm.AK)+`", "reason": "lost"}]`)
		_, err := x.send(t)
		refused(t, err, attest.AKRevoked)
		if how != attest.CaseCertificate {
			w.onFile(t, "revoked.json", `[{"sha256": "`+spkiSHA256(w.tpm.EK)+`", "reason": "lost"}]`)
			_, err = x.send(t)
			refused(t, err, attest.EKRevoked)
		}
	}
}

// TestAdvisoryByFirmware: the quote says what firmware the TPM has now, unless its
// attestation key is in a hierarchy in which the TPM hides that.
func TestAdvisoryByFirmware(t *testing.T) {
	w := newWorld(t, "p256", "p256", "p256")
	w.onFile(t, "advisories.json", `[{"id": "A-1", "action": "deny", "text": "Old.", "firmware": "=9.9"}]`)
	w.tpm.Clock.Firmware = 9<<48 | 9<<32
	x := w.begin(t, attest.CaseActivation)
	if r, err := x.send(t); err != nil || len(x.challenge.Advisories) != 0 || len(r.Advisories) != 1 {
		t.Errorf("%v, %v", r.Advisories, err)
	}
	quoting(func(_ *exchange, a *forge.Attest) { a.Signer = append([]byte{0, forge.SHA256}, forge.Nonce(32)...) })(t, x)
	if r, err := x.send(t); err != nil || len(r.Advisories) != 0 {
		t.Errorf("of a firmware that is hidden: %v, %v", r.Advisories, err)
	}
}

// TestWeakCertifiedKeys: a certificate does not make a weak attestation key strong.
func TestWeakCertifiedKeys(t *testing.T) {
	w := newWorld(t, "p256", "p256", "p256")
	x := w.begin(t, attest.CaseCertificate)
	for _, curve := range []elliptic.Curve{elliptic.P224(), elliptic.P521()} {
		weak := must[*forge.Key](t)(forge.OnCurve(curve))
		x.bundle.Certs = [][]byte{must[[]byte](t)(w.issuer.AK(&forge.TPM{AK: weak}, "gw-1", ""))}
		_, err := x.send(t)
		refused(t, err, attest.AlgorithmNotAllowed)
	}
}

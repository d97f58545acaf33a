package tpm_test

import (
	"testing"

	"github.com/hallmark-pki/hallmark/attest"
)

// BenchmarkChallenge is the server's part in a nonce exchange with activation,
// by the kind of the endorsement key.
func BenchmarkChallenge(b *testing.B) {
	for _, kind := range []string{"rsa", "p256", "p384"} {
		b.Run(kind, func(b *testing.B) {
			w := newWorld(b, kind, "p256", "p256")
			w.question.AKPublic, w.question.EKPublic = w.tpm.AK.Area.Bytes(), w.tpm.EK.Area.Bytes()
			w.question.EKCerts = [][]byte{must[[]byte](b)(w.maker.EK(w.tpm, model))}
			for b.Loop() {
				if _, _, err := w.Challenge(b.Context(), w.question); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkVerify parses and verifies certify and quote, by the case and the
// kind of the attestation key.
func BenchmarkVerify(b *testing.B) {
	for _, kind := range []string{"p256", "rsa", "p384"} {
		for _, how := range []attest.Case{attest.CaseActivation, attest.CaseCertificate} {
			b.Run(kind+"/"+string(how), func(b *testing.B) {
				x := newWorld(b, "p256", kind, kind).begin(b, how)
				der, binding := x.bundle.DER(), x.binding()
				for b.Loop() {
					e, err := attest.ParseEvidence(der)
					if err != nil {
						b.Fatal(err)
					}
					if _, err := x.Verify(b.Context(), e, binding); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

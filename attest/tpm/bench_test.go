package tpm_test

import (
	"strings"
	"testing"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/internal/forge"
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

// BenchmarkEventLog is BenchmarkVerify with the log of a boot with a hundred
// measurements (30 KB), as it is and compressed.
func BenchmarkEventLog(b *testing.B) {
	for says, packed := range map[string]bool{"plain": false, "gzip": true} {
		b.Run(says, func(b *testing.B) {
			w := newWorld(b, "p256", "p256", "p256")
			w.tpm.Reset()
			log := &forge.EventLog{}
			log.Boot(w.tpm, "Firmware 1.0", true, "shim 15.8", "linux 6.12")
			for n := range 90 {
				log.Log(w.tpm, 9, 0x0d, []byte(strings.Repeat(string(rune('a'+n%26)), 200)))
			}
			x := w.begin(b, attest.CaseActivation)
			x.bundle.EventLog, x.bundle.Packed = log.Bytes(), packed
			der, binding := x.bundle.DER(), x.binding()
			b.SetBytes(int64(len(x.bundle.EventLog)))
			for b.Loop() {
				e, err := attest.ParseEvidence(der)
				if err != nil {
					b.Fatal(err)
				}
				if r, err := x.Verify(b.Context(), e, binding); err != nil || !r.Boot.LogReplayed {
					b.Fatal(err)
				}
			}
		})
	}
}

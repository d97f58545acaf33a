package tpm_test

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/attest/tpm"
	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

// TestFlippedBits flips every bit of a bundle, one at a time, as if the request
// around it were signed anew, and two bits of every byte of an attested request: none of them is
// accepted, and every one is refused as something that the caller can mend.
func TestFlippedBits(t *testing.T) {
	for _, how := range []attest.Case{attest.CaseActivation, attest.CaseCertificate} {
		x := newWorld(t, "p256", "p256", "p256").begin(t, how)
		bundle := x.bundle.DER()
		request := must[[]byte](t)(x.tpm.CSR("gw-1", bundle))
		if _, err := x.sendRequest(t, request); err != nil {
			t.Fatal(err)
		}
		eachFlip(request, []int{0, 7}, func(flipped []byte, bit int) {
			if _, err := x.sendRequest(t, flipped); err == nil {
				t.Errorf("case %s: accepted with bit %d of the request flipped", how, bit)
			} else if kind := fault.Of(err).Kind; kind != fault.Malformed && kind != fault.Denied {
				t.Errorf("case %s: with bit %d of the request flipped: an error of kind %s: %v", how, bit, kind, err)
			}
		})
		eachFlip(bundle, []int{0, 1, 2, 3, 4, 5, 6, 7}, func(flipped []byte, bit int) {
			if _, err := x.sendEvidence(t, flipped); err == nil {
				t.Errorf("case %s: accepted with bit %d of the evidence flipped", how, bit)
			} else if kind := fault.Of(err).Kind; kind != fault.Malformed && kind != fault.Denied {
				t.Errorf("case %s: with bit %d of the evidence flipped: an error of kind %s: %v", how, bit, kind, err)
			}
		})
	}
}

func eachFlip(b []byte, bits []int, try func(flipped []byte, bit int)) {
	flipped := slices.Clone(b)
	for at := range b {
		for _, bit := range bits {
			flipped[at] ^= 1 << bit
			try(flipped, 8*at+bit)
			flipped[at] ^= 1 << bit
		}
	}
}

// sendRequest verifies an attested certification request as the door does.
func (x *exchange) sendRequest(t testing.TB, der []byte) (attest.Result, error) {
	t.Helper()
	csr, err := ca.ParseCSR(slices.Clone(der))
	if err != nil {
		return attest.Result{}, err
	}
	e, err := attest.ParseEvidence(csr.Attestation)
	if err != nil {
		return attest.Result{}, err
	}
	b := x.binding()
	b.SPKI = csr.SPKI
	return x.Verify(t.Context(), e, b)
}

func (x *exchange) sendEvidence(t testing.TB, der []byte) (attest.Result, error) {
	t.Helper()
	e, err := attest.ParseEvidence(slices.Clone(der))
	if err != nil {
		return attest.Result{}, err
	}
	return x.Verify(t.Context(), e, x.binding())
}

// TestMutations puts 65 000 bundles that are broken in up to eight places through
// the verifier. What is accepted has the statements that the TPM signed.
func TestMutations(t *testing.T) {
	x := newWorld(t, "rsa", "rsa", "rsa").begin(t, attest.CaseActivation)
	honest := x.bundle.DER()
	random := rand.New(rand.NewPCG(1, 2))
	for range 65_000 {
		x.judge(t, mutate(random, honest))
	}
}

// mutate overwrites, drops, doubles or moves bytes.
func mutate(random *rand.Rand, b []byte) []byte {
	b = slices.Clone(b)
	for range 1 + random.IntN(8) {
		if len(b) < 2 {
			break
		}
		at := random.IntN(len(b) - 1)
		n := 1 + random.IntN(min(8, len(b)-at))
		switch random.IntN(5) {
		case 0:
			b[at] = byte(random.Uint32())
		case 1:
			b[at] ^= 1 << random.IntN(8)
		case 2:
			b = slices.Delete(b, at, min(at+n, len(b)))
		case 3:
			b = slices.Insert(b, at, b[at:min(at+n, len(b))]...)
		default:
			b = b[:at+1]
			random = rand.New(rand.NewPCG(random.Uint64(), 1))
		}
	}
	return b
}

// judge verifies a bundle of which nothing is known.
func (x *exchange) judge(t *testing.T, der []byte) {
	t.Helper()
	r, err := x.sendEvidence(t, der)
	if err != nil {
		if kind := fault.Of(err).Kind; kind != fault.Malformed && kind != fault.Denied {
			t.Fatalf("an error of kind %s: %v\n%x", kind, err, der)
		}
		return
	}
	e, err := attest.ParseEvidence(der)
	if err != nil || !r.Attested() {
		t.Fatal(err)
	}
	for got, want := range map[*[]byte][]byte{
		&e.Certify.Attest: x.bundle.Certify.Attest, &e.Quote.Attest: x.bundle.Quote.Attest,
		&e.Certify.Public: x.bundle.Certify.Third, &e.Quote.Values: x.bundle.Quote.Third,
	} {
		if !bytes.HasSuffix(*got, want) || len(*got) > len(want)+2 {
			t.Fatalf("accepted %x, signed was %x", *got, want)
		}
	}
}

func FuzzVerify(f *testing.F) {
	x := newWorld(f, "p256", "p256", "p256").begin(f, attest.CaseActivation)
	f.Add(x.bundle.DER())
	x.bundle.EventLog = []byte("rubbish")
	f.Add(x.bundle.DER())
	x.bundle.Packed, x.bundle.Certs = true, [][]byte{must[[]byte](f)(x.issuer.AK(x.tpm, "gw-1", ""))}
	f.Add(x.bundle.DER())
	f.Fuzz(func(t *testing.T, der []byte) { x.judge(t, der) })
}

func FuzzChallenge(f *testing.F) {
	w := newWorld(f, "rsa", "p256", "p256")
	cert := must[[]byte](f)(w.maker.EK(w.tpm, model))
	f.Add(w.tpm.AK.Area.Bytes(), w.tpm.EK.Area.Bytes(), cert)
	f.Add(w.tpm.AK.Area.Bytes(), w.tpm.EK.Area.Bytes(), []byte{})
	f.Add(w.tpm.AK.Area.Bytes(), []byte{}, cert)
	f.Fuzz(func(t *testing.T, ak, ek, cert []byte) {
		q := tpm.Question{Profile: "factory", AKPublic: ak, EKPublic: ek}
		if len(cert) > 0 {
			q.EKCerts = [][]byte{cert}
		}
		c, activation, err := w.Challenge(t.Context(), q)
		if err != nil {
			if kind := fault.Of(err).Kind; kind != fault.Malformed && kind != fault.Denied {
				t.Fatalf("an error of kind %s: %v", kind, err)
			}
			return
		}
		if c.Activated != (activation != nil) || c.Activated == bytes.Equal(c.Nonce, c.ExtraData) {
			t.Fatalf("%+v, %v", c, activation)
		}
	})
}

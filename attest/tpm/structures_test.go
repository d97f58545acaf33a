package tpm

import (
	"bytes"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/internal/forge"
)

// The readers of this package are held against a second opinion: whatever they
// take, go-tpm takes too, reads the same out of it, and encodes it to the same bytes.

// agree wants what the general decoder reads to encode to the same bytes.
func agree[T tpm2.Marshallable, P interface {
	*T
	tpm2.Unmarshallable
}](t *testing.T, b []byte) P {
	t.Helper()
	v, err := tpm2.Unmarshal[T, P](b)
	if err != nil {
		t.Fatalf("taken here, and not by go-tpm: %v\n%x", err, b)
	}
	return v
}

func sameBytes(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Fatalf("%s: %x here, %x by go-tpm", what, got, want)
	}
}

// refusedWell wants a refusal that the caller is told of.
func refusedWell(t *testing.T, err error) {
	t.Helper()
	if kind := fault.Of(err).Kind; kind != fault.Malformed && kind != fault.Denied {
		t.Fatalf("an error of kind %s: %v", kind, err)
	}
}

func FuzzArea(f *testing.F) {
	for _, kind := range []string{"rsa", "p256", "p384"} {
		d, err := forge.New(kind, kind, kind)
		if err != nil {
			f.Fatal(err)
		}
		for _, k := range []*forge.Key{d.EK, d.AK, d.Key} {
			f.Add(k.Area.Bytes())
			f.Add(forge.Sized(k.Area.Bytes()))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parseArea(b, "the key")
		if err != nil {
			refusedWell(t, err)
			return
		}
		if _, _, err := a.spki("the key"); err != nil {
			refusedWell(t, err)
		}
		_, err = MakeCredential(b, a.name(), make([]byte, 32))
		if err != nil {
			refusedWell(t, err)
		}
		other := agree[tpm2.TPMTPublic](t, a.bytes)
		sameBytes(t, "encoding", a.bytes, tpm2.Marshal(other))
		name, err := tpm2.ObjectName(other)
		if err != nil {
			t.Fatal(err)
		}
		sameBytes(t, "name", a.name(), name.Buffer)
	})
}

func FuzzStatement(f *testing.F) {
	d, err := forge.New("p256", "p256", "p256")
	if err != nil {
		f.Fatal(err)
	}
	for _, a := range []*forge.Attest{d.Certify(make([]byte, 32)), d.Quote(make([]byte, 32), "sha256", []int{0, 7}), d.Quote(nil, "sha384", nil)} {
		f.Add(a.Bytes())
		f.Add(forge.Sized(a.Bytes()))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, tag := range []structureTag{attestCertify, attestQuote, attestCreation} {
			s, err := parseStatement(b, tag, "statement")
			if err != nil {
				refusedWell(t, err)
				continue
			}
			other := agree[tpm2.TPMSAttest](t, s.bytes)
			sameBytes(t, "encoding", s.bytes, tpm2.Marshal(other))
			sameBytes(t, "extraData", s.extraData, other.ExtraData.Buffer)
			sameBytes(t, "signer", s.signer, other.QualifiedSigner.Buffer)
			clock := attest.Clock{Clock: other.ClockInfo.Clock, Reset: other.ClockInfo.ResetCount, Restart: other.ClockInfo.RestartCount, Safe: bool(other.ClockInfo.Safe), Firmware: other.FirmwareVersion}
			if s.clock != clock {
				t.Fatalf("clock: %+v here, %+v by go-tpm", s.clock, clock)
			}
			sameBody(t, s, other)
		}
	})
}

func sameBody(t *testing.T, s *statement, other *tpm2.TPMSAttest) {
	t.Helper()
	switch s.tag {
	case attestCertify:
		c, err := other.Attested.Certify()
		if err != nil {
			t.Fatal(err)
		}
		sameBytes(t, "name", s.name, c.Name.Buffer)
	case attestQuote:
		q, err := other.Attested.Quote()
		if err != nil || len(q.PCRSelect.PCRSelections) != len(s.selections) {
			t.Fatal(err, q)
		}
		sameBytes(t, "digest", s.digest, q.PCRDigest.Buffer)
		for i, one := range q.PCRSelect.PCRSelections {
			if algorithm(one.Hash) != s.selections[i].bank {
				t.Fatalf("bank %s here, %v by go-tpm", s.selections[i].bank, one.Hash)
			}
			sameBytes(t, "selection", s.selections[i].bitmap, one.PCRSelect)
		}
	}
}

func FuzzSignature(f *testing.F) {
	for _, kind := range []string{"rsa", "p256", "p384"} {
		k, err := forge.NewKey(kind, forge.Attestation)
		if err != nil {
			f.Fatal(err)
		}
		for _, hash := range []uint16{forge.SHA256, forge.SHA384} {
			sig, err := k.SignAs([]byte("statement"), k.Area.Scheme, hash)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(sig)
			f.Add(forge.Sized(sig))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		sig, err := parseSignature(b, "statement")
		if err != nil {
			refusedWell(t, err)
			return
		}
		other := agree[tpm2.TPMTSignature](t, bare(b))
		sameBytes(t, "encoding", bare(b), tpm2.Marshal(other))
		switch sig.scheme.id {
		case algECDSA:
			e, err := other.Signature.ECDSA()
			if err != nil {
				t.Fatal(err)
			}
			sameBytes(t, "r", sig.r, e.SignatureR.Buffer)
			sameBytes(t, "s", sig.s, e.SignatureS.Buffer)
		case algRSASSA:
			e, err := other.Signature.RSASSA()
			if err != nil {
				t.Fatal(err)
			}
			sameBytes(t, "signature", sig.rsa, e.Sig.Buffer)
		}
	})
}

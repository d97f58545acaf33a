package tpm_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/attest/tpm"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/internal/forge"
)

// creationType is TPM_ST_ATTEST_CREATION.
const creationType = 0x801a

// creationOf is an attestation key's honest introduction.
func creationOf(t testing.TB, d *forge.TPM) *tpm.Creation {
	t.Helper()
	data := []byte("creation data")
	sum := sha256.Sum256(data)
	digest := sum[:]
	if d.AK.Area.NameAlg == forge.SHA384 {
		long := sha512.Sum384(data)
		digest = long[:]
	}
	a := &forge.Attest{Magic: forge.Generated, Type: creationType, Clock: d.Clock, Name: d.AK.Area.Name(), Qualified: digest}
	s := must[*forge.Statement](t)(a.SignedBy(d.AK))
	return &tpm.Creation{Public: d.AK.Area.Bytes(), Data: data, Attestation: s.Attest, Signature: s.Signature}
}

// TestCreation reads an introduction in both forms of TPM structures, with and without their sizes.
func TestCreation(t *testing.T) {
	for _, kind := range []string{"rsa", "p256", "p384"} {
		d := must[*forge.TPM](t)(forge.New("p256", kind, "p256"))
		bare := creationOf(t, d)
		sized := &tpm.Creation{Public: forge.Sized(bare.Public), Data: forge.Sized(bare.Data), Attestation: forge.Sized(bare.Attestation), Signature: forge.Sized(bare.Signature)}
		for form, c := range map[string]*tpm.Creation{"bare": bare, "sized": sized} {
			key, spki, err := c.Key()
			if err != nil || !bytes.Equal(spki, d.AK.SPKI()) || key.SHA256 != spkiSHA256(d.AK) || !bytes.Equal(key.Name, d.AK.Area.Name()) {
				t.Errorf("%s, %s: %+v, %v", kind, form, key, err)
			}
		}
	}
}

// TestNoByteOfACreationCanBeChanged flips each byte that counts.
func TestNoByteOfACreationCanBeChanged(t *testing.T) {
	d := must[*forge.TPM](t)(forge.New("p256", "p256", "p256"))
	honest := creationOf(t, d)
	for name, part := range map[string]func(*tpm.Creation) *[]byte{
		"public": func(c *tpm.Creation) *[]byte { return &c.Public }, "data": func(c *tpm.Creation) *[]byte { return &c.Data },
		"attestation": func(c *tpm.Creation) *[]byte { return &c.Attestation }, "signature": func(c *tpm.Creation) *[]byte { return &c.Signature },
	} {
		for i := range *part(honest) {
			c := *honest
			changed := bytes.Clone(*part(honest))
			changed[i] ^= 0x40
			*part(&c) = changed
			if _, _, err := c.Key(); err == nil || fault.Of(err).Kind != fault.Denied && fault.Of(err).Kind != fault.Malformed {
				t.Errorf("%s, byte %d: %v", name, i, err)
			}
		}
	}
}

// TestCredentialForABareEndorsementKey has the TPM open what was made without
// its endorsement key's public area.
func TestCredentialForABareEndorsementKey(t *testing.T) {
	secret := forge.Nonce(32)
	for _, kind := range []string{"rsa", "p256", "p384"} {
		d := must[*forge.TPM](t)(forge.New(kind, "p256", "p256"))
		ek, err := tpm.ParseEndorsementKey(d.EK.SPKI())
		if err != nil {
			t.Fatal(err)
		}
		a, err := tpm.MakeCredentialFor(ek, d.AK.Area.Name(), secret)
		if err != nil {
			t.Fatal(err)
		}
		if opened, err := d.Activate(a.CredentialBlob, a.EncryptedSecret); err != nil || !bytes.Equal(opened, secret) {
			t.Errorf("%s: %x, %v", kind, opened, err)
		}
	}
	_, err := tpm.ParseEndorsementKey([]byte{0x30, 0})
	refused(t, err, attest.MalformedEvidence)
	_, err = tpm.MakeCredentialFor("no key", nil, secret)
	refused(t, err, attest.AlgorithmNotAllowed)
}

// TestOwnAttestationKeys believes a certificate of our own without an anchor,
// while it is valid, and nobody else's.
func TestOwnAttestationKeys(t *testing.T) {
	w := newWorld(t, "p256", "p256", "p256")
	ours := must[[]byte](t)(authority(t, "Our own").AK(w.tpm, "gw-1", ""))
	foreign := must[[]byte](t)(authority(t, "Somebody").AK(w.tpm, "gw-1", ""))
	failing := errors.New("the disk is gone")
	w.Trust.Own = func(_ context.Context, leaf *x509.Certificate) (string, error) {
		if leaf.Issuer.CommonName == "Broken" {
			return "", failing
		}
		if bytes.Equal(leaf.Raw, ours) {
			return strings.Repeat("ab", 32), nil
		}
		return "", nil
	}
	ak, err := w.Trust.AK(t.Context(), "factory", [][]byte{ours}, time.Now())
	if err != nil || ak.Anchor != strings.Repeat("ab", 32) || len(ak.Names) != 1 || ak.Names[0] != "gw-1" {
		t.Errorf("ours: %+v, %v", ak, err)
	}
	_, err = w.Trust.AK(t.Context(), "factory", [][]byte{foreign}, time.Now())
	refused(t, err, attest.AKUntrusted)
	for _, at := range []time.Time{time.Now().AddDate(2, 0, 0), time.Now().AddDate(-2, 0, 0)} {
		_, err = w.Trust.AK(t.Context(), "factory", [][]byte{ours}, at)
		refused(t, err, attest.AKUntrusted)
	}
	broken := must[[]byte](t)(authority(t, "Broken").AK(w.tpm, "gw-1", ""))
	if _, err = w.Trust.AK(t.Context(), "factory", [][]byte{broken}, time.Now()); !errors.Is(err, failing) || fault.Of(err).Kind != fault.Internal {
		t.Errorf("a failure of our own: %v", err)
	}
}

// FuzzCreation gives Creation.Key anything. What it takes names the key that it returns.
func FuzzCreation(f *testing.F) {
	for _, kind := range []string{"rsa", "p256"} {
		c := creationOf(f, must[*forge.TPM](f)(forge.New("p256", kind, "p256")))
		f.Add(c.Public, c.Data, c.Attestation, c.Signature)
	}
	f.Fuzz(func(t *testing.T, public, data, attestation, signature []byte) {
		c := &tpm.Creation{Public: public, Data: data, Attestation: attestation, Signature: signature}
		key, spki, err := c.Key()
		if err != nil {
			if kind := fault.Of(err).Kind; kind != fault.Malformed && kind != fault.Denied {
				t.Fatalf("a refusal of kind %v: %v", kind, err)
			}
			return
		}
		if _, err := x509.ParsePKIXPublicKey(spki); err != nil || !bytes.Contains(attestation, key.Name) {
			t.Errorf("the key is none: %v", err)
		}
	})
}

// FuzzEndorsementKey gives ParseEndorsementKey anything. For what it takes a credential can be made.
func FuzzEndorsementKey(f *testing.F) {
	for _, kind := range []string{"rsa", "p256", "p384"} {
		f.Add(must[*forge.Key](f)(forge.NewKey(kind, forge.Endorsement)).SPKI())
	}
	f.Fuzz(func(t *testing.T, spki []byte) {
		ek, err := tpm.ParseEndorsementKey(spki)
		if err != nil {
			return
		}
		if _, err := tpm.MakeCredentialFor(ek, make([]byte, 34), make([]byte, 32)); err != nil && fault.Of(err).Kind == fault.Internal {
			t.Errorf("no credential for it: %v", err)
		}
	})
}

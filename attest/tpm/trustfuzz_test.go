package tpm

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"testing"
)

// FuzzCertificate feeds what may come from a TPM's NV index to the reader of
// certificates, and what it read to the readers of names and keys.
func FuzzCertificate(f *testing.F) {
	f.Add([]byte{0x30, 0x00})
	f.Add([]byte{0x10, 0x01, 0x00, 0x00, 0x02, 0x30, 0x00})
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := parseCertificate(raw)
		if err != nil {
			return
		}
		if !bytes.Contains(raw, c.Raw) || !bytes.Contains(c.Raw, c.RawTBSCertificate) {
			t.Error("what was read is not in what was sent")
		}
		key, err := publicKey(c)
		if _, ok := key.(*rsa.PublicKey); err == nil && ok && c.PublicKeyAlgorithm == x509.UnknownPublicKeyAlgorithm {
			if _, err := spkiDigest(key); err != nil {
				t.Error(err)
			}
		}
		n, err := readNames(c)
		if err == nil {
			_, _ = checkEKCertificate(c, key), saysEK(c, &n)
			_, _ = endorsementKeyIn(n.uris)
		}
		_ = checkAKCertificate(c)
		folded := fold(c)
		if again := fold(folded); string(again.RawSubject) != string(folded.RawSubject) {
			t.Errorf("%q folds to %q", folded.RawSubject, again.RawSubject)
		}
	})
}

// FuzzSubjectAlternativeName feeds an extension to the reader of names: every
// name it returns may stand in a record and on a terminal.
func FuzzSubjectAlternativeName(f *testing.F) {
	f.Add(tpmSAN(false))
	f.Add(tpmSAN(true))
	f.Add(akSAN("dev-1", "urn:ek:sha256:AAAA"))
	f.Fuzz(func(t *testing.T, der []byte) {
		var n names
		if err := n.readSAN(der); err != nil {
			return
		}
		for _, s := range append([]string{n.manufacturer, n.model, n.version}, append(n.permanent, n.uris...)...) {
			if s != printable(s) {
				t.Errorf("%q is not printable", s)
			}
		}
	})
}

// FuzzNegativeSerial holds the substitute for a negative serial number against
// the certificate it stands for: they differ in one byte.
func FuzzNegativeSerial(f *testing.F) {
	f.Add([]byte{0x30, 0x0a, 0x30, 0x08, 0xa0, 0x03, 0x02, 0x01, 0x02, 0x02, 0x01, 0xff})
	f.Fuzz(func(t *testing.T, der []byte) {
		before := bytes.Clone(der)
		substitute, serial := withPositiveSerial(der)
		if !bytes.Equal(before, der) {
			t.Fatal("the certificate was changed")
		}
		if substitute == nil {
			return
		}
		differ := 0
		for i := range der {
			if der[i] != substitute[i] {
				differ++
			}
		}
		if len(der) != len(substitute) || differ != 1 || serial.Sign() >= 0 {
			t.Errorf("%x became %x, serial %s", der, substitute, serial)
		}
	})
}

// FuzzRevocationListScope feeds an IssuingDistributionPoint to its reader.
func FuzzRevocationListScope(f *testing.F) {
	f.Add([]byte{0x30, 3, 0x84, 1, 0xff})
	f.Fuzz(func(t *testing.T, der []byte) { isIndirect(der) })
}

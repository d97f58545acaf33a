package tpm_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"net/url"
	"slices"
	"testing"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/attest/tpm"
	"github.com/hallmark-pki/hallmark/internal/forge"
)

// TestBadKeys is a row for every attestation and endorsement key that is told
// at once, when the nonce is asked for.
func TestBadKeys(t *testing.T) {
	type change = func(ak, ek *forge.Area)
	w := newWorld(t, "rsa", "p256", "p256")
	for reason, rows := range map[attest.Reason]map[string]change{
		attest.AKAttributes: {
			"not restricted":             func(ak, _ *forge.Area) { ak.Attributes &^= forge.Restricted },
			"not fixed to the TPM":       func(ak, _ *forge.Area) { ak.Attributes &^= forge.FixedTPM },
			"not fixed to its parent":    func(ak, _ *forge.Area) { ak.Attributes &^= forge.FixedParent },
			"from outside":               func(ak, _ *forge.Area) { ak.Attributes &^= forge.SensitiveDataOrigin },
			"does not sign":              func(ak, _ *forge.Area) { ak.Attributes &^= forge.Sign },
			"decrypts":                   func(ak, _ *forge.Area) { ak.Attributes |= forge.Decrypt },
			"is the key to be certified": func(ak, _ *forge.Area) { ak.Attributes &^= forge.Restricted },
		},
		attest.AlgorithmNotAllowed: {
			"AK named with SHA-1":         func(ak, _ *forge.Area) { ak.NameAlg = forge.SHA1 },
			"AK named with SHA-512":       func(ak, _ *forge.Area) { ak.NameAlg = forge.SHA512 },
			"AK without a scheme":         func(ak, _ *forge.Area) { ak.Scheme = forge.Null },
			"AK for ECDAA":                func(ak, _ *forge.Area) { ak.Scheme = forge.ECDAA },
			"ECC AK for RSASSA":           func(ak, _ *forge.Area) { ak.Scheme = forge.RSASSA },
			"AK signs SHA-1":              func(ak, _ *forge.Area) { ak.Hash = forge.SHA1 },
			"AK on another curve":         func(ak, _ *forge.Area) { ak.Curve = 1 },
			"AK of another kind":          func(ak, _ *forge.Area) { ak.Kind = 8 },
			"EK of 1024 bits":             func(_, ek *forge.Area) { ek.Bits = 1024 },
			"EK with exponent 3":          func(_, ek *forge.Area) { ek.Exponent = 3 },
			"EK protects with XOR":        func(_, ek *forge.Area) { ek.Symmetric = 0x000a },
			"EK protects in another mode": func(_, ek *forge.Area) { ek.SymMode = 0x44 },
			"EK protects with 64 bits":    func(_, ek *forge.Area) { ek.SymBits = 64 },
			"EK named with SHA-1":         func(_, ek *forge.Area) { ek.NameAlg = forge.SHA1 },
			"EK with a signing scheme":    func(_, ek *forge.Area) { ek.Scheme = forge.RSASSA },
			"EK with OAEP over SHA-1":     func(_, ek *forge.Area) { ek.Scheme, ek.Hash = forge.OAEP, forge.SHA1 },
		},
		attest.MalformedEvidence: {
			"EK signs":                func(_, ek *forge.Area) { ek.Attributes |= forge.Sign },
			"EK does not decrypt":     func(_, ek *forge.Area) { ek.Attributes &^= forge.Decrypt },
			"EK not restricted":       func(_, ek *forge.Area) { ek.Attributes &^= forge.Restricted },
			"EK with a short modulus": func(_, ek *forge.Area) { ek.Modulus = ek.Modulus[1:] },
			"EK with an even modulus": func(_, ek *forge.Area) { ek.Modulus = append(slices.Clone(ek.Modulus[:255]), 2) },
			"AK off its curve":        func(ak, _ *forge.Area) { ak.X = make([]byte, 32) },
		},
		attest.EKMismatch: {
			"EK certificate of another key": func(_, ek *forge.Area) { ek.Modulus = append([]byte{0xff}, ek.Modulus[1:]...) },
		},
	} {
		for says, change := range rows {
			ak, ek := w.tpm.AK.Area, w.tpm.EK.Area
			change(&ak, &ek)
			w.question.AKPublic, w.question.EKPublic = ak.Bytes(), ek.Bytes()
			_, _, err := w.ask(t, attest.CaseActivation)
			t.Run(string(reason)+": "+says, func(t *testing.T) { refused(t, err, reason) })
		}
	}
}

// TestHalfQuestions are activations that lack one of the two keys.
func TestHalfQuestions(t *testing.T) {
	w := newWorld(t, "p256", "p256", "p256")
	cert := must[[]byte](t)(w.maker.EK(w.tpm, model))
	for says, q := range map[string]tpm.Question{
		"no akPub":           {EKPublic: w.tpm.EK.Area.Bytes()},
		"no akPub nor ekPub": {EKCerts: [][]byte{cert}},
		"no ekPub":           {AKPublic: w.tpm.AK.Area.Bytes(), EKCerts: [][]byte{cert}},
		"an akPub of a byte": {AKPublic: []byte{0}},
	} {
		_, _, err := w.Challenge(t.Context(), q)
		t.Run(says, func(t *testing.T) { refused(t, err, attest.MalformedEvidence) })
	}
	for _, length := range []int{-1, 7, 65, 1 << 30} {
		_, _, err := w.Challenge(t.Context(), tpm.Question{Length: length})
		refused(t, err, attest.MalformedEvidence)
	}
	for _, length := range []int{8, 64} {
		if c, _, err := w.Challenge(t.Context(), tpm.Question{Length: length}); err != nil || len(c.Nonce) != length {
			t.Errorf("a nonce of %d bytes: %x, %v", length, c.Nonce, err)
		}
	}
	if _, _, err := w.Challenge(t.Context(), tpm.Question{Bank: "sha1", PCRs: registers}); err == nil {
		t.Error("asked for a quote of the SHA-1 bank")
	}
}

// TestForeignTPMs are TPMs that are genuine, and not this device's.
func TestForeignTPMs(t *testing.T) {
	w := newWorld(t, "p256", "p256", "p256")
	other := stranger(t)
	ask := func(says string, reason attest.Reason, device attest.Identity, bond *attest.Bond) {
		t.Helper()
		w.question.Device, w.question.Bond = device, bond
		_, _, err := w.ask(t, attest.CaseActivation)
		t.Run("activation: "+says, func(t *testing.T) { refused(t, err, reason) })
	}
	ask("bound to another", attest.EKMismatch, attest.Identity{ID: "gw-1"}, bondOf(other))
	ask("registered with another", attest.EKMismatch, attest.Identity{ID: "gw-1", EKSHA256: spkiSHA256(other.EK)}, nil)

	show := func(says string, reason attest.Reason, how attest.Case, change func(x *exchange)) {
		t.Helper()
		w.question.Device, w.question.Bond = attest.Identity{ID: "gw-1"}, nil
		x := w.begin(t, how)
		change(x)
		_, err := x.send(t)
		t.Run(string(how)+": "+says, func(t *testing.T) { refused(t, err, reason) })
	}
	show("bound to another since", attest.EKMismatch, attest.CaseActivation, func(x *exchange) { x.question.Bond = bondOf(other) })
	show("registered with another attestation key", attest.EKMismatch, attest.CaseCertificate, func(x *exchange) { x.question.Device.AKSHA256 = spkiSHA256(other.AK) })
	show("bound to another", attest.EKMismatch, attest.CaseCertificate, func(x *exchange) { x.question.Bond = bondOf(other) })
	show("registered with another", attest.EKMismatch, attest.CasePinned, func(x *exchange) { x.question.Device.EKSHA256 = spkiSHA256(other.EK) })
	show("another pinned", attest.AKUntrusted, attest.CasePinned, func(x *exchange) { x.question.Bond = bondOf(other) })
	show("none pinned", attest.AKUntrusted, attest.CasePinned, func(x *exchange) { x.question.Bond = nil })
	show("no certificate", attest.AKUntrusted, attest.CaseCertificate, func(x *exchange) { x.bundle.Certs = nil })
	show("a certificate by nobody", attest.AKUntrusted, attest.CaseCertificate, func(x *exchange) {
		x.bundle.Certs = [][]byte{must[[]byte](t)(authority(t, "Nobody").AK(w.tpm, "gw-1", ""))}
	})
	show("a certificate of an endorsement key", attest.AKUntrusted, attest.CaseCertificate, func(x *exchange) {
		x.bundle.Certs = [][]byte{must[[]byte](t)(w.maker.EK(w.tpm, model))}
	})
	show("a certificate of another key than named", attest.AKUntrusted, attest.CaseCertificate, func(x *exchange) {
		x.challenge.AKPublic = other.AK.Area.Bytes()
	})
	show("a certificate of another attestation key", attest.SignatureInvalid, attest.CaseCertificate, func(x *exchange) {
		x.bundle.Certs = [][]byte{must[[]byte](t)(w.issuer.AK(other, "gw-1", ""))}
	})
	show("a certificate for another device", attest.AKNotBoundToDevice, attest.CaseCertificate, func(x *exchange) {
		x.bundle.Certs = [][]byte{must[[]byte](t)(w.issuer.AK(w.tpm, "gw-2", ""))}
	})
	show("a certificate for nobody", attest.AKNotBoundToDevice, attest.CaseCertificate, func(x *exchange) {
		x.bundle.Certs = [][]byte{must[[]byte](t)(w.issuer.AK(w.tpm, "", ""))}
	})
}

// TestNamedBy lets attestation key certificates through that name the device in
// any of the ways that count.
func TestNamedBy(t *testing.T) {
	w := newWorld(t, "p256", "p256", "p256")
	for says, row := range map[string]struct {
		permanent, serial string
		device            attest.Identity
	}{
		"permanentIdentifier":               {"gw-1", "", attest.Identity{ID: "gw-1"}},
		"permanentIdentifier with a serial": {"SN-1", "", attest.Identity{ID: "gw-1", Serial: "SN-1"}},
		"serialNumber":                      {"", "SN-1", attest.Identity{ID: "gw-1", Serial: "SN-1"}},
		"the register":                      {"", "", attest.Identity{ID: "gw-1", AKSHA256: spkiSHA256(w.tpm.AK)}},
	} {
		w.question.Device = row.device
		x := w.begin(t, attest.CaseCertificate)
		x.bundle.Certs = [][]byte{must[[]byte](t)(w.issuer.AK(w.tpm, row.permanent, row.serial))}
		if r, err := x.send(t); err != nil || !r.Attested() || r.AK.Anchor == "" {
			t.Errorf("%s: %v", says, err)
		}
		x.challenge.AKPublic = w.tpm.AK.Area.Bytes()
		if r, err := x.send(t); err != nil || !bytes.Equal(r.AK.Public, w.tpm.AK.Area.Bytes()) || r.AK.Anchor == "" {
			t.Errorf("%s, and named in the exchange: %v", says, err)
		}
	}
}

// TestNamedByEndorsementKey ties a certificate that names no device, but an
// endorsement key, to the device that has it.
func TestNamedByEndorsementKey(t *testing.T) {
	w := newWorld(t, "p256", "p256", "p256")
	ek := sha256.Sum256(w.tpm.EK.SPKI())
	cert := must[[]byte](t)(w.issuer.Sign(&x509.Certificate{
		KeyUsage: x509.KeyUsageDigitalSignature, UnknownExtKeyUsage: []asn1.ObjectIdentifier{{2, 23, 133, 8, 3}}, BasicConstraintsValid: true,
		URIs: []*url.URL{{Scheme: "urn", Opaque: "ek:sha256:" + base64.StdEncoding.EncodeToString(ek[:])}},
	}, w.tpm.AK.Private.Public()))
	for says, row := range map[string]struct {
		device attest.Identity
		bond   *attest.Bond
		want   attest.Reason
	}{
		"the register":         {device: attest.Identity{ID: "gw-1", EKSHA256: spkiSHA256(w.tpm.EK)}},
		"the bond":             {device: attest.Identity{ID: "gw-1"}, bond: &attest.Bond{EK: spkiSHA256(w.tpm.EK), AK: "another"}},
		"nobody":               {device: attest.Identity{ID: "gw-1"}, want: attest.AKNotBoundToDevice},
		"another in the bond":  {device: attest.Identity{ID: "gw-1", EKSHA256: spkiSHA256(w.tpm.EK)}, bond: &attest.Bond{EK: "another"}, want: attest.EKMismatch},
		"another of that name": {device: attest.Identity{ID: "gw-1", EKSHA256: "another", AKSHA256: spkiSHA256(w.tpm.AK)}, want: attest.EKMismatch},
	} {
		w.question.Device, w.question.Bond = row.device, row.bond
		x := w.begin(t, attest.CaseCertificate)
		x.bundle.Certs = [][]byte{cert}
		r, err := x.send(t)
		if row.want != "" {
			t.Run(says, func(t *testing.T) { refused(t, err, row.want) })
		} else if err != nil || r.EK.SHA256 != spkiSHA256(w.tpm.EK) {
			t.Errorf("%s: %+v, %v", says, r.EK, err)
		}
	}
}

// TestConfusedAlgorithms: the key decides how a signature is verified, whatever
// the signature says of itself, also where only a certificate tells of the key.
func TestConfusedAlgorithms(t *testing.T) {
	for kind, schemes := range map[string]map[uint16]bool{
		"rsa":  {forge.RSASSA: true, forge.RSAPSS: true, forge.ECDSA: false},
		"p256": {forge.RSASSA: false, forge.RSAPSS: false, forge.ECDSA: true},
	} {
		w := newWorld(t, "p256", kind, "p256")
		for scheme, fits := range schemes {
			w.tpm.AK.Area.Scheme = scheme
			x := w.begin(t, attest.CaseCertificate)
			if !fits && kind == "p256" {
				x.bundle.Certify.Signature = rsaLike(byte(scheme))
			} else if !fits {
				x.bundle.Certify.Signature = must[[]byte](t)(stranger(t).AK.SignAs(x.bundle.Certify.Attest, forge.ECDSA, forge.SHA256))
			}
			if _, err := x.send(t); fits && err != nil {
				t.Errorf("%s with scheme %#x: %v", kind, scheme, err)
			} else if !fits {
				refused(t, err, attest.AlgorithmNotAllowed)
			}
		}
	}
}

// TestNothing: what is not there proves nothing.
func TestNothing(t *testing.T) {
	w := newWorld(t, "p256", "p256", "p256")
	x := w.begin(t, attest.CaseActivation)
	_, err := w.Verify(t.Context(), nil, x.binding())
	refused(t, err, attest.EvidenceRequired)
	_, err = w.Verify(t.Context(), &attest.Evidence{}, attest.Binding{})
	refused(t, err, attest.NonceMissing)
	e := must[*attest.Evidence](t)(attest.ParseEvidence(x.bundle.DER()))
	b := x.binding()
	b.Challenge = attest.Challenge{Nonce: b.Challenge.Nonce, ExtraData: b.Challenge.Nonce}
	_, err = w.Verify(t.Context(), e, b)
	refused(t, err, attest.AKUntrusted)
	b = x.binding()
	b.SPKI = nil
	_, err = w.Verify(t.Context(), e, b)
	refused(t, err, attest.KeyMismatch)
}

// TestClone: of two copies of one TPM the one whose clock is behind is told, also
// if it makes itself another attestation key.
func TestClone(t *testing.T) {
	w := newWorld(t, "p256", "p256", "p256")
	original := w.tpm
	clone := original.Clone()
	original.Clock.Clock += 5000
	r, err := w.begin(t, attest.CasePinned).send(t)
	if err != nil {
		t.Fatal(err)
	}
	w.question.Bond = new(r.Next("gw-1", sha256.Sum256(w.tpm.Key.SPKI()), nil))
	w.tpm = clone
	_, err = w.begin(t, attest.CasePinned).send(t)
	refused(t, err, attest.ClockRollback)
	w.tpm.AK = stranger(t).AK
	_, err = w.begin(t, attest.CaseActivation).send(t)
	refused(t, err, attest.ClockRollback)
	x := w.begin(t, attest.CaseActivation)
	hide := func(_ *exchange, a *forge.Attest) { a.Signer, a.Clock.Firmware = a.Name, a.Clock.Firmware+7 }
	quoting(hide)(t, x)
	if _, err := x.send(t); err != nil {
		t.Errorf("counters that another key hides cannot be compared: %v", err)
	}
	w.tpm = original
	w.tpm.Reset()
	if _, err := w.begin(t, attest.CasePinned).send(t); err != nil {
		t.Errorf("after a reset: %v", err)
	}
}

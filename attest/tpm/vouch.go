package tpm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"

	"github.com/hallmark-pki/hallmark/attest"
)

const theAK = "the attestation key"

// vouch finds the attestation key and who vouches for it. Who was asked to
// activate a credential did so, or fails; a certificate comes next, then the key of the
// device's earlier evidence.
func (v *Verifier) vouch(ctx context.Context, p *proof) error {
	b := &p.binding
	switch {
	case b.Challenge.Activated:
		return p.byActivation()
	case len(p.evidence.Certs) > 0:
		return v.byCertificate(ctx, p)
	case b.Bond != nil && len(b.Bond.AKPublic) > 0:
		return v.byBond(p)
	}
	return refuse(attest.AKUntrusted, "nobody vouches for the attestation key: send its certificate, or akPub and ekPub (and ekCerts) when asking for the nonce")
}

// byActivation is case C, or E where the endorsement key came without a certificate.
func (p *proof) byActivation() error {
	c := &p.binding.Challenge
	p.result.Case, p.result.EK = attest.CaseActivation, c.EK
	if c.EK.Certificate == "" {
		p.result.Case = attest.CaseRegistered
	}
	return p.useArea(c.AKPublic)
}

// byBond is case B. The exchange may have named the key; it has to be the one pinned.
func (v *Verifier) byBond(p *proof) error {
	bond := p.binding.Bond
	if named := p.binding.Challenge.AKPublic; named != nil && !same(named, bond.AKPublic) {
		return refuse(attest.AKUntrusted, "the attestation key is not the one that this device enrolled with; send ekPub (and ekCerts) beside akPub when asking for the nonce, so that the TPM can vouch for it")
	}
	p.result.Case = attest.CasePinned
	// Whether to believe this endorsement key was decided when the bond was made.
	p.result.EK = attest.EndorsementKey{SHA256: bond.EK, Trusted: bond.EK != "",
		Manufacturer: bond.TPM.Manufacturer, Model: bond.TPM.Model, Version: bond.TPM.Version}
	return p.useArea(bond.AKPublic)
}

// byCertificate is case A: the certificate's issuer vouches for the key's
// attributes, and for the device by a name in it. Where the exchange named the key, too, it is
// the same one, and can be pinned.
func (v *Verifier) byCertificate(ctx context.Context, p *proof) error {
	cert, err := v.Trust.AK(ctx, p.binding.Profile, p.evidence.Certs, p.result.AppraisedAt)
	if err != nil {
		return err
	}
	if err := checkCertified(cert.Public); err != nil {
		return err
	}
	sum := sha256.Sum256(cert.SPKI)
	p.result.Case = attest.CaseCertificate
	p.ak.public = cert.Public
	p.result.AK = attest.AttestationKey{SHA256: hex.EncodeToString(sum[:]), Anchor: cert.Anchor}
	if cert.EKSHA256 != "" {
		// The issuer saw it; that is what its anchor is trusted for.
		p.result.EK = attest.EndorsementKey{SHA256: cert.EKSHA256, Trusted: true}
	}
	if err := p.checkNamed(cert); err != nil {
		return err
	}
	named := p.binding.Challenge.AKPublic
	if named == nil {
		return nil
	}
	certified, anchor := p.result.AK.SHA256, p.result.AK.Anchor
	if err := p.useArea(named); err != nil {
		return err
	}
	if p.result.AK.SHA256 != certified {
		return refuse(attest.AKUntrusted, "the certificate is of another attestation key than akPub in the nonce exchange")
	}
	p.result.AK.Anchor = anchor
	return nil
}

// checkCertified holds the key of a certificate to the sizes that parseArea takes.
func checkCertified(public crypto.PublicKey) error {
	switch public := public.(type) {
	case *rsa.PublicKey:
		if bits := public.N.BitLen(); bits == 2048 || bits == 3072 || bits == 4096 {
			return nil
		}
	case *ecdsa.PublicKey:
		if public.Curve == elliptic.P256() || public.Curve == elliptic.P384() {
			return nil
		}
	}
	return notAllowed("the attestation key's certificate is of a key that is not RSA with 2048, 3072 or 4096 bits, nor ECC on P-256 or P-384")
}

// checkNamed ties the certificate to the device: by a name in it, else by the
// register's digest of the attestation key, else by the endorsement key that it names.
func (p *proof) checkNamed(cert AKCertificate) error {
	device := &p.binding.Device
	for _, name := range cert.Names {
		if name != "" && (name == device.ID || name == device.Serial) {
			return nil
		}
	}
	if device.AKSHA256 != "" && device.AKSHA256 == p.result.AK.SHA256 {
		return nil
	}
	if ek := cert.EKSHA256; ek != "" && (ek == device.EKSHA256 || p.binding.Bond != nil && ek == p.binding.Bond.EK) {
		return nil
	}
	return refuse(attest.AKNotBoundToDevice, "the attestation key's certificate names %q, not this device (id %q, serial %q); register its ak_sha256 %s or ek_sha256, or have it certified with the device's name",
		cert.Names, device.ID, device.Serial, p.result.AK.SHA256)
}

// useArea takes the attestation key from its public area.
func (p *proof) useArea(encoded []byte) error {
	a, err := parseAK(encoded)
	if err != nil {
		return err
	}
	public, spki, err := a.spki(theAK)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(spki)
	p.ak = signer{public: public, scheme: a.scheme}
	p.result.AK = attest.AttestationKey{Name: a.name(), Public: a.bytes, SHA256: hex.EncodeToString(sum[:])}
	return nil
}

// parseAK reads the public area of an attestation key.
func parseAK(encoded []byte) (*area, error) {
	a, err := parseArea(encoded, theAK)
	if err != nil {
		return nil, err
	}
	return a, checkAK(a)
}

// checkAK wants a key that was made in the TPM, cannot leave it, and signs
// nothing but what the TPM itself has to say.
func checkAK(a *area) error {
	if !a.attributes.has(made|restricted|sign) || a.attributes.any(decrypt) {
		return refuse(attest.AKAttributes, "the attestation key has attributes %#x; create it with fixedTPM, fixedParent, sensitiveDataOrigin, restricted and sign, and without decrypt", a.attributes)
	}
	allowed := []algorithm{algECDSA}
	if a.kind == algRSA {
		allowed = []algorithm{algRSASSA, algRSAPSS}
	}
	if !slices.Contains(allowed, a.scheme.id) {
		return notAllowed("the attestation key has signing scheme %s; use RSASSA, RSAPSS or ECDSA", a.scheme.id)
	}
	if a.scheme.hash.hash() == 0 {
		return notAllowed("the attestation key signs with hash algorithm %s; use SHA-256 or SHA-384", a.scheme.hash)
	}
	return nil
}

// checkDevice refuses another TPM than the one that the device first attested
// with, and another than the register says it has.
func (p *proof) checkDevice() error {
	ek, ak := p.result.EK.SHA256, p.result.AK.SHA256
	if bond := p.binding.Bond; bond != nil && differs(ek, bond.EK, ak, bond.AK) {
		return otherTPM(p.binding.Device.ID)
	}
	device := &p.binding.Device
	if differs(ek, device.EKSHA256, ak, device.AKSHA256) {
		return refuse(attest.EKMismatch, "this is not the TPM that the register lists for device %q: it has endorsement key %s and attestation key %s", device.ID, orNone(ek), orNone(ak))
	}
	return nil
}

// differs tells two TPMs apart: by their endorsement keys where both are
// known, else by the attestation keys. A side that knows nothing differs from none.
func differs(ek, otherEK, ak, otherAK string) bool {
	if ek != "" && otherEK != "" {
		return ek != otherEK
	}
	return otherAK != "" && ak != "" && ak != otherAK
}

func otherTPM(device string) error {
	return refuse(attest.EKMismatch, "this is not the TPM that device %q attested with before; if the board was replaced, an operator lifts the binding first", device)
}

func orNone(digest string) string {
	if digest == "" {
		return "none"
	}
	return digest
}

// firmware returns the TPM's firmware version, or 0 where the TPM hides it:
// it does from keys outside the endorsement and platform hierarchies (Part 1, Section 36.7). A
// primary key's qualified Name tells which hierarchy it is in.
func (p *proof) firmware() uint64 {
	name := p.result.AK.Name
	if len(name) < 2 {
		return 0
	}
	for _, hierarchy := range []uint32{0x4000000b, 0x4000000c} { // TPM_RH_ENDORSEMENT, TPM_RH_PLATFORM
		h := algorithm(binary.BigEndian.Uint16(name)).hash().New()
		h.Write(binary.BigEndian.AppendUint32(nil, hierarchy))
		h.Write(name)
		if len(p.signer) > 2 && bytes.Equal(h.Sum(nil), p.signer[2:]) {
			return p.result.Clock.Firmware
		}
	}
	return 0
}

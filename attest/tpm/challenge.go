package tpm

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"

	"github.com/hallmark-pki/hallmark/attest"
)

// Question is what a device brings to a nonce exchange.
type Question struct {
	Profile  string   // whose anchors count
	Length   int      // of the nonce, in octets; 0 means 32
	Bank     string   // of the registers to quote: sha256 or sha384
	PCRs     []int    // to quote; none: no quote
	AKPublic []byte   // TPMT_PUBLIC of the attestation key; nil if not named
	EKPublic []byte   // TPMT_PUBLIC of the endorsement key; asks for an activation
	EKCerts  [][]byte // DER, leaf first, padded or not; none: the register has to know the key
	Device   attest.Identity
	Bond     *attest.Bond // what the device attested with before; nil if it never did
}

// Activation is a secret that one TPM can open, for an attestation key that
// lives in it.
type Activation struct {
	CredentialBlob  []byte // TPM2B_ID_OBJECT, with its size
	EncryptedSecret []byte // TPM2B_ENCRYPTED_SECRET, with its size
}

// Bounds of a nonce, in octets (draft attestation-freshness).
const (
	minNonce = 8
	maxNonce = 64
)

// nonceSize is the size of nonces and of activation secrets, in octets. TPMs
// take 32 and more as qualifying data, and no secret longer than the digest of the endorsement
// key's nameAlg.
const nonceSize = 32

const theEK = "the endorsement key"

// Challenge makes a nonce and, for a device that names both its attestation key and its
// endorsement key, a credential that only the TPM with both can open. The Activation is nil
// otherwise. Errors are refusals as those of Verify: what is wrong with a key is said
// here, before the device goes to the work of a quote.
func (v *Verifier) Challenge(ctx context.Context, q Question) (attest.Challenge, *Activation, error) {
	c, secret, err := newChallenge(&q)
	if err != nil {
		return attest.Challenge{}, nil, err
	}
	ak, ek, err := q.keys()
	if err != nil {
		return attest.Challenge{}, nil, err
	}
	if ak == nil {
		return c, nil, nil
	}
	c.AKPublic = ak.bytes
	if ek == nil {
		return c, nil, nil
	}
	if err := v.appraiseEK(ctx, &q, ek, &c); err != nil {
		return attest.Challenge{}, nil, err
	}
	activation, err := makeCredential(ek, ak.name(), secret)
	if err != nil {
		return attest.Challenge{}, nil, err
	}
	sum := sha256.Sum256(slices.Concat(c.Nonce, secret))
	c.ExtraData, c.Activated = sum[:], true
	return c, activation, nil
}

// newChallenge makes a nonce, and a secret for an activation.
func newChallenge(q *Question) (c attest.Challenge, secret []byte, err error) {
	if len(q.PCRs) > 0 && banks[q.Bank] == 0 {
		return c, nil, fmt.Errorf("attest/tpm: a challenge for PCR bank %q", q.Bank)
	}
	length := q.Length
	if length == 0 {
		length = nonceSize
	}
	if length < minNonce || length > maxNonce {
		return c, nil, malformed("a nonce has %d to %d bytes, and %d were asked for", minNonce, maxNonce, length)
	}
	random := make([]byte, length+nonceSize)
	if _, err := rand.Read(random); err != nil {
		return c, nil, fmt.Errorf("making a nonce: %w", err)
	}
	nonce := random[:length:length]
	return attest.Challenge{Nonce: nonce, ExtraData: nonce, Bank: q.Bank, PCRs: slices.Compact(slices.Sorted(slices.Values(q.PCRs)))}, random[length:], nil
}

// keys reads the keys that the device names: none, the attestation key, or both.
func (q *Question) keys() (ak, ek *area, err error) {
	if len(q.AKPublic) == 0 {
		if len(q.EKPublic) > 0 || len(q.EKCerts) > 0 {
			return nil, nil, malformed("an activation needs akPub, too: send the TPMT_PUBLIC of the attestation key beside that of the endorsement key")
		}
		return nil, nil, nil
	}
	if ak, err = parseAK(q.AKPublic); err != nil {
		return nil, nil, err
	}
	if _, err := ak.key(theAK); err != nil {
		return nil, nil, err
	}
	if len(q.EKPublic) == 0 {
		if len(q.EKCerts) > 0 {
			return nil, nil, malformed("an activation needs ekPub, too: send the TPMT_PUBLIC of the endorsement key beside its certificate")
		}
		return ak, nil, nil
	}
	ek, err = parseEK(q.EKPublic)
	return ak, ek, err
}

// appraiseEK finds out what is known of the endorsement key. A device has one
// TPM: the one it attested with before, and the one that the register lists.
func (v *Verifier) appraiseEK(ctx context.Context, q *Question, ek *area, c *attest.Challenge) (err error) {
	public, err := ek.key(theEK)
	if err != nil {
		return err
	}
	c.EK, c.EKReasons, c.Advisories, err = v.Trust.EK(ctx, q.Profile, public, q.EKCerts, v.Now())
	if err != nil {
		return err
	}
	if q.Bond != nil && q.Bond.EK != "" && q.Bond.EK != c.EK.SHA256 {
		return otherTPM(q.Device.ID)
	}
	switch q.Device.EKSHA256 {
	case c.EK.SHA256:
		c.EK.Trusted = true
		c.EKReasons = slices.DeleteFunc(c.EKReasons, func(r attest.Reason) bool { return r == attest.EKUntrusted })
	case "":
		if !c.EK.Trusted && !slices.Contains(c.EKReasons, attest.EKUntrusted) {
			c.EKReasons = append(c.EKReasons, attest.EKUntrusted)
		}
	default:
		return refuse(attest.EKMismatch, "this is not the TPM that the register lists for device %q: it has endorsement key %s", q.Device.ID, c.EK.SHA256)
	}
	return nil
}

// parseEK reads the public area of an endorsement key: a storage key that the
// TPM uses for nothing but to open what is meant for it.
func parseEK(encoded []byte) (*area, error) {
	ek, err := parseArea(encoded, theEK)
	if err != nil {
		return nil, err
	}
	if !ek.attributes.has(made|restricted|decrypt) || ek.attributes.any(sign) {
		return nil, malformed("ekPub has attributes %#x, which are not those of an endorsement key (TCG EK Credential Profile, Annex B)", uint32(ek.attributes))
	}
	if ek.symmetric != algAES || ek.symMode != algCFB || ek.symBits != 128 && ek.symBits != 192 && ek.symBits != 256 {
		return nil, notAllowed("the endorsement key protects with %s-%d in mode %s; use AES-128, -192 or -256 in CFB mode", ek.symmetric, ek.symBits, ek.symMode)
	}
	if ek.scheme.id != algNull && (ek.scheme.id != algOAEP || ek.scheme.hash != ek.nameAlg) {
		return nil, notAllowed("the endorsement key has scheme %s; use a key made from a TCG template", ek.scheme)
	}
	return ek, nil
}

// MakeCredential does what TPM2_MakeCredential does: it encrypts secret, of up
// to 32 octets, so that only the TPM with this endorsement key can open it, and only while an
// object with this Name is loaded there. ekPublic is a TPMT_PUBLIC or TPM2B_PUBLIC. Errors are
// malformed_evidence and algorithm_not_allowed.
func MakeCredential(ekPublic, akName, secret []byte) (*Activation, error) {
	ek, err := parseEK(ekPublic)
	if err != nil {
		return nil, err
	}
	return makeCredential(ek, akName, secret)
}

func makeCredential(ek *area, akName, secret []byte) (*Activation, error) {
	key, err := tpm2.ImportEncapsulationKey(ek.forGoTPM())
	if err != nil {
		return nil, attest.RefuseBecause(attest.MalformedEvidence, "ekPub is not a key that a credential can be made for", err)
	}
	blob, encrypted, err := tpm2.CreateCredential(rand.Reader, key, akName, secret)
	if err != nil {
		return nil, attest.RefuseBecause(attest.MalformedEvidence, "no credential can be made for ekPub", err)
	}
	return &Activation{
		CredentialBlob:  sized(blob),
		EncryptedSecret: sized(encrypted),
	}, nil
}

// forGoTPM hands the area over to the module that knows credential protection.
func (a *area) forGoTPM() *tpm2.TPMTPublic {
	out := &tpm2.TPMTPublic{Type: tpm2.TPMAlgID(a.kind), NameAlg: tpm2.TPMAlgID(a.nameAlg)}
	symmetric := tpm2.TPMTSymDefObject{
		Algorithm: tpm2.TPMAlgAES,
		KeyBits:   tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, tpm2.TPMKeyBits(a.symBits)),
		Mode:      tpm2.NewTPMUSymMode(tpm2.TPMAlgAES, tpm2.TPMAlgCFB),
	}
	if a.kind == algRSA {
		out.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{Symmetric: symmetric, KeyBits: tpm2.TPMKeyBits(a.bits), Exponent: a.exponent})
		out.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: a.modulus})
		return out
	}
	curve := tpm2.TPMECCNistP256
	if a.bits == 384 {
		curve = tpm2.TPMECCNistP384
	}
	out.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{Symmetric: symmetric, CurveID: curve})
	out.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: a.x}, Y: tpm2.TPM2BECCParameter{Buffer: a.y}})
	return out
}

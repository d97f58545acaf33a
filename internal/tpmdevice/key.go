package tpmdevice

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// Algorithm is a kind of key that a TPM can make.
type Algorithm string

// The algorithms. Not every TPM makes every one of them; all make P256 and RSA2048.
const (
	P256    Algorithm = "p256"
	P384    Algorithm = "p384"
	RSA2048 Algorithm = "rsa2048"
	RSA3072 Algorithm = "rsa3072"
	RSA4096 Algorithm = "rsa4096"
)

// Key is a signing key that lives in a TPM. What is kept of it outside is its
// public part, and its private part wrapped by a key that never leaves that TPM; neither
// is a secret. A Key is a crypto.Signer; Public and PEM do not need the TPM.
type Key struct {
	tpm     *TPM
	parent  tpm2.TPMHandle    // the storage key above it: TPM_RH_OWNER, or persistent
	private tpm2.TPM2BPrivate // wrapped by that
	place   tpm2.TPMHandle    // instead of both: where it is persistent, or the hierarchy that derives it
	public  tpm2.TPM2BPublic
	verify  crypto.PublicKey
	name    tpm2.TPM2BName
}

// CreateAK derives the attestation key of an algorithm, which signs only what
// the TPM itself says. It is a primary key of the endorsement hierarchy: the TPM makes the same one
// every time, also after its owner has cleared it, and tells its counters and its
// firmware version to nobody but such keys (TPM 2.0 Library, Part 1, Section 36.7).
func (t *TPM) CreateAK(a Algorithm) (*Key, error) {
	template, err := signingTemplate(a, true)
	if err != nil {
		return nil, err
	}
	k := &Key{tpm: t, place: tpm2.TPMRHEndorsement}
	return k, t.visit(func(v *visit) error {
		made, err := v.derive(template)
		if err != nil {
			return unable(a, err)
		}
		return k.setPublic(made.OutPublic)
	})
}

// derive makes a primary key of the endorsement hierarchy.
func (v *visit) derive(template tpm2.TPMTPublic) (*tpm2.CreatePrimaryResponse, error) {
	made, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)},
		InPublic:      tpm2.New2B(template),
	}.Execute(v)
	if err != nil {
		return nil, hierarchy("endorsement", err)
	}
	v.keep(made.ObjectHandle, made.Name)
	return made, nil
}

// unable says where it is the algorithm that a TPM does not know.
func unable(a Algorithm, err error) error {
	for _, code := range []tpm2.TPMRC{tpm2.TPMRCValue, tpm2.TPMRCCurve, tpm2.TPMRCKeySize, tpm2.TPMRCHash} {
		if errors.Is(err, code) {
			return fmt.Errorf("%s: %w (%w)", a, ErrUnable, err)
		}
	}
	return fmt.Errorf("making a key: %w", err)
}

// CreateKey makes a device key: it signs anything, and can never leave the TPM.
func (t *TPM) CreateKey(a Algorithm) (*Key, error) {
	template, err := signingTemplate(a, false)
	if err != nil {
		return nil, err
	}
	k := &Key{tpm: t}
	return k, t.visit(func(v *visit) error {
		if k.parent, err = v.choosePlace(); err != nil {
			return err
		}
		parent, err := v.storageKey(k.parent)
		if err != nil {
			return err
		}
		made, err := tpm2.Create{ParentHandle: parent, InPublic: tpm2.New2B(template)}.Execute(v)
		if err != nil {
			return unable(a, err)
		}
		k.private = made.OutPrivate
		return k.setPublic(made.OutPublic)
	})
}

// setPublic derives what follows from the public area.
func (k *Key) setPublic(public tpm2.TPM2BPublic) error {
	area, err := public.Contents()
	if err != nil {
		return fmt.Errorf("reading a TPM key: %w", err)
	}
	name, err := tpm2.ObjectName(area)
	if err != nil {
		return fmt.Errorf("reading a TPM key: %w", err)
	}
	verify, err := publicKey(area)
	if err != nil {
		return fmt.Errorf("reading a TPM key: %w", err)
	}
	k.public, k.name, k.verify = public, *name, verify
	return nil
}

// publicKey is tpm2.Pub with ECDSA keys instead of ECDH ones.
func publicKey(area *tpm2.TPMTPublic) (crypto.PublicKey, error) {
	if area.Type != tpm2.TPMAlgECC {
		return tpm2.Pub(*area)
	}
	parameters, err := area.Parameters.ECCDetail()
	if err != nil {
		return nil, err
	}
	point, err := area.Unique.ECC()
	if err != nil {
		return nil, err
	}
	return tpm2.ECDSAPub(parameters, point)
}

// Public is an *ecdsa.PublicKey or an *rsa.PublicKey.
func (k *Key) Public() crypto.PublicKey { return k.verify }

// Area is the key's TPMT_PUBLIC.
func (k *Key) Area() []byte { return k.public.Bytes() }

// Name is the key's TPM Name: nameAlg and the digest of Area.
func (k *Key) Name() []byte { return k.name.Buffer }

// SHA256 is over the SubjectPublicKeyInfo, in lower-case hex: the key as a register names it.
func (k *Key) SHA256() string { return fingerprint(k.verify) }

func fingerprint(key crypto.PublicKey) string {
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(spki)
	return hex.EncodeToString(sum[:])
}

// Algorithm is what the key is, or "" if this package makes none like it.
func (k *Key) Algorithm() Algorithm {
	switch public := k.verify.(type) {
	case *ecdsa.PublicKey:
		return map[int]Algorithm{256: P256, 384: P384}[public.Params().BitSize]
	case *rsa.PublicKey:
		return map[int]Algorithm{2048: RSA2048, 3072: RSA3072, 4096: RSA4096}[public.N.BitLen()]
	}
	return ""
}

// Check finds out whether the key is one of this TPM: ErrForeignKey if it is not.
func (k *Key) Check() error {
	return k.tpm.visit(func(v *visit) error {
		_, err := v.load(k)
		return err
	})
}

// TPM is where the key lives.
func (k *Key) TPM() *TPM { return k.tpm }

// load puts the key into the TPM for this visit, and takes the storage key out
// again: three keys at once is all that a small TPM has room for.
func (v *visit) load(k *Key) (tpm2.AuthHandle, error) {
	switch k.place {
	case 0:
		return v.unwrap(k)
	case tpm2.TPMRHEndorsement:
		return v.deriveAgain(k)
	}
	return tpm2.AuthHandle{Handle: k.place, Name: k.name, Auth: tpm2.PasswordAuth(nil)}, nil
}

// deriveAgain finds out on the way whether it is still the same TPM.
func (v *visit) deriveAgain(k *Key) (tpm2.AuthHandle, error) {
	area, err := k.public.Contents()
	if err != nil {
		return tpm2.AuthHandle{}, err
	}
	template := *area
	template.Unique = blank(area.Type)
	made, err := v.derive(template)
	if err != nil {
		return tpm2.AuthHandle{}, fmt.Errorf("deriving a key: %w", err)
	}
	if !bytes.Equal(made.Name.Buffer, k.name.Buffer) {
		return tpm2.AuthHandle{}, ErrForeignKey
	}
	return tpm2.AuthHandle{Handle: made.ObjectHandle, Name: made.Name, Auth: tpm2.PasswordAuth(nil)}, nil
}

func (v *visit) unwrap(k *Key) (tpm2.AuthHandle, error) {
	before := len(v.loaded)
	parent, err := v.storageKey(k.parent)
	if err != nil {
		return tpm2.AuthHandle{}, err
	}
	loaded, err := tpm2.Load{ParentHandle: parent, InPrivate: k.private, InPublic: k.public}.Execute(v)
	if errors.Is(err, tpm2.TPMRCIntegrity) {
		err = fmt.Errorf("%w: %w", ErrForeignKey, err)
	}
	if flushed := v.flush(before); err == nil {
		err = flushed
	}
	if err != nil {
		return tpm2.AuthHandle{}, fmt.Errorf("loading a key: %w", err)
	}
	return v.keep(loaded.ObjectHandle, loaded.Name), nil
}

// KeyAt is the key that is persistent at a handle, such as an attestation key
// from the factory.
func (t *TPM) KeyAt(handle uint32) (*Key, error) {
	k := &Key{tpm: t, place: tpm2.TPMHandle(handle)}
	if handle>>24 != uint32(persistentFirst>>24) {
		return nil, fmt.Errorf("%#x is not a persistent handle: those begin with 0x81", handle)
	}
	return k, t.visit(func(v *visit) error {
		if there, err := v.has(k.place); err != nil || !there {
			return errors.Join(err, fmt.Errorf("%w: nothing is persistent at %#x", ErrAbsent, handle))
		}
		answer, err := tpm2.ReadPublic{ObjectHandle: k.place}.Execute(v)
		if err != nil {
			return fmt.Errorf("reading the key at %#x: %w", handle, err)
		}
		return k.setPublic(answer.OutPublic)
	})
}

// Persist makes the key permanent at a handle of the owner's, 0x81000000 to
// 0x817fffff, and returns it as the key there.
func (k *Key) Persist(handle uint32) (*Key, error) {
	there := *k
	there.place, there.private, there.parent = tpm2.TPMHandle(handle), tpm2.TPM2BPrivate{}, 0
	return &there, k.tpm.visit(func(v *visit) error {
		loaded, err := v.load(k)
		if err != nil {
			return err
		}
		_, err = tpm2.EvictControl{
			Auth:             tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
			ObjectHandle:     &tpm2.NamedHandle{Handle: loaded.Handle, Name: loaded.Name},
			PersistentHandle: there.place,
		}.Execute(v)
		if err != nil {
			return fmt.Errorf("making a key persistent at %#x: %w", handle, hierarchy("owner", err))
		}
		return nil
	})
}

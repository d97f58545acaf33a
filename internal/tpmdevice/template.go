package tpmdevice

import (
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// signingTemplate is a key that signs. Its use needs no password, so a lockout
// after somebody's wrong guesses does not concern it (noDA). A restricted key has
// to fix its scheme; another takes the one that the moment asks for.
func signingTemplate(a Algorithm, restricted bool) (tpm2.TPMTPublic, error) {
	t := tpm2.TPMTPublic{
		NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true,
			SignEncrypt: true, Restricted: restricted,
		},
	}
	switch a {
	case P256, P384:
		t.Type = tpm2.TPMAlgECC
		t.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, eccParameters(a, restricted))
	case RSA2048, RSA3072, RSA4096:
		t.Type = tpm2.TPMAlgRSA
		t.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, rsaParameters(a, restricted))
	default:
		return t, fmt.Errorf("a TPM does not make %q keys", string(a))
	}
	t.Unique = blank(t.Type)
	return t, nil
}

// blank is the unique field of a template.
func blank(kind tpm2.TPMAlgID) tpm2.TPMUPublicID {
	if kind == tpm2.TPMAlgRSA {
		return tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{})
	}
	return tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{})
}

func eccParameters(a Algorithm, restricted bool) *tpm2.TPMSECCParms {
	p := &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256}
	hash := tpm2.TPMAlgSHA256
	if a == P384 {
		p.CurveID, hash = tpm2.TPMECCNistP384, tpm2.TPMAlgSHA384
	}
	if restricted {
		p.Scheme = tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA,
			Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: hash})}
	}
	return p
}

func rsaParameters(a Algorithm, restricted bool) *tpm2.TPMSRSAParms {
	p := &tpm2.TPMSRSAParms{KeyBits: map[Algorithm]tpm2.TPMKeyBits{RSA2048: 2048, RSA3072: 3072, RSA4096: 4096}[a]}
	if restricted {
		p.Scheme = tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgRSASSA,
			Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA256})}
	}
	return p
}

// storageTemplate is the storage key that keys in a file hang below if their
// parent is TPM_RH_OWNER: the P-256 one of the TCG's provisioning guidance with an
// empty unique field ("ASN.1 Specification for TPM 2.0 Key Files", Section 3.1.8).
func storageTemplate() tpm2.TPMTPublic {
	t := tpm2.ECCSRKTemplate
	t.Unique = blank(tpm2.TPMAlgECC)
	return t
}

// persistentStorageKey is where the TCG's provisioning guidance has it.
const persistentStorageKey tpm2.TPMHandle = 0x81000001

// choosePlace is the parent for new keys: the persistent storage key if there
// is one, because making one takes a TPM long and needs the owner's consent.
func (v *visit) choosePlace() (tpm2.TPMHandle, error) {
	there, err := v.has(persistentStorageKey)
	if err != nil || !there {
		return tpm2.TPMRHOwner, err
	}
	answer, err := tpm2.ReadPublic{ObjectHandle: persistentStorageKey}.Execute(v)
	if err != nil {
		return 0, fmt.Errorf("reading the storage key: %w", err)
	}
	area, err := answer.OutPublic.Contents()
	if err != nil {
		return 0, fmt.Errorf("reading the storage key: %w", err)
	}
	if a := area.ObjectAttributes; !a.Restricted || !a.Decrypt || !a.FixedTPM || !a.UserWithAuth {
		return tpm2.TPMRHOwner, nil // something else stands there
	}
	return persistentStorageKey, nil
}

// storageKey is a parent, made for this visit where it is not persistent.
func (v *visit) storageKey(handle tpm2.TPMHandle) (tpm2.AuthHandle, error) {
	if handle != tpm2.TPMRHOwner {
		answer, err := tpm2.ReadPublic{ObjectHandle: handle}.Execute(v)
		if err != nil {
			return tpm2.AuthHandle{}, fmt.Errorf("the storage key at %#x that the key belongs to: %w", uint32(handle), err)
		}
		return tpm2.AuthHandle{Handle: handle, Name: answer.Name, Auth: tpm2.PasswordAuth(nil)}, nil
	}
	made, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		InPublic:      tpm2.New2B(storageTemplate()),
	}.Execute(v)
	if err != nil {
		return tpm2.AuthHandle{}, fmt.Errorf("making the storage key: %w", hierarchy("owner", err))
	}
	return v.keep(made.ObjectHandle, made.Name), nil
}

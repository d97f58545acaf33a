package tpmdevice

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// EK is an endorsement key: the identity of the TPM, which cannot sign.
type EK struct {
	Algorithm    Algorithm // RSA2048 or P256
	Area         []byte    // TPMT_PUBLIC
	Public       crypto.PublicKey
	Certificates [][]byte // DER, its own first, then what the TPM holds of its maker's chain; empty if it holds none
}

// SHA256 is over the SubjectPublicKeyInfo, in lower-case hex: ek_sha256 of a register.
func (e *EK) SHA256() string { return fingerprint(e.Public) }

// endorsement is one of the two kinds of endorsement key that every TPM can
// make (TCG EK Credential Profile, Section 2.2.1.4).
type endorsement struct {
	algorithm   Algorithm
	template    tpm2.TPMTPublic
	certificate tpm2.TPMHandle // NV index
	persistent  tpm2.TPMHandle // where firmware leaves it ready made, if it does
}

func endorsements() []endorsement {
	return []endorsement{
		{RSA2048, tpm2.RSAEKTemplate, 0x01c00002, 0x81010001},
		{P256, tpm2.ECCEKTemplate, 0x01c0000a, 0x81010002},
	}
}

// Where the maker's chain stands: certificates one after the other, running on
// from index to index (same document, Section 2.2.1.5).
const (
	chainFirst tpm2.TPMHandle = 0x01c00100
	chainLast  tpm2.TPMHandle = 0x01c001ff
)

// EK is the endorsement key of the algorithm, RSA2048 or P256, with its
// certificates. For the empty algorithm it is the first of the two that has a certificate, and the RSA one if none has.
func (t *TPM) EK(a Algorithm) (*EK, error) {
	var e *EK
	err := t.visit(func(v *visit) error {
		kind, err := v.chooseEndorsement(a)
		if err != nil {
			return err
		}
		handle, area, err := v.endorsementKey(kind)
		if err != nil {
			return err
		}
		if err := v.flush(0); err != nil {
			return err
		}
		e = &EK{Algorithm: kind.algorithm, Area: tpm2.Marshal(*area)}
		if e.Public, err = publicKey(area); err != nil {
			return fmt.Errorf("reading the endorsement key at %#x: %w", uint32(handle.Handle), err)
		}
		return v.endorsementCertificates(kind, e)
	})
	return e, err
}

func (v *visit) chooseEndorsement(a Algorithm) (endorsement, error) {
	for _, kind := range endorsements() {
		if a != "" {
			if kind.algorithm == a {
				return kind, nil
			}
			continue
		}
		if there, err := v.has(kind.certificate); err != nil || there {
			return kind, err
		}
	}
	if a != "" {
		return endorsement{}, fmt.Errorf("an endorsement key is %s or %s, not %s", RSA2048, P256, a)
	}
	return endorsements()[0], nil
}

// endorsementKey is the key itself: as firmware left it, or made again, which
// gives the same key every time.
func (v *visit) endorsementKey(kind endorsement) (tpm2.AuthHandle, *tpm2.TPMTPublic, error) {
	if there, err := v.has(kind.persistent); err != nil {
		return tpm2.AuthHandle{}, nil, err
	} else if there {
		answer, err := tpm2.ReadPublic{ObjectHandle: kind.persistent}.Execute(v)
		if err != nil {
			return tpm2.AuthHandle{}, nil, fmt.Errorf("reading the endorsement key: %w", err)
		}
		area, err := answer.OutPublic.Contents()
		if err == nil && isLike(area, &kind.template) {
			return tpm2.AuthHandle{Handle: kind.persistent, Name: answer.Name}, area, nil
		}
	}
	made, err := v.derive(kind.template)
	if err != nil {
		return tpm2.AuthHandle{}, nil, fmt.Errorf("endorsement key: %w", unable(kind.algorithm, err))
	}
	area, err := made.OutPublic.Contents()
	if err != nil {
		return tpm2.AuthHandle{}, nil, fmt.Errorf("making the endorsement key: %w", err)
	}
	return tpm2.AuthHandle{Handle: made.ObjectHandle, Name: made.Name}, area, nil
}

// isLike reports whether a key is one of a template: all but the key itself is equal.
func isLike(area, template *tpm2.TPMTPublic) bool {
	like := *area
	like.Unique = template.Unique
	return bytes.Equal(tpm2.Marshal(like), tpm2.Marshal(*template))
}

// endorsementCertificates reads the certificate and its chain.
func (v *visit) endorsementCertificates(kind endorsement, e *EK) error {
	stored, err := v.readNV(kind.certificate)
	if err != nil || stored == nil {
		return err
	}
	own := certificatesIn(stored)
	if len(own) == 0 {
		return fmt.Errorf("what stands at NV index %#x is not a certificate: %w", uint32(kind.certificate), ErrNoEKCertificate)
	}
	// What Go cannot parse (makers have had negative serial numbers) goes to the server as it is.
	if c, err := x509.ParseCertificate(own[0]); err == nil && fingerprint(c.PublicKey) != e.SHA256() {
		return fmt.Errorf("the certificate at NV index %#x is over another key than the TCG's template makes", uint32(kind.certificate))
	}
	e.Certificates = own[:1]
	chain, err := v.handles(chainFirst, uint32(chainLast-chainFirst)+1)
	if err != nil {
		return err
	}
	var run []byte
	for _, index := range chain {
		if index > chainLast {
			break
		}
		part, err := v.readNV(index)
		if err != nil {
			return err
		}
		run = append(run, part...)
	}
	e.Certificates = append(e.Certificates, certificatesIn(run)...)
	return nil
}

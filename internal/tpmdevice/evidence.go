package tpmdevice

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// Ask is what evidence has to show.
type Ask struct {
	ExtraData []byte   // carried by every statement: it makes them fresh
	Key       *Key     // to be certified as a key of this TPM; nil for no such statement
	Bank      string   // of PCRs: sha256 or sha384
	PCRs      []int    // to be quoted, ascending; none for no quote
	EventLog  []byte   // as the firmware wrote it; nil for none
	Certs     [][]byte // DER: of the attestation key or the endorsement key, with its chain
}

// Evidence makes statements with an attestation key, as the DER of an
// AttestationBundle (draft-ietf-lamps-csr-attestation).
func (t *TPM) Evidence(ak *Key, a Ask) ([]byte, error) {
	b := bundle{eventLog: a.EventLog, certs: a.Certs}
	err := t.visit(func(v *visit) error {
		signer, err := v.load(ak)
		if err != nil {
			return fmt.Errorf("attestation key: %w", err)
		}
		if a.Key != nil {
			if b.certify, err = v.certify(signer, a.Key, a.ExtraData); err != nil {
				return err
			}
		}
		if len(a.PCRs) > 0 {
			b.quote, err = v.quote(signer, a)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return b.der()
}

// statement is something that the TPM says, with what is needed to check it.
type statement struct {
	attest    []byte // TPMS_ATTEST
	signature []byte // TPMT_SIGNATURE
	about     []byte // TPMT_PUBLIC of the key, or the values of the PCRs
}

func (v *visit) certify(signer tpm2.AuthHandle, k *Key, extraData []byte) (*statement, error) {
	key, err := v.load(k)
	if err != nil {
		return nil, err
	}
	answer, err := tpm2.Certify{ObjectHandle: key, SignHandle: signer,
		QualifyingData: tpm2.TPM2BData{Buffer: extraData}, InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull}}.Execute(v)
	if err != nil {
		return nil, fmt.Errorf("certifying the key: %w", err)
	}
	return &statement{answer.CertifyInfo.Bytes(), tpm2.Marshal(answer.Signature), k.Area()}, nil
}

// quote quotes registers together with their values. A measurement may come
// between the two readings; then both are done again.
func (v *visit) quote(signer tpm2.AuthHandle, a Ask) (*statement, error) {
	selection, err := selectPCRs(a.Bank, a.PCRs)
	if err != nil {
		return nil, err
	}
	for range 5 {
		answer, err := tpm2.Quote{SignHandle: signer, QualifyingData: tpm2.TPM2BData{Buffer: a.ExtraData},
			InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull}, PCRSelect: selection}.Execute(v)
		if err != nil {
			return nil, fmt.Errorf("quoting: %w", err)
		}
		values, err := v.readPCRs(a.Bank, a.PCRs)
		if err != nil {
			return nil, err
		}
		if fits, err := covers(answer, values); err != nil || fits {
			return &statement{answer.Quoted.Bytes(), tpm2.Marshal(answer.Signature), values}, err
		}
	}
	return nil, errors.New("the PCRs change faster than they can be quoted")
}

// covers reports whether a quote is of these values. The digest over them is of
// the signing key's hash.
func covers(answer *tpm2.QuoteResponse, values []byte) (bool, error) {
	attested, err := answer.Quoted.Contents()
	if err != nil {
		return false, fmt.Errorf("quoting: %w", err)
	}
	quoted, err := attested.Attested.Quote()
	if err != nil {
		return false, fmt.Errorf("quoting: %w", err)
	}
	of256, of384 := sha256.Sum256(values), sha512.Sum384(values)
	digest := quoted.PCRDigest.Buffer
	return bytes.Equal(digest, of256[:]) || bytes.Equal(digest, of384[:]), nil
}

// PCRs reads registers of a bank: their values, one after the other.
func (t *TPM) PCRs(bank string, indices []int) (values []byte, err error) {
	return values, t.visit(func(v *visit) error {
		values, err = v.readPCRs(bank, indices)
		return err
	})
}

// readPCRs asks until it has them all: a TPM gives eight at a time.
func (v *visit) readPCRs(bank string, indices []int) (values []byte, err error) {
	for len(indices) > 0 {
		n := min(8, len(indices))
		selection, err := selectPCRs(bank, indices[:n])
		if err != nil {
			return nil, err
		}
		answer, err := tpm2.PCRRead{PCRSelectionIn: selection}.Execute(v)
		if err != nil {
			return nil, fmt.Errorf("reading PCRs: %w", err)
		}
		if len(answer.PCRValues.Digests) != n {
			return nil, fmt.Errorf("the TPM's %s bank does not have PCRs %v", bank, indices[:n])
		}
		for _, d := range answer.PCRValues.Digests {
			values = append(values, d.Buffer...)
		}
		indices = indices[n:]
	}
	return values, nil
}

func selectPCRs(bank string, indices []int) (tpm2.TPMLPCRSelection, error) {
	hash := bankHash(bank)
	if hash == 0 {
		return tpm2.TPMLPCRSelection{}, fmt.Errorf("the server asks for PCRs of a bank %q, which this agent does not know", bank)
	}
	positions := make([]uint, len(indices))
	for i, index := range indices {
		if index < 0 || index > 23 || i > 0 && index <= indices[i-1] {
			return tpm2.TPMLPCRSelection{}, fmt.Errorf("the server asks for PCRs %v, which no TPM has in that order", indices)
		}
		positions[i] = uint(index)
	}
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
		{Hash: hash, PCRSelect: tpm2.PCClientCompatible.PCRs(positions...)}}}, nil
}

func bankHash(bank string) tpm2.TPMAlgID {
	switch bank {
	case "sha256":
		return tpm2.TPMAlgSHA256
	case "sha384":
		return tpm2.TPMAlgSHA384
	}
	return 0
}

// Banks lists the PCR banks that are in use and that a server may ask for.
func (t *TPM) Banks() (banks []string, err error) {
	return banks, t.visit(func(v *visit) error {
		answer, err := tpm2.GetCapability{Capability: tpm2.TPMCapPCRs, PropertyCount: 1}.Execute(v)
		if err != nil {
			return fmt.Errorf("listing the PCR banks: %w", err)
		}
		allocated, err := answer.CapabilityData.Data.AssignedPCR()
		if err != nil {
			return fmt.Errorf("listing the PCR banks: %w", err)
		}
		for _, name := range []string{"sha256", "sha384"} {
			for _, s := range allocated.PCRSelections {
				if s.Hash == bankHash(name) && !bytes.Equal(s.PCRSelect, make([]byte, len(s.PCRSelect))) {
					banks = append(banks, name)
				}
			}
		}
		return nil
	})
}

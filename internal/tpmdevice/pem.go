package tpmdevice

import (
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// The PEM types of a key: the file format that OpenSSL's TPM 2.0 providers read
// ("ASN.1 Specification for TPM 2.0 Key Files", Section 4), and one of our own for a
// key that the TPM keeps or derives by itself: SEQUENCE { place INTEGER, pubkey OCTET STRING },
// where place is a persistent handle, or TPM_RH_ENDORSEMENT for a primary key of that hierarchy
// by the template that pubkey (TPM2B_PUBLIC) is with an empty unique field.
const (
	pemLoadable = "TSS2 PRIVATE KEY"
	pemPlaced   = "HALLMARK TPM KEY"
)

// oidLoadableKey is id-loadablekey (same document, Section 3.1.1).
var oidLoadableKey = asn1.ObjectIdentifier{2, 23, 133, 10, 1, 3}

// IsKey reports whether a PEM block type is one of a TPM key.
func IsKey(pemType string) bool { return pemType == pemLoadable || pemType == pemPlaced }

// PEM is the key as a file. It is of no use without the TPM, so its protection
// is against loss rather than against theft.
func (k *Key) PEM() ([]byte, error) {
	var b cryptobyte.Builder
	kind := pemLoadable
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		if k.place != 0 {
			kind = pemPlaced
			b.AddASN1Int64(int64(k.place))
			b.AddASN1OctetString(tpm2.Marshal(k.public))
			return
		}
		b.AddASN1ObjectIdentifier(oidLoadableKey)
		b.AddASN1(casn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1Boolean(true) // emptyAuth
		})
		b.AddASN1Int64(int64(k.parent))
		b.AddASN1OctetString(tpm2.Marshal(k.public))
		b.AddASN1OctetString(tpm2.Marshal(k.private))
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("encoding a TPM key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), nil
}

// ParseKey reads what PEM wrote, or another tool that keeps to the same
// format and sets no password, as a key of the TPM t.
func ParseKey(t *TPM, text []byte) (*Key, error) {
	block, _ := pem.Decode(text)
	if block == nil || !IsKey(block.Type) {
		return nil, errors.New("there is no TPM key in PEM")
	}
	k := &Key{tpm: t}
	read := k.readLoadable
	if block.Type == pemPlaced {
		read = k.readPlaced
	}
	public, err := read(block.Bytes)
	if err != nil {
		return nil, err
	}
	area, err := unmarshal[tpm2.TPM2BPublic](public)
	if err != nil {
		return nil, errors.New("the TPM key's public area cannot be read")
	}
	return k, k.setPublic(*area)
}

func (k *Key) readLoadable(der []byte) (public cryptobyte.String, err error) {
	var kind asn1.ObjectIdentifier
	var private, ignored cryptobyte.String
	var parent uint32
	input := cryptobyte.String(der)
	if !input.ReadASN1(&input, casn1.SEQUENCE) || !input.ReadASN1ObjectIdentifier(&kind) {
		return nil, errors.New("the TPM key file is damaged")
	}
	if !kind.Equal(oidLoadableKey) {
		return nil, fmt.Errorf("the TPM key file is of kind %s, which this agent does not load", kind)
	}
	for tag := casn1.Tag(0); tag < 6; tag++ {
		there := input.PeekASN1Tag(tag.ContextSpecific().Constructed())
		if there && tag != 0 && tag != 4 { // emptyAuth and description change nothing
			return nil, errors.New("the TPM key file asks for a policy, a secret or a parent that this agent does not know")
		}
		if there && !input.ReadASN1(&ignored, tag.ContextSpecific().Constructed()) {
			return nil, errors.New("the TPM key file is damaged")
		}
	}
	if !input.ReadASN1Integer(&parent) || !input.ReadASN1(&public, casn1.OCTET_STRING) ||
		!input.ReadASN1(&private, casn1.OCTET_STRING) || !input.Empty() {
		return nil, errors.New("the TPM key file is damaged")
	}
	k.parent = tpm2.TPMHandle(parent)
	if k.parent != tpm2.TPMRHOwner && parent>>24 != uint32(persistentFirst>>24) {
		return nil, fmt.Errorf("the TPM key file names the parent %#x, which this agent does not know", parent)
	}
	wrapped, err := unmarshal[tpm2.TPM2BPrivate](private)
	if err != nil {
		return nil, errors.New("the TPM key's private area cannot be read")
	}
	k.private = *wrapped
	return public, nil
}

func (k *Key) readPlaced(der []byte) (public cryptobyte.String, err error) {
	var place uint32
	input := cryptobyte.String(der)
	if !input.ReadASN1(&input, casn1.SEQUENCE) || !input.ReadASN1Integer(&place) ||
		!input.ReadASN1(&public, casn1.OCTET_STRING) || !input.Empty() {
		return nil, errors.New("the TPM key file is damaged")
	}
	if k.place = tpm2.TPMHandle(place); k.place != tpm2.TPMRHEndorsement && place>>24 != uint32(persistentFirst>>24) {
		return nil, fmt.Errorf("the TPM key file names the place %#x, which this agent does not know", place)
	}
	return public, nil
}

// unmarshal is tpm2.Unmarshal, which by itself takes no notice of bytes too many.
func unmarshal[T tpm2.Marshallable, P interface {
	*T
	tpm2.Unmarshallable
}](b []byte) (*T, error) {
	v, err := tpm2.Unmarshal[T, P](b)
	if err != nil {
		return nil, err
	}
	if len(tpm2.Marshal(*v)) != len(b) {
		return nil, errors.New("there are bytes too many")
	}
	return v, nil
}

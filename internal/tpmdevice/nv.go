package tpmdevice

import (
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// readNV is what stands at an NV index, or nil if nothing does.
func (v *visit) readNV(index tpm2.TPMHandle) ([]byte, error) {
	if there, err := v.has(index); err != nil || !there {
		return nil, err
	}
	answer, err := tpm2.NVReadPublic{NVIndex: index}.Execute(v)
	if err != nil {
		return nil, fmt.Errorf("reading NV index %#x: %w", uint32(index), err)
	}
	public, err := answer.NVPublic.Contents()
	if err != nil {
		return nil, fmt.Errorf("reading NV index %#x: %w", uint32(index), err)
	}
	named := tpm2.NamedHandle{Handle: index, Name: answer.NVName}
	auth := tpm2.AuthHandle{Handle: index, Name: answer.NVName, Auth: tpm2.PasswordAuth(nil)}
	if !public.Attributes.AuthRead {
		auth = tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
	}
	step, err := v.property(tpm2.TPMPTNVBufferMax)
	if err != nil {
		return nil, err
	}
	content := make([]byte, 0, public.DataSize)
	for len(content) < int(public.DataSize) {
		size := min(public.DataSize-uint16(len(content)), uint16(step))
		part, err := tpm2.NVRead{AuthHandle: auth, NVIndex: named, Size: size, Offset: uint16(len(content))}.Execute(v)
		if err != nil {
			return nil, fmt.Errorf("reading NV index %#x: %w", uint32(index), hierarchy("owner", err))
		}
		if len(part.Data.Buffer) == 0 {
			break
		}
		content = append(content, part.Data.Buffer...)
	}
	return content, nil
}

// certificatesIn cuts a run of DER certificates into its parts. An NV index can
// be longer than what stands in it; the rest is padding.
func certificatesIn(run []byte) [][]byte {
	var found [][]byte
	input := cryptobyte.String(run)
	for {
		var one cryptobyte.String
		if !input.ReadASN1Element(&one, casn1.SEQUENCE) || len(one) < 64 {
			return found
		}
		found = append(found, one)
	}
}

package tpmdevice

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// About is what a TPM tells of itself, unproven.
type About struct {
	Manufacturer string // its TCG vendor id in letters, such as INTC
	Model        string // vendor string
	Firmware     string // version, as MAJOR.MINOR.BUILD.REVISION
	LockedOut    bool
	Passwords    []string // the hierarchies that have one: owner, endorsement
}

// About asks the TPM what it is.
func (t *TPM) About() (a About, err error) {
	return a, t.visit(func(v *visit) error {
		read := func(p tpm2.TPMPT) (value uint32) {
			if err == nil {
				value, err = v.property(p)
			}
			return value
		}
		a.Manufacturer = letters(read(tpm2.TPMPTManufacturer))
		a.Model = letters(read(tpm2.TPMPTVendorString1), read(tpm2.TPMPTVendorString2),
			read(tpm2.TPMPTVendorString3), read(tpm2.TPMPTVendorString4))
		high, low := read(tpm2.TPMPTFirmwareVersion1), read(tpm2.TPMPTFirmwareVersion2)
		a.Firmware = fmt.Sprintf("%d.%d.%d.%d", high>>16, high&0xffff, low>>16, low&0xffff)
		permanent := read(tpm2.TPMPTPermanent) // TPMA_PERMANENT (TPM 2.0 Library, Part 2, Section 8.6)
		if permanent&1 != 0 {
			a.Passwords = append(a.Passwords, "owner")
		}
		if permanent&2 != 0 {
			a.Passwords = append(a.Passwords, "endorsement")
		}
		a.LockedOut = permanent&(1<<9) != 0
		return err
	})
}

// letters is a value of four characters each, as TPMs tell their names.
func letters(values ...uint32) string {
	var text []byte
	for _, value := range values {
		text = binary.BigEndian.AppendUint32(text, value)
	}
	return string(bytes.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, bytes.TrimRight(text, "\x00 ")))
}

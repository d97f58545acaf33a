package forge

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"slices"
	"unicode/utf16"
)

// Types of events (TCG PC Client Platform Firmware Profile, Section 10.4.1).
const (
	NoAction          = 0x00000003
	Separator         = 0x00000004
	EventTag          = 0x00000006
	CRTMVersion       = 0x00000008
	IPL               = 0x0000000d
	VariableConfig    = 0x80000001
	VariableBoot      = 0x80000002
	BootApplication   = 0x80000003
	EFIAction         = 0x80000007
	VariableAuthority = 0x800000e0
)

// EventLog is a TCG2 crypto-agile event log of the banks sha256 and sha384, as firmware
// would write it while it boots.
type EventLog struct{ Entries []Entry }

// Entry is one entry of an event log.
type Entry struct {
	PCR     uint32
	Type    uint32
	Digests []Digest
	Data    []byte
}

// Digest is a digest of an entry, with the algorithm that it claims to be of.
type Digest struct {
	Algorithm uint16
	Bytes     []byte
}

// Measure extends the register with the digests of what, and logs it with
// data. Most types have the digest over the data itself: see Log.
func (l *EventLog) Measure(t *TPM, pcr int, kind uint32, what, data []byte) {
	t.Extend(pcr, what)
	l.Entries = append(l.Entries, Entry{PCR: uint32(pcr), Type: kind, Digests: digests(what), Data: data})
}

// Log extends the register with the digests of data, and logs it.
func (l *EventLog) Log(t *TPM, pcr int, kind uint32, data []byte) {
	l.Measure(t, pcr, kind, data, data)
}

// Boot measures what a machine with UEFI does: firmware version, secure boot, a boot
// loader and a kernel with its command line.
func (l *EventLog) Boot(t *TPM, firmware string, secureBoot bool, loader, kernel string) {
	l.Log(t, 0, CRTMVersion, utf16z(firmware))
	on := []byte{0}
	if secureBoot {
		on[0] = 1
	}
	l.Log(t, 7, VariableConfig, Variable("SecureBoot", on))
	for _, name := range []string{"PK", "KEK"} {
		l.Log(t, 7, VariableConfig, Variable(name, []byte("keys of the maker")))
	}
	for pcr := range 8 {
		l.Log(t, pcr, Separator, make([]byte, 4))
	}
	l.Measure(t, 4, BootApplication, []byte(loader), []byte(`\EFI\BOOT\BOOTX64.EFI`))
	l.Measure(t, 9, IPL, []byte(kernel), []byte("/boot/vmlinuz\x00"))
	l.Measure(t, 8, IPL, []byte("linux /boot/vmlinuz root=/dev/sda1"), []byte("grub_cmd: linux /boot/vmlinuz root=/dev/sda1\x00"))
	for _, action := range []string{"Exit Boot Services Invocation", "Exit Boot Services Returned with Success"} {
		l.Log(t, 5, EFIAction, []byte(action))
	}
}

func digests(what []byte) []Digest {
	short, long := sha256.Sum256(what), sha512.Sum384(what)
	return []Digest{{SHA256, short[:]}, {SHA384, long[:]}}
}

// Variable is a UEFI_VARIABLE_DATA in the namespace of the specification.
func Variable(name string, value []byte) []byte {
	units := utf16.Encode([]rune(name))
	b := []byte{0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c}
	b = binary.LittleEndian.AppendUint64(b, uint64(len(units)))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(value)))
	for _, u := range units {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return append(b, value...)
}

func utf16z(s string) []byte {
	var b []byte
	for _, u := range append(utf16.Encode([]rune(s)), 0) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

// SpecID is the data of the header entry: digests of these algorithms and sizes.
func SpecID(algorithms ...[2]uint16) []byte {
	b := append([]byte("Spec ID Event03\x00"), 0, 0, 0, 0, 0, 2, 0, 2)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(algorithms)))
	for _, a := range algorithms {
		b = binary.LittleEndian.AppendUint16(b, a[0])
		b = binary.LittleEndian.AppendUint16(b, a[1])
	}
	return append(b, 0)
}

// Bytes is the log as the firmware hands it over.
func (l *EventLog) Bytes() []byte {
	return append(LegacyEntry(0, NoAction, SpecID([2]uint16{SHA256, 32}, [2]uint16{SHA384, 48})), l.Body()...)
}

// Body is the log without its header.
func (l *EventLog) Body() []byte {
	var b []byte
	for _, e := range l.Entries {
		b = binary.LittleEndian.AppendUint32(b, e.PCR)
		b = binary.LittleEndian.AppendUint32(b, e.Type)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(e.Digests)))
		for _, d := range e.Digests {
			b = binary.LittleEndian.AppendUint16(b, d.Algorithm)
			b = append(b, d.Bytes...)
		}
		b = binary.LittleEndian.AppendUint32(b, uint32(len(e.Data)))
		b = append(b, e.Data...)
	}
	return b
}

// Clone returns a log that can be changed apart.
func (l *EventLog) Clone() *EventLog {
	c := &EventLog{Entries: slices.Clone(l.Entries)}
	for i := range c.Entries {
		e := &c.Entries[i]
		e.Data, e.Digests = slices.Clone(e.Data), slices.Clone(e.Digests)
		for j := range e.Digests {
			e.Digests[j].Bytes = slices.Clone(e.Digests[j].Bytes)
		}
	}
	return c
}

// LegacyEntry is an entry in the format of TPM 1.2, which the header is in, too.
func LegacyEntry(pcr, kind uint32, data []byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, pcr)
	b = binary.LittleEndian.AppendUint32(b, kind)
	b = append(b, make([]byte, 20)...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

package forge

import (
	"crypto/rand"
	_ "crypto/sha1" // a lie that has to be told
	"encoding/binary"
	"slices"

	"golang.org/x/crypto/cryptobyte"
)

// Clock is TPMS_CLOCK_INFO with the firmware version after it.
type Clock struct {
	Clock          uint64 // milliseconds
	Reset, Restart uint32
	Safe           bool
	Firmware       uint64
}

// Attest is a TPMS_ATTEST before it is encoded.
type Attest struct {
	Magic     uint32
	Type      uint16
	Signer    []byte // qualified Name
	ExtraData []byte
	Clock     Clock

	Name, Qualified []byte // certify

	Selections []Selection // quote
	Digest     []byte

	Trailing []byte // what comes after the end
}

// Selection is a TPMS_PCR_SELECTION.
type Selection struct {
	Bank   uint16
	Bitmap []byte
}

// Select selects registers of a bank, in the three octets that PCs use.
func Select(bank uint16, pcrs ...int) Selection {
	s := Selection{Bank: bank, Bitmap: make([]byte, 3)}
	for _, n := range pcrs {
		s.Bitmap[n/8] |= 1 << (n % 8)
	}
	return s
}

// qualified is the Name of a primary key in the endorsement hierarchy with that hierarchy in it.
func qualified(a *Area) []byte {
	h := digest(a.NameAlg, slices.Concat(binary.BigEndian.AppendUint32(nil, 0x4000000b), a.Name()))
	return append([]byte{byte(a.NameAlg >> 8), byte(a.NameAlg)}, h...)
}

func (t *TPM) attest(kind uint16, extra []byte) *Attest {
	t.Clock.Clock++
	return &Attest{Magic: Generated, Type: kind, Signer: qualified(&t.AK.Area), ExtraData: extra, Clock: t.Clock}
}

// Certify states that t.Key is in the TPM.
func (t *TPM) Certify(extra []byte) *Attest {
	a := t.attest(CertifyType, extra)
	a.Name, a.Qualified = t.Key.Area.Name(), qualified(&t.Key.Area)
	return a
}

// Quote states the values of registers.
func (t *TPM) Quote(extra []byte, bank string, pcrs []int) *Attest {
	a := t.attest(QuoteType, extra)
	a.Selections = []Selection{Select(bankAlgorithm(bank), pcrs...)}
	a.Digest = digest(t.AK.Area.Hash, t.Values(bank, pcrs))
	return a
}

// Bytes encodes the statement without a size before it.
func (a *Attest) Bytes() []byte {
	b := cryptobyte.NewBuilder(make([]byte, 0, 256))
	b.AddUint32(a.Magic)
	b.AddUint16(a.Type)
	addSized(b, a.Signer)
	addSized(b, a.ExtraData)
	b.AddUint64(a.Clock.Clock)
	b.AddUint32(a.Clock.Reset)
	b.AddUint32(a.Clock.Restart)
	safe := uint8(0)
	if a.Clock.Safe {
		safe = 1
	}
	b.AddUint8(safe)
	b.AddUint64(a.Clock.Firmware)
	if a.Type == QuoteType {
		b.AddUint32(uint32(len(a.Selections)))
		for _, s := range a.Selections {
			b.AddUint16(s.Bank)
			b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(s.Bitmap) })
		}
		addSized(b, a.Digest)
	} else {
		addSized(b, a.Name)
		addSized(b, a.Qualified)
	}
	b.AddBytes(a.Trailing)
	return b.BytesOrPanic()
}

// SignedBy signs the statement with the scheme of the key.
func (a *Attest) SignedBy(k *Key) (*Statement, error) {
	return a.SignedAs(k, k.Area.Scheme, k.Area.Hash)
}

// SignedAs signs the statement with a scheme and hash of choice.
func (a *Attest) SignedAs(k *Key, scheme, hash uint16) (*Statement, error) {
	encoded := a.Bytes()
	signature, err := k.SignAs(encoded, scheme, hash)
	if err != nil {
		return nil, err
	}
	return &Statement{Attest: encoded, Signature: signature}, nil
}

// Nonce returns random octets.
func Nonce(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return b
}

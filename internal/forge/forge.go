// Package forge is a TPM 2.0 in software that lies where it is told to. What it
// makes is built from structures whose every field can be set before they are encoded and
// signed, so that tests can show what each lie comes to; left alone, it makes what an honest TPM
// would. It is quick enough to play a fleet under load. It protects nothing.
package forge

import (
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"maps"
	"slices"
)

// Identifiers of the TPM 2.0 Library, Part 2 (TPM_ALG, TPM_ECC, TPM_ST).
const (
	RSA    = 0x0001
	SHA1   = 0x0004
	AES    = 0x0006
	SHA256 = 0x000b
	SHA384 = 0x000c
	SHA512 = 0x000d
	Null   = 0x0010
	RSASSA = 0x0014
	RSAPSS = 0x0016
	OAEP   = 0x0017
	ECDSA  = 0x0018
	ECDAA  = 0x001a
	ECC    = 0x0023
	CFB    = 0x0043

	P256 = 0x0003
	P384 = 0x0004

	Generated   = 0xff544347 // the magic number of every statement
	CertifyType = 0x8017
	QuoteType   = 0x8018
)

// Attributes of objects (TPMA_OBJECT).
const (
	FixedTPM            = 1 << 1
	FixedParent         = 1 << 4
	SensitiveDataOrigin = 1 << 5
	UserWithAuth        = 1 << 6
	AdminWithPolicy     = 1 << 7
	Restricted          = 1 << 16
	Decrypt             = 1 << 17
	Sign                = 1 << 18
)

// TPM is one TPM with the three keys that an enrolment takes.
type TPM struct {
	EK, AK, Key *Key
	Clock       Clock
	PCRs        map[string]map[int][]byte // by bank (sha256, sha384) and index; one that is missing is zero
}

// New returns a TPM with new keys of the kinds named: "p256", "p384" or "rsa".
// It has been reset twice and is honest.
func New(ek, ak, key string) (*TPM, error) {
	t := &TPM{Clock: Clock{Clock: 100_000, Reset: 2, Safe: true, Firmware: 0x0001_0002_0003_0004}, PCRs: map[string]map[int][]byte{"sha256": {}, "sha384": {}}}
	for _, made := range []struct {
		at   **Key
		kind string
		role Role
	}{{&t.EK, ek, Endorsement}, {&t.AK, ak, Attestation}, {&t.Key, key, Device}} {
		k, err := NewKey(made.kind, made.role)
		if err != nil {
			return nil, err
		}
		*made.at = k
	}
	return t, nil
}

// Clone returns a TPM with the same keys and a state of its own: a copy, as of
// a virtual machine.
func (t *TPM) Clone() *TPM {
	c := *t
	c.PCRs = map[string]map[int][]byte{}
	for bank, values := range t.PCRs {
		c.PCRs[bank] = maps.Clone(values)
	}
	return &c
}

// Extend extends a register in both banks with the digest of an event.
func (t *TPM) Extend(pcr int, event []byte) {
	short, long := sha256.Sum256(event), sha512.Sum384(event)
	next := sha256.Sum256(append(t.PCR("sha256", pcr), short[:]...))
	t.PCRs["sha256"][pcr] = next[:]
	nextLong := sha512.Sum384(append(t.PCR("sha384", pcr), long[:]...))
	t.PCRs["sha384"][pcr] = nextLong[:]
}

// Reset restarts the machine: registers are zero again, and the counters move on.
func (t *TPM) Reset() {
	t.PCRs = map[string]map[int][]byte{"sha256": {}, "sha384": {}}
	t.Clock.Reset, t.Clock.Restart, t.Clock.Clock = t.Clock.Reset+1, 0, t.Clock.Clock+1000
}

// PCR returns a register's value; the caller may change it.
func (t *TPM) PCR(bank string, n int) []byte {
	if value, ok := t.PCRs[bank][n]; ok {
		return slices.Clone(value)
	}
	return make([]byte, bankSize(bank))
}

func bankSize(bank string) int {
	if bank == "sha384" {
		return 48
	}
	return 32
}

func bankAlgorithm(bank string) uint16 {
	if bank == "sha384" {
		return SHA384
	}
	return SHA256
}

// Evidence is honest evidence for t.Key: certify and quote by t.AK with the
// same extraData, and the values quoted. Without registers there is no quote.
func (t *TPM) Evidence(extra []byte, bank string, pcrs []int) (*Bundle, error) {
	certify, err := t.Certify(extra).SignedBy(t.AK)
	if err != nil {
		return nil, err
	}
	certify.Third = t.Key.Area.Bytes()
	b := &Bundle{Certify: certify}
	if len(pcrs) == 0 {
		return b, nil
	}
	if b.Quote, err = t.Quote(extra, bank, pcrs).SignedBy(t.AK); err != nil {
		return nil, err
	}
	b.Quote.Third = t.Values(bank, pcrs)
	return b, nil
}

// Values are registers as they are sent with a quote, in the order of pcrs.
func (t *TPM) Values(bank string, pcrs []int) []byte {
	var out []byte
	for _, n := range pcrs {
		out = append(out, t.PCR(bank, n)...)
	}
	return out
}

// ExtraData is what statements carry after an activation: SHA-256(nonce ‖ secret).
func ExtraData(nonce, secret []byte) []byte {
	sum := sha256.Sum256(slices.Concat(nonce, secret))
	return sum[:]
}

func errKind(kind string) error { return fmt.Errorf("forge: no key of kind %q", kind) }

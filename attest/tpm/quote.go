package tpm

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/hallmark-pki/hallmark/attest"
)

// banks are the PCR banks that may be asked for.
var banks = map[string]algorithm{"sha256": algSHA256, "sha384": algSHA384}

// quote checks that the registers asked for, all of them and no others, have
// the values sent (CVE-2022-0317: what the signature does not cover is not believed).
func (p *proof) quote() error {
	c := &p.binding.Challenge
	q := p.evidence.Quote
	if q == nil {
		if len(c.PCRs) > 0 {
			return refuse(attest.PCRSelection, "the evidence has no quote; quote registers %s of bank %s", list(c.PCRs), c.Bank)
		}
		return nil
	}
	s, err := p.read(q, attestQuote, "quote")
	if err != nil {
		return err
	}
	if !bytes.Equal(s.extraData, c.ExtraData) {
		if c.Activated && bytes.Equal(s.extraData, c.Nonce) {
			return notActivated("quote")
		}
		return refuse(attest.QuoteStale, "the quote does not carry this exchange's value (%s); ask for a nonce and quote again", p.expected())
	}
	if err := checkSelection(s.selections, c); err != nil {
		return err
	}
	values, err := splitValues(q.Values, c)
	if err != nil {
		return err
	}
	if err := checkDigest(s, q.Values); err != nil {
		return err
	}
	p.result.Fresh, p.result.Clock, p.signer = true, s.clock, s.signer
	if len(c.PCRs) > 0 {
		p.result.PCR = attest.PCRs{Bank: c.Bank, Values: values, Digest: s.digest}
	}
	return nil
}

// checkSelection wants one bank, the one asked for, and in it exactly the
// registers asked for.
func checkSelection(got []selection, c *attest.Challenge) error {
	var want [maxBitmap]byte
	for _, n := range c.PCRs {
		if n < 0 || n >= 8*maxBitmap {
			return fmt.Errorf("attest/tpm: the challenge asks for register %d", n)
		}
		want[n/8] |= 1 << (n % 8)
	}
	bank, known := banks[c.Bank]
	if len(c.PCRs) == 0 && len(got) == 0 {
		return nil
	}
	var have [maxBitmap]byte
	if len(got) == 1 {
		copy(have[:], got[0].bitmap)
	}
	if !known || len(got) != 1 || got[0].bank != bank || have != want {
		return refuse(attest.PCRSelection, "the quote is of %s; quote registers %s of bank %s and no others", describe(got), list(c.PCRs), c.Bank)
	}
	return nil
}

// splitValues cuts the raw values apart.
func splitValues(raw []byte, c *attest.Challenge) (map[int][]byte, error) {
	size := banks[c.Bank].size()
	if len(raw) != len(c.PCRs)*size {
		return nil, refuse(attest.PCRDigest, "the quote comes with %d bytes of register values; send %d values of %d bytes each, ascending, with nothing between them", len(raw), len(c.PCRs), size)
	}
	values := make(map[int][]byte, len(c.PCRs))
	for i, n := range slices.Sorted(slices.Values(c.PCRs)) {
		values[n] = raw[i*size : (i+1)*size]
	}
	return values, nil
}

// checkDigest wants the quoted digest to be that of the values, by the hash
// function of the signature (Part 3, TPM2_Quote).
func checkDigest(s *statement, values []byte) error {
	h := s.hash.New()
	h.Write(values)
	if !bytes.Equal(h.Sum(nil), s.digest) {
		return refuse(attest.PCRDigest, "the register values sent are not those quoted; read them again right before or after the quote, in the bank quoted")
	}
	return nil
}

// describe says what a quote selected, for a refusal.
func describe(got []selection) string {
	var parts []string
	for _, s := range got {
		var registers []int
		for n := range 8 * len(s.bitmap) {
			if s.bitmap[n/8]&(1<<(n%8)) != 0 {
				registers = append(registers, n)
			}
		}
		parts = append(parts, fmt.Sprintf("registers %s of bank %s", list(registers), s.bank))
	}
	if len(parts) == 0 {
		return "no registers"
	}
	return strings.Join(parts, " and ")
}

func list(registers []int) string {
	if len(registers) == 0 {
		return "none"
	}
	return strings.ReplaceAll(strings.Trim(fmt.Sprint(registers), "[]"), " ", ",")
}

package ca

import (
	"testing"
)

// TestSerials draws 10,000 serial numbers: positive, at most 20 octets in DER,
// all different, and with 128 bits that are each set about half the time. That
// the topmost is, too, is what 63-bit serial numbers would fail.
func TestSerials(t *testing.T) {
	const n = 10_000
	var set [128]int
	seen := map[string]bool{}
	shards := map[int]int{}
	for range n {
		s := newSerial()
		if s.Sign() <= 0 || s.BitLen() > 128 || s.BitLen()/8+1 > 20 {
			t.Fatalf("serial number %x", s)
		}
		text := SerialText(s)
		if len(text)%2 != 0 || seen[text] {
			t.Fatalf("serial number %s", text)
		}
		seen[text] = true
		for i := range set {
			set[i] += int(s.Bit(i))
		}
		shards[CRLShard(s, 8)]++
	}
	for i, count := range set {
		if count < n*46/100 || count > n*54/100 { // eight standard deviations
			t.Errorf("bit %d is set in %d of %d", i, count, n)
		}
	}
	if len(shards) != 8 || shards[0] < n/8*80/100 {
		t.Errorf("shards %v", shards)
	}
}

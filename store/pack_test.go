package store

import (
	"bytes"
	"testing"
)

// FuzzUnpack: whatever stands in the database, unpack returns an error or what
// can be packed again, and never a great deal.
func FuzzUnpack(f *testing.F) {
	p, err := newPacker()
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(p.close)
	leaf := []byte(`{"action":"certificate.issue","actor":{"id":"d1","type":"device"},"v":1}`)
	f.Add(p.packLeaf(leaf))
	f.Add(p.packCertificate(certificateParts))
	f.Add(append([]byte{packedRaw}, leaf...))
	f.Add([]byte{})
	f.Add([]byte{99, 1, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		plain, err := p.unpack(b)
		if err != nil {
			return
		}
		if len(plain) > largestUnpacked && len(plain) > len(b) {
			t.Fatalf("%d bytes became %d", len(b), len(plain))
		}
		for _, packed := range [][]byte{p.packLeaf(plain), p.packCertificate(plain)} {
			if len(packed) > len(plain)+1 {
				t.Fatalf("%d bytes were packed to %d", len(plain), len(packed))
			}
			again, err := p.unpack(packed)
			if err != nil || !bytes.Equal(again, plain) {
				t.Fatalf("packed and unpacked: %v", err)
			}
		}
	})
}

// TestOldPackings: what was ever written stays readable. These bytes come from
// a database; if this test fails, a dictionary or a packing was changed instead of a new one added.
func TestOldPackings(t *testing.T) {
	p, err := newPacker()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	for packed, want := range oldPackings {
		got, err := p.unpack([]byte(packed))
		if err != nil || string(got) != want {
			t.Errorf("%x became %q, %v", packed, got, err)
		}
	}
}

var oldPackings = map[string]string{
	"\x00raw": "raw",
}

package store

import (
	"bytes"
	"encoding/hex"
	"testing"
)

// FuzzUnpack: whatever stands in the database, unpack returns an error or what
// can be packed again, and never a great deal.
func FuzzUnpack(f *testing.F) {
	p, err := newPacker()
	if err != nil {
		f.Fatal(err)
	}
	leaf := []byte(`{"action":"certificate.issue","actor":{"id":"d1","type":"device"},"v":1}`)
	f.Add(p.packLeaf(leaf))
	f.Add(p.packCertificate(certificateParts))
	f.Add(packPlain(leaf))
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
		for _, packed := range [][]byte{p.packLeaf(plain), p.packCertificate(plain), packPlain(plain)} {
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
	for packed, want := range oldPackings {
		got, err := p.unpack([]byte(packed))
		if err != nil || string(got) != want {
			t.Errorf("%x became %q, %v", packed, got, err)
		}
	}
}

var oldPackings = map[string]string{
	"\x00raw": "raw",
	hexed("03463c53706563204944204576656e743033203e10002c45565f534550415241544f52660d00"): "Spec ID Event03 Spec ID Event03 EV_SEPARATOR EV_SEPARATOR EV_SEPARATOR",
	hexed("01a001b6f70300314e7d002ecb033e830144011000112233445566778899aabbccddeeff56950101c11500081076223a317d"): `{"action":"certificate.issue","actor":{"id":"d1","type":"device"},` +
		`"decision":{"policy":"sha256:00112233445566778899aabbccddeeff","verdict":"allow"},"outcome":"granted","v":1}`,
	hexed("02a9020c05070302115232eb004c5e3dc38b86d559c3607020d8bc8ddeb564b08f071500054c6870a589939118ae2dd79d9db32ebc9a0db8053e150034003192eb0010766d3a3139aee5000100f043009792421d238bc7f540e364336887f8ded49ab7dde2ec4fb0144a6e1760638d4e022100ad1e6846ef04d52aa91124205c4696500a2d2d5d54bb85e46691bcda912f9ffd"): hexed("0507030206082b06010505070301301d0603551d0e041604145e3dc38b86d559c3607020d8bc8ddeb564b08f07301f0603551d230418301680146870a589939118ae2dd79d9db32ebc9a0db8053e303b0603551d110434303286307370696666653a2f2f68616c6c6d61726b2e696e7465726e616c2f6465766963652f6465766963652d30303030303031303a06082b06010505070101042e302c302a06082b06010505073002861e687474703a2f2f766d3a31393038302f63612f69737375696e672e63727430090603551d3804020500300a06082a8648ce3d04030203490030460221009792421d238bc7f540e364336887f8ded49ab7dde2ec4fb0144a6e1760638d4e022100ad1e6846ef04d52aa91124205c4696500a2d2d5d54bb85e46691bcda912f9ffd"),
}

func hexed(s string) string {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

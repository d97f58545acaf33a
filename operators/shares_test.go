package operators

import (
	"bytes"
	"strings"
	"testing"
)

func TestSplitAndJoin(t *testing.T) {
	key, err := NewBreakglassKey()
	if err != nil {
		t.Fatal(err)
	}
	a, b, err := Split(key, "s1")
	if err != nil {
		t.Fatal(err)
	}
	for _, pair := range [][2][]byte{{a, b}, {b, a}} {
		joined, seal, err := Join(pair[0], pair[1])
		if err != nil || seal != "s1" || !joined.Equal(key) {
			t.Errorf("joined to seal %q, %v; the key is there: %v", seal, err, err == nil && joined.Equal(key))
		}
	}
	secret, _ := key.Bytes()
	for _, half := range [][]byte{a, b} {
		_, _, raw, err := decodeShare(half)
		if err != nil || bytes.Equal(raw, secret) {
			t.Errorf("a half is the whole: %v", err)
		}
	}
	again, _, err := Split(key, "s1")
	if err != nil || bytes.Equal(again, a) {
		t.Errorf("cut the same way twice: %v", err)
	}
	otherA, otherB, err := Split(key, "s2")
	if err != nil {
		t.Fatal(err)
	}
	changed := func(text []byte, old, new string) []byte {
		return bytes.Replace(text, []byte(old), []byte(new), 1)
	}
	for name, c := range map[string]struct {
		a, b []byte
		says string
	}{
		"one half twice":   {a, a, "both files are share A"},
		"different seals":  {a, otherB, "different seals"},
		"a renamed half":   {changed(a, "Share: A", "Share: B"), a, "checksum"},
		"a half reclaimed": {changed(otherA, "Seal: s2", "Seal: s1"), b, "checksum"},
		"a cut half":       {a[:len(a)/2], b, "not a share"},
		"two in a file":    {append(bytes.Clone(a), b...), b, "not a share"},
		"nothing":          {nil, b, "not a share"},
		"a novel":          {bytes.Repeat([]byte("x"), maxShare+1), b, "larger"},
	} {
		if _, _, err := Join(c.a, c.b); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzJoin(f *testing.F) {
	key, err := NewBreakglassKey()
	if err != nil {
		f.Fatal(err)
	}
	a, b, err := Split(key, "s1")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(a, b)
	f.Add(a, a)
	f.Add([]byte("-----BEGIN HALLMARK BREAK-GLASS SHARE-----\n-----END HALLMARK BREAK-GLASS SHARE-----\n"), b)
	f.Fuzz(func(t *testing.T, one, other []byte) {
		key, _, err := Join(one, other)
		if err != nil {
			return
		}
		if _, _, err := Split(key, "x"); err != nil {
			t.Errorf("a key that was joined cannot be cut: %v", err)
		}
	})
}

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
	a, b, err := Split(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, pair := range [][2][]byte{{a, b}, {b, a}} {
		joined, err := Join(pair[0], pair[1])
		if err != nil || !joined.Equal(key) {
			t.Errorf("joined: %v; it is the key: %v", err, err == nil && joined.Equal(key))
		}
	}
	secret, _ := key.Bytes()
	for _, half := range [][]byte{a, b} {
		_, _, raw, err := decodeShare(half)
		if err != nil || bytes.Equal(raw, secret) {
			t.Errorf("a half is the whole: %v", err)
		}
	}
	again, _, err := Split(key)
	if err != nil || bytes.Equal(again, a) {
		t.Errorf("cut the same way twice: %v", err)
	}
	foreign, err := NewBreakglassKey()
	if err != nil {
		t.Fatal(err)
	}
	_, otherB, err := Split(foreign)
	if err != nil {
		t.Fatal(err)
	}
	_, name, _, err := decodeShare(a)
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
		"one half twice":    {a, a, "both files are share A"},
		"different keys":    {a, otherB, "different keys"},
		"a renamed half":    {changed(a, "Share: A", "Share: B"), a, "checksum"},
		"a half reclaimed":  {changed(a, name[:8], "00000000"), b, "checksum"},
		"a stranger's half": {a, encodeShare("B", name, bytes.Repeat([]byte{7}, keySize)), "another key"},
		"a cut half":        {a[:len(a)/2], b, "not a share"},
		"two in a file":     {append(bytes.Clone(a), b...), b, "not a share"},
		"nothing":           {nil, b, "not a share"},
		"a novel":           {bytes.Repeat([]byte("x"), maxShare+1), b, "larger"},
	} {
		if _, err := Join(c.a, c.b); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzJoin(f *testing.F) {
	key, err := NewBreakglassKey()
	if err != nil {
		f.Fatal(err)
	}
	a, b, err := Split(key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(a, b)
	f.Add(a, a)
	f.Add([]byte("-----BEGIN HALLMARK BREAK-GLASS SHARE-----\n-----END HALLMARK BREAK-GLASS SHARE-----\n"), b)
	f.Fuzz(func(t *testing.T, one, other []byte) {
		key, err := Join(one, other)
		if err != nil {
			return
		}
		if _, _, err := Split(key); err != nil {
			t.Errorf("a key that was joined cannot be cut: %v", err)
		}
	})
}

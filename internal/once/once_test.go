package once

import (
	"bytes"
	"strings"
	"testing"

	"github.com/hallmark-pki/hallmark/internal/fault"
)

const uuid = "8e03978e-40d5-43dd-bc93-6894a57f9324"

func key(t *testing.T, text, operator string) *Key {
	t.Helper()
	k, err := Parse([]string{text}, operator)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeysThatAreNone(t *testing.T) {
	for _, values := range [][]string{nil, {""}, {`""`}, {"short"}, {uuid, uuid}, {`"` + uuid}, {uuid + `"`}, {`"` + uuid + `";p=1`},
		{"0123456789 123456"}, {"0123456789\x00123456"}, {"0123456789é123456"}, {strings.Repeat("x", MaxKey+1)}, {uuid + "," + uuid}} {
		if _, err := Parse(values, "ann"); !fault.Is(err, fault.Malformed) {
			t.Errorf("%q: %v", values, err)
		}
	}
	if key(t, uuid, "ann").ID != key(t, `"`+uuid+`"`, "ann").ID {
		t.Error("quotes make another key")
	}
	if key(t, uuid, "ann").ID == key(t, uuid, "ben").ID {
		t.Error("two operators share a key")
	}
}

func TestAnAnswerIsForItsKeyAlone(t *testing.T) {
	k := key(t, uuid, "ann")
	secret := []byte("hmt_secret")
	sealed, err := k.Seal(Answer{Fingerprint: k.Fingerprint("POST", "/x", "", nil), Status: 201, Header: map[string]string{"Location": "/x"}, Body: secret})
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, secret) || bytes.Contains(sealed, []byte("Location")) {
		t.Error("what is kept can be read")
	}
	a, err := key(t, uuid, "ann").Open(sealed)
	if err != nil || a.Status != 201 || !bytes.Equal(a.Body, secret) || a.Header["Location"] != "/x" || a.Lost {
		t.Errorf("opened as %+v, %v", a, err)
	}
	for _, other := range []*Key{key(t, uuid, "ben"), key(t, uuid+"1", "ann")} {
		if _, err := other.Open(sealed); err == nil || strings.Contains(err.Error(), "hmt") {
			t.Errorf("opened with another key: %v", err)
		}
	}
	again, err := k.Seal(a)
	if err != nil || bytes.Equal(again, sealed) {
		t.Errorf("sealed twice alike, %v", err)
	}
	sealed[len(sealed)-1] ^= 1
	if _, err := k.Open(sealed); err == nil {
		t.Error("opened after a change")
	}
	large, err := k.Seal(Answer{Status: 200, Body: make([]byte, MaxAnswer+1)})
	if err != nil || len(large) > 1000 {
		t.Fatalf("%d bytes are kept of a large answer, %v", len(large), err)
	}
	if a, err := k.Open(large); err != nil || !a.Lost || a.Status != 200 {
		t.Errorf("a large answer is opened as %+v, %v", a, err)
	}
}

func TestAFingerprintIsOfOneCall(t *testing.T) {
	k := key(t, uuid, "ann")
	one := k.Fingerprint("POST", "/a?b", "text/csv", []byte("body"))
	if !Same(one, k.Fingerprint("POST", "/a?b", "text/csv", []byte("body"))) {
		t.Error("the same call has two fingerprints")
	}
	for _, other := range [][]byte{k.Fingerprint("PUT", "/a?b", "text/csv", []byte("body")), k.Fingerprint("POST", "/a?", "text/csv", []byte("body")),
		k.Fingerprint("POST", "/a?b", "", []byte("body")), k.Fingerprint("POST", "/a?b", "text/csv", nil), key(t, uuid, "ben").Fingerprint("POST", "/a?b", "text/csv", []byte("body"))} {
		if Same(one, other) {
			t.Error("two calls have one fingerprint")
		}
	}
}

// FuzzParse: whatever stands in the header, it is a key within the bounds or a call that is malformed.
func FuzzParse(f *testing.F) {
	for _, text := range []string{uuid, `"` + uuid + `"`, `"`, `""`, "0123456789abcdef;x", "\xff0123456789abcdef"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		k, err := Parse([]string{text}, "ann")
		if err != nil {
			if !fault.Is(err, fault.Malformed) {
				t.Error(err)
			}
			return
		}
		if len(text) < MinKey || len(text) > MaxKey+2 || k.ID == ([32]byte{}) {
			t.Errorf("%q is taken", text)
		}
	})
}

// FuzzOpen: what a store gives back is opened if it was sealed, and is an error otherwise.
func FuzzOpen(f *testing.F) {
	k, err := Parse([]string{uuid}, "ann")
	if err != nil {
		f.Fatal(err)
	}
	sealed, err := k.Seal(Answer{Status: 204})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add([]byte("x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, err := k.Open(b); err == nil && a.Status != 204 { // one that another process has sealed is as good
			t.Errorf("opened as %+v", a)
		}
	})
}

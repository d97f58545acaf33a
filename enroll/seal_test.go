package enroll

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hallmark-pki/hallmark/attest"
)

var testSecret = bytes.Repeat([]byte{7}, 32)

// largest is an exchange with the largest keys that are taken: an RSA-4096
// attestation key, and what an endorsement key's certificate says.
func largest() sealed {
	return sealed{Profile: strings.Repeat("p", 63), Device: strings.Repeat("d", 128), Until: time.Date(2026, 11, 24, 0, 5, 0, 0, time.UTC),
		Challenge: attest.Challenge{
			Nonce: bytes.Repeat([]byte{1}, 64), ExtraData: bytes.Repeat([]byte{2}, 64), Bank: bankSHA384,
			PCRs:     []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23},
			AKPublic: bytes.Repeat([]byte{3}, 560), Activated: true,
			EK: attest.EndorsementKey{SHA256: strings.Repeat("e", 64), Manufacturer: "id:494E5443", Model: strings.Repeat("m", 64),
				Version: "id:00020008", Anchor: strings.Repeat("a", 64), Trusted: true, Certificate: strings.Repeat("c", 64)},
			EKReasons: []attest.Reason{attest.EKUntrusted},
		}}
}

func TestSealAndUnseal(t *testing.T) {
	s := largest()
	text, err := s.seal(testSecret)
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := unseal(testSecret, text); !ok || !reflect.DeepEqual(got, s) {
		t.Errorf("got %+v, %v", got, ok)
	}
	if again, _ := s.seal(testSecret); again == text {
		t.Error("two exchanges look alike")
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r == ';' || r == '"' || r == ',' || r <= ' ' || r > '~' }) {
		t.Errorf("%q cannot stand in a cookie (RFC 6265, Section 4.1.1)", text)
	}
	if _, ok := unseal(bytes.Repeat([]byte{8}, 32), text); ok {
		t.Error("another secret opens it")
	}
	raw, _ := base64.RawURLEncoding.DecodeString(text)
	for i := range raw {
		raw[i] ^= 1
		if _, ok := unseal(testSecret, base64.RawURLEncoding.EncodeToString(raw)); ok {
			t.Fatalf("it opens with byte %d changed", i)
		}
		raw[i] ^= 1
	}
	for _, wrong := range []string{"", "AQ", text[:len(text)-1], text + "A", text + "=", " " + text, text[:10] + "\n" + text[10:], strings.Repeat(text, 3)} {
		if _, ok := unseal(testSecret, wrong); ok {
			t.Errorf("%q opens", wrong)
		}
	}
}

// Many advisories lose their words, not their force.
func TestSealKeepsAdvisories(t *testing.T) {
	s := largest()
	for i := range 10 {
		s.Challenge.Advisories = append(s.Challenge.Advisories, attest.Advisory{ID: fmt.Sprint("ADV-", i), Action: "deny", Says: strings.Repeat("very bad ", 100)})
	}
	text, err := s.seal(testSecret)
	if err != nil {
		t.Fatal(err)
	}
	got, ok := unseal(testSecret, text)
	if !ok || len(got.Challenge.Advisories) != 10 || got.Challenge.Advisories[9].ID != "ADV-9" || got.Challenge.Advisories[9].Action != "deny" {
		t.Errorf("got %+v", got.Challenge.Advisories)
	}
	if len(s.Challenge.Advisories[0].Says) == 0 {
		t.Error("the caller's advisories were changed")
	}
	for range 1000 {
		s.Challenge.Advisories = append(s.Challenge.Advisories, s.Challenge.Advisories[0])
	}
	if text, err := s.seal(testSecret); err == nil {
		t.Errorf("a cookie of %d bytes", len(text))
	}
}

// What a stranger sends does not open, whatever it is.
func FuzzUnseal(f *testing.F) {
	text, err := largest().seal(testSecret)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{text, text[:100], "", "AQ", strings.ToUpper(text)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, other string) {
		if _, ok := unseal(testSecret, other); ok && other != text {
			t.Errorf("%q opens", other)
		}
	})
}

func BenchmarkSealAndUnseal(b *testing.B) {
	s := largest()
	for b.Loop() {
		text, err := s.seal(testSecret)
		if err != nil {
			b.Fatal(err)
		}
		if _, ok := unseal(testSecret, text); !ok {
			b.Fatal("it does not open")
		}
	}
}

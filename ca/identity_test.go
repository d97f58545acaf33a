package ca_test

import (
	"bytes"
	"crypto/elliptic"
	"encoding/asn1"
	"strings"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

var hwType = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}

// otherName is [0] { oid, [0] value }.
func otherName(last int, value []byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(0xa0, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, last})
		b.AddASN1(0xa0, func(b *cryptobyte.Builder) { b.AddBytes(value) })
	})
	return b.BytesOrPanic()
}

func hardware(t asn1.ObjectIdentifier, serial string) []byte {
	return otherName(4, seq(func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(t); b.AddASN1OctetString([]byte(serial)) }))
}

// TestCheckNames has device A ask for B's name in every place that a request has for one.
func TestCheckNames(t *testing.T) {
	p := profiles()[1].WithDefaults()
	d := fleet.Device{ID: "dev-A", Serial: "SN A"}
	key := newKey(t, elliptic.P256())
	utf8 := func(s string) []byte { return text(casn1.UTF8String, s) }
	for says, c := range map[string]struct {
		subject []byte
		sans    [][]byte
		code    string
	}{
		"nothing":              {},
		"the id as CN":         {subject: name(part(3, utf8("dev-A")))},
		"the serial as CN":     {subject: name(part(3, utf8("SN A")))},
		"both, and where from": {subject: name(part(10, utf8("Any Corp")), part(3, utf8("dev-A")), part(5, utf8("SN A")))},
		"B as O is no name":    {subject: name(part(10, utf8("dev-B")), part(3, utf8("dev-A")))},
		"B as CN":              {subject: name(part(3, utf8("dev-B"))), code: "identity_mismatch"},
		"B as serialNumber":    {subject: name(part(5, utf8("dev-B"))), code: "identity_mismatch"},
		"A and B":              {subject: name(part(3, utf8("dev-A")), part(3, utf8("dev-B"))), code: "identity_mismatch"},
		"an empty CN":          {subject: name(part(3, utf8(""))), code: "identity_mismatch"},
		"A in another case":    {subject: name(part(3, utf8("DEV-A"))), code: "identity_mismatch"},
		"a homoglyph of A":     {subject: name(part(3, utf8("dev-А"))), code: "identity_mismatch"},
		"A and a blank":        {subject: name(part(3, utf8("dev-A "))), code: "identity_mismatch"},

		"its SPIFFE ID":             {sans: [][]byte{text(0x86, "spiffe://fleet.example/line/device/dev-A")}},
		"its hardware":              {sans: [][]byte{hardware(hwType, "SN A")}},
		"its permanent identifier":  {sans: [][]byte{otherName(3, seqOf(utf8("SN A")))}},
		"B's SPIFFE ID":             {sans: [][]byte{text(0x86, "spiffe://fleet.example/line/device/dev-B")}, code: "san_not_allowed"},
		"its own and B's":           {sans: [][]byte{text(0x86, "spiffe://fleet.example/line/device/dev-A"), text(0x86, "spiffe://fleet.example/line/device/dev-B")}, code: "san_not_allowed"},
		"a way up":                  {sans: [][]byte{text(0x86, "spiffe://fleet.example/line/device/x/../dev-A")}, code: "san_not_allowed"},
		"percent-encoded":           {sans: [][]byte{text(0x86, "spiffe://fleet.example/line/device/dev%2dA")}, code: "san_not_allowed"},
		"another trust domain":      {sans: [][]byte{text(0x86, "spiffe://other.example/line/device/dev-A")}, code: "san_not_allowed"},
		"B's hardware":              {sans: [][]byte{hardware(hwType, "SN B")}, code: "san_not_allowed"},
		"another kind of hardware":  {sans: [][]byte{hardware(asn1.ObjectIdentifier{1, 2, 3}, "SN A")}, code: "san_not_allowed"},
		"B's permanent identifier":  {sans: [][]byte{otherName(3, seqOf(utf8("dev-B")))}, code: "san_not_allowed"},
		"an empty permanent id":     {sans: [][]byte{otherName(3, []byte{0x30, 0})}, code: "san_not_allowed"},
		"another otherName":         {sans: [][]byte{otherName(5, utf8("dev-A"))}, code: "san_not_allowed"},
		"a DNS name":                {sans: [][]byte{text(0x82, "dev-A")}, code: "san_not_allowed"},
		"an address":                {sans: [][]byte{text(0x87, "\xc0\x00\x02\x01")}, code: "san_not_allowed"},
		"a mailbox":                 {sans: [][]byte{text(0x81, "a@b.example")}, code: "san_not_allowed"},
		"a directory name":          {sans: [][]byte{text(0xa4, string(name(part(3, utf8("dev-A")))))}, code: "san_not_allowed"},
		"a registered id":           {sans: [][]byte{text(0x88, "\x2a\x03")}, code: "san_not_allowed"},
		"an X.400 address":          {sans: [][]byte{{0xa3, 0}}, code: "san_not_allowed"},
		"an EDI party":              {sans: [][]byte{{0xa5, 0}}, code: "san_not_allowed"},
		"an empty permanent holder": {sans: [][]byte{otherName(3, seqOf(utf8("")))}, code: "san_not_allowed"},
	} {
		f := forgery{subject: c.subject}
		if c.sans != nil {
			f.attributes = extensionRequest(extension(17, seqOf(c.sans...)))
		}
		csr, err := ca.ParseCSR(f.der(t, key))
		if err != nil {
			t.Fatalf("%s: %v", says, err)
		}
		err = p.CheckNames(csr, d)
		if c.code == "" && err != nil || c.code != "" && (!fault.Is(err, fault.Denied) || fault.Of(err).Code != c.code) {
			t.Errorf("%s: got %v, want code %q", says, err, c.code)
		}
	}
	// A device without a maker's serial number is not called "".
	csr, err := ca.ParseCSR(forgery{subject: name(part(3, utf8("")))}.der(t, key))
	if err != nil {
		t.Fatal(err)
	}
	refused(t, p.CheckNames(csr, fleet.Device{ID: "dev-A"}), fault.Denied, "identity_mismatch")
}

// TestCheckRenewalNames renews with the names as they were, in other clothes, and with others.
func TestCheckRenewalNames(t *testing.T) {
	w := newWorld(t, nil)
	d := w.device(t, fleet.Device{ID: "dev-A", Serial: "SN A"})
	key := newKey(t, elliptic.P256())
	c, err := w.issue(t, d, key, "full")
	if err != nil {
		t.Fatal(err)
	}
	old := c.Parsed
	utf8 := func(s string) []byte { return text(casn1.UTF8String, s) }
	whole := func(o, cn, sn []byte) []byte { return name(part(10, o), part(3, cn), part(5, sn)) }
	for says, c := range map[string]struct {
		subject []byte
		sans    [][]byte
		change  bool
		code    string
	}{
		"no names":                {},
		"the same subject":        {subject: old.RawSubject},
		"re-encoded":              {subject: whole(text(casn1.T61String, "Beispiel & S\xf6hne"), utf8("dev-A"), utf8("dev-A"))},
		"other case and blanks":   {subject: whole(utf8("  beispiel &  SÖHNE "), utf8("dev-a"), utf8("dev-A"))},
		"decomposed letters":      {subject: whole(utf8("Beispiel & So\u0308hne"), utf8("dev-A"), utf8("dev-A"))},
		"only its CN":             {subject: name(part(3, utf8("dev-A")))},
		"only its maker's number": {subject: name(part(5, utf8("SN A")))},
		"its SPIFFE ID":           {sans: [][]byte{text(0x86, "spiffe://fleet.example/line/device/dev-A")}},
		"all its SANs, reversed":  {sans: [][]byte{hardware(hwType, "SN A"), text(0x86, "spiffe://fleet.example/line/device/dev-A")}},

		"another organisation": {subject: whole(utf8("Other"), utf8("dev-A"), utf8("dev-A")), code: "identity_mismatch"},
		"another order":        {subject: name(part(3, utf8("dev-A")), part(10, utf8("Beispiel & Söhne")), part(5, utf8("dev-A"))), code: "identity_mismatch"},
		"one RDN of three":     {subject: seqOf(append([]byte{0x31, byte(len(bytes.Join(rdn3(utf8), nil)))}, bytes.Join(rdn3(utf8), nil)...)), code: "identity_mismatch"},
		"a part more":          {subject: name(part(10, utf8("Beispiel & Söhne")), part(3, utf8("dev-A")), part(5, utf8("dev-A")), part(11, utf8("x"))), code: "identity_mismatch"},
		"B":                    {subject: name(part(3, utf8("dev-B"))), code: "identity_mismatch"},
		"A and B":              {subject: name(part(3, utf8("dev-A")), part(3, utf8("dev-B"))), code: "identity_mismatch"},
		"B's SPIFFE ID":        {sans: [][]byte{text(0x86, "spiffe://fleet.example/line/device/dev-B")}, code: "san_not_allowed"},
		"a DNS name more":      {sans: [][]byte{text(0x86, "spiffe://fleet.example/line/device/dev-A"), text(0x82, "dev-a")}, code: "san_not_allowed"},
		"a change of names":    {change: true, code: "name_change"},
	} {
		f := forgery{subject: c.subject}
		if c.sans != nil {
			f.attributes = extensionRequest(extension(17, seqOf(c.sans...)))
		}
		if c.change {
			f.attributes = append(f.attributes, attribute(oidChangeSubject, []byte{0x30, 0})...)
		}
		csr, err := ca.ParseCSR(f.der(t, key))
		if err != nil {
			t.Fatalf("%s: %v", says, err)
		}
		err = ca.CheckRenewalNames(csr, old, d)
		if c.code == "" && err != nil || c.code != "" && (!fault.Is(err, fault.Denied) || fault.Of(err).Code != c.code) {
			t.Errorf("%s: got %v, want code %q", says, err, c.code)
		}
	}
}

func rdn3(utf8 func(string) []byte) [][]byte {
	return [][]byte{part(3, utf8("dev-A")), part(5, utf8("dev-A")), part(10, utf8("Beispiel & Söhne"))}
}

// TestSegments holds the mapping from ids to SPIFFE segments to what it promises:
// the letters of a segment, and different segments for different ids.
func TestSegments(t *testing.T) {
	p := profiles()[0].WithDefaults()
	spiffe := func(id string) string {
		n, err := p.Names(fleet.Device{ID: id})
		if err != nil {
			t.Fatalf("%q: %v", id, err)
		}
		return strings.TrimPrefix(n.URI, "spiffe://fleet.example/device/")
	}
	for id, want := range map[string]string{
		"dev-1": "dev-1", "a_b": "a_b", "a_x": "a_x5fx", "00:1A:2b": "00_x3a1A_x3a2b", ".": "_x2e", "..": "_x2e_x2e", "...": "...",
		"a/b": "a_x2fb", "é": "_xc3_xa9", "_": "_", "_:": "__x3a", "__x": "__x5fx", "a b": "a_x20b", "%2f": "_x252f",
	} {
		if got := spiffe(id); got != want {
			t.Errorf("%q gives %q, want %q", id, got, want)
		}
	}
	// All ids of up to four of these letters, and so every way in which an escape can be imitated.
	seen := map[string]string{}
	var all func(id string)
	all = func(id string) {
		if id != "" {
			s := spiffe(id)
			if other, taken := seen[s]; taken {
				t.Fatalf("%q and %q both give %q", id, other, s)
			}
			if strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789._-") != "" || s == "." || s == ".." {
				t.Fatalf("%q gives %q", id, s)
			}
			seen[s] = id
		}
		if len(id) < 5 {
			for _, c := range "_x2e.f:" {
				all(id + string(c))
			}
		}
	}
	all("")
	for _, id := range []string{"", "a\nb", "a\x00", strings.Repeat("a", 65), "a\u202eb", "\xff"} {
		_, err := p.Names(fleet.Device{ID: id})
		refused(t, err, fault.Denied, "id_not_nameable")
	}
}

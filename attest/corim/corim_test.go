package corim_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/veraison/go-cose"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/attest/corim"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

var now = time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)

func sample() attest.Baseline {
	digest := func(c string, n int) string { return strings.Repeat(c, 2*n) }
	return attest.Baseline{ID: "0687j8cvk5b0fmqlmpsb1m9o2k", Model: "GW-1", Firmware: "2.4.1", State: attest.Active,
		PCRs: map[string]map[int][]string{
			"sha256": {0: {digest("0", 32)}, 4: {digest("1", 32), digest("2", 32)}, 7: {digest("3", 32)}},
			"sha384": {4: {digest("4", 48)}},
		},
		ValidFrom: now, ValidUntil: now.AddDate(1, 0, 0), Source: "a build"}
}

func write(t testing.TB, b attest.Baseline) []byte {
	t.Helper()
	file, err := corim.Write(&b)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	if err == nil || fault.Of(err).Code != code || fault.Of(err).Kind == fault.Internal {
		t.Fatalf("got %v, want %s", err, code)
	}
}

// TestWrite holds the file against one on record, byte for byte.
func TestWrite(t *testing.T) {
	golden, err := os.ReadFile("testdata/baseline.corim.hex")
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(write(t, sample())); got != strings.Join(strings.Fields(string(golden)), "") {
		t.Errorf("got\n%s", got)
	}
}

// TestWriteAndRead brings back what CoRIM has words for.
func TestWriteAndRead(t *testing.T) {
	for name, change := range map[string]func(*attest.Baseline){
		"all of it":          func(*attest.Baseline) {},
		"no firmware":        func(b *attest.Baseline) { b.Firmware = "" },
		"a firmware's name":  func(b *attest.Baseline) { b.Firmware = "november" },
		"for ever":           func(b *attest.Baseline) { b.ValidUntil = time.Time{} },
		"since ever":         func(b *attest.Baseline) { b.ValidFrom = time.Time{} },
		"without a window":   func(b *attest.Baseline) { b.ValidFrom, b.ValidUntil = time.Time{}, time.Time{} },
		"events stay behind": func(b *attest.Baseline) { b.Events = map[int][]attest.Event{4: {{Digest: "x"}}} },
	} {
		t.Run(name, func(t *testing.T) {
			b := sample()
			change(&b)
			found, err := corim.Read(write(t, b), nil, now)
			if err != nil || len(found) != 1 {
				t.Fatalf("%+v, %v", found, err)
			}
			got := found[0]
			if !strings.HasPrefix(got.Source, "CoRIM, SHA-256 ") || got.State != attest.Draft || got.ID != "" {
				t.Errorf("%+v", got)
			}
			if got.Digest() != b.Digest() {
				t.Errorf("got %+v, want %+v", got, b)
			}
		})
	}
}

// TestWriteRefuses what a file would say less of, and so allow more.
func TestWriteRefuses(t *testing.T) {
	yes := true
	for name, change := range map[string]func(*attest.Baseline){
		"secure boot":    func(b *attest.Baseline) { b.Log.SecureBoot = &yes },
		"allowed events": func(b *attest.Baseline) { b.Log.Allowed = map[int][]string{4: {"ab"}} },
		"denied events":  func(b *attest.Baseline) { b.Log.Denied = []string{"ab"} },
		"no registers":   func(b *attest.Baseline) { b.PCRs = nil },
	} {
		b := sample()
		change(&b)
		if file, err := corim.Write(&b); !fault.Is(err, fault.Conflict) || file != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func keys(t testing.TB) map[string]crypto.Signer {
	t.Helper()
	p256, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, err2 := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	_, ed, err3 := ed25519.GenerateKey(rand.Reader)
	rsaKey, err4 := rsa.GenerateKey(rand.Reader, 2048)
	for _, err := range []error{err1, err2, err3, err4} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return map[string]crypto.Signer{"P-256": p256, "P-384": p384, "Ed25519": ed, "RSA": rsaKey}
}

func TestSigned(t *testing.T) {
	file, all := write(t, sample()), keys(t)
	for name, key := range all {
		t.Run(name, func(t *testing.T) {
			signed, err := corim.Sign(file, key, "ACME Ltd.")
			if err != nil {
				t.Fatal(err)
			}
			found, err := corim.Read(signed, key.Public(), now)
			if err != nil || len(found) != 1 || !strings.HasSuffix(found[0].Source, ", signed by ACME Ltd.") {
				t.Fatalf("%+v, %v", found, err)
			}
			for other, another := range all {
				if other != name {
					_, err := corim.Read(signed, another.Public(), now)
					wantCode(t, err, "corim_signature")
				}
			}
			_, err = corim.Read(signed, nil, now)
			wantCode(t, err, "corim_signature")
			_, err = corim.Read(file, key.Public(), now)
			wantCode(t, err, "corim_signature")
			for i := range signed {
				b := bytes.Clone(signed)
				b[i] ^= 1
				if _, err := corim.Read(b, key.Public(), now); err == nil {
					t.Fatalf("byte %d changed, and read", i)
				} else if fault.Of(err).Kind == fault.Internal {
					t.Fatalf("byte %d changed: %v", i, err)
				}
			}
		})
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err == nil { // where the standard library makes such a key at all
		_, err = corim.Sign(file, small, "x")
		wantCode(t, err, "corim_key")
	}
}

// TestSignedByOthers are signatures that hold and are still not taken.
func TestSignedByOthers(t *testing.T) {
	key := keys(t)["P-256"]
	by, err := cose.NewSigner(cose.AlgorithmES256, key)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(payload []byte, change func(cose.ProtectedHeader)) []byte {
		headers := cose.ProtectedHeader{cose.HeaderLabelAlgorithm: cose.AlgorithmES256, cose.HeaderLabelContentType: corim.ContentType,
			int64(8): encode(t, map[int]any{0: map[int]any{0: "ACME"}})}
		change(headers)
		m := cose.Sign1Message{Payload: payload, Headers: cose.Headers{Protected: headers}}
		if err := m.Sign(rand.Reader, nil, by); err != nil {
			t.Fatal(err)
		}
		b, err := m.MarshalCBOR()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	file := write(t, sample())
	window := func(from, until time.Time) func(cose.ProtectedHeader) {
		return func(h cose.ProtectedHeader) {
			h[int64(8)] = encode(t, map[int]any{0: map[int]any{0: "ACME"},
				1: map[int]any{0: cbor.Tag{Number: 1, Content: from.Unix()}, 1: cbor.Tag{Number: 1, Content: until.Unix()}}})
		}
	}
	nothing := func(cose.ProtectedHeader) {}
	for name, c := range map[string]struct {
		file []byte
		code string // empty: read
	}{
		"plainly":             {sign(file, nothing), ""},
		"in its time":         {sign(file, window(now.Add(-time.Hour), now.Add(time.Hour))), ""},
		"by claims":           {sign(file, func(h cose.ProtectedHeader) { delete(h, int64(8)); h[int64(15)] = map[any]any{int64(1): "ACME"} }), ""},
		"too late":            {sign(file, window(now.Add(-2*time.Hour), now.Add(-time.Hour))), "corim_signature"},
		"too early":           {sign(file, window(now.Add(time.Hour), now.Add(2*time.Hour))), "corim_signature"},
		"by nobody":           {sign(file, func(h cose.ProtectedHeader) { delete(h, int64(8)) }), "corim_malformed"},
		"as something else":   {sign(file, func(h cose.ProtectedHeader) { h[cose.HeaderLabelContentType] = "text/plain" }), "corim_malformed"},
		"as nothing":          {sign(file, func(h cose.ProtectedHeader) { delete(h, cose.HeaderLabelContentType) }), "corim_malformed"},
		"something else":      {sign([]byte("hello"), nothing), "corim_malformed"},
		"signed twice":        {sign(sign(file, nothing), nothing), "corim_malformed"},
		"with a critical one": {sign(file, func(h cose.ProtectedHeader) { h[cose.HeaderLabelCritical] = []any{int64(8)} }), "corim_malformed"},
		"an illegible signer": {sign(file, func(h cose.ProtectedHeader) { h[int64(8)] = []byte{0xff} }), "corim_malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			found, err := corim.Read(c.file, key.Public(), now)
			if c.code != "" {
				wantCode(t, err, c.code)
			} else if err != nil || len(found) != 1 {
				t.Fatalf("%+v, %v", found, err)
			}
		})
	}
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	b, err := cbor.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// m is a CBOR map with small keys.
type m = map[int]any

// document is a CoRIM that reads, for its parts to be changed.
func document() m {
	return m{0: "rim", 1: []any{m{1: m{0: "mid"}, 4: m{0: []any{[]any{
		m{0: m{2: "GW-1"}}, []any{m{1: m{14: map[any]any{uint64(4): []any{[]any{1, make([]byte, 32)}}}}}}}}}}}}
}

func (d doc) bytes(t testing.TB) []byte {
	for i, tag := range d.m[1].([]any) {
		if comid, ok := tag.(m); ok {
			d.m[1].([]any)[i] = cbor.Tag{Number: d.tag, Content: encode(t, comid)}
		}
	}
	return encode(t, cbor.Tag{Number: d.outer, Content: d.m})
}

type doc struct {
	m          m
	outer, tag uint64
}

// TestBeyondTheSubset refuses, by name, what would not be checked.
func TestBeyondTheSubset(t *testing.T) {
	for name, c := range map[string]struct {
		change func(d *doc, comid, env, measurement, values m)
		says   string
	}{
		"another tag":         {func(d *doc, _, _, _, _ m) { d.outer = 500 }, "begins with tag 500"},
		"a CoSWID":            {func(d *doc, _, _, _, _ m) { d.tag = 505 }, "a part of tag 505"},
		"a trust list":        {func(d *doc, _, _, _, _ m) { d.tag = 508 }, "a part of tag 508"},
		"dependent files":     {func(d *doc, _, _, _, _ m) { d.m[2] = []any{m{0: "https://x"}} }, "more in its map"},
		"a profile":           {func(d *doc, _, _, _, _ m) { d.m[3] = "https://x" }, "more in its map"},
		"no id":               {func(d *doc, _, _, _, _ m) { delete(d.m, 0) }, "no id"},
		"an odd id":           {func(d *doc, _, _, _, _ m) { d.m[0] = []byte{1} }, "no id"},
		"nothing in it":       {func(d *doc, _, _, _, _ m) { d.m[1] = []any{} }, "nothing in it"},
		"linked tags":         {func(_ *doc, comid, _, _, _ m) { comid[3] = []any{m{0: "x", 1: 0}} }, "more in a CoMID"},
		"no tag id":           {func(_ *doc, comid, _, _, _ m) { comid[1] = m{0: ""} }, "without an id"},
		"endorsements":        {func(_ *doc, comid, _, _, _ m) { comid[4].(m)[1] = []any{} }, "more in a CoMID"},
		"no references":       {func(_ *doc, comid, _, _, _ m) { comid[4] = m{0: []any{}} }, "without reference values"},
		"an instance":         {func(_ *doc, _, env, _, _ m) { env[1] = []byte{1} }, "more in a CoMID"},
		"a layer":             {func(_ *doc, _, env, _, _ m) { env[0].(m)[3] = 1 }, "more in a CoMID"},
		"no model":            {func(_ *doc, _, env, _, _ m) { env[0] = m{1: "ACME"} }, "without a model"},
		"an author's key":     {func(_ *doc, _, _, measurement, _ m) { measurement[2] = []any{} }, "more in a CoMID"},
		"digests":             {func(_ *doc, _, _, _, values m) { values[2] = []any{[]any{1, make([]byte, 32)}} }, "more in a CoMID"},
		"a security version":  {func(_ *doc, _, _, _, values m) { values[1] = 3 }, "more in a CoMID"},
		"no registers":        {func(_ *doc, _, _, _, values m) { delete(values, 14); values[0] = m{0: "1"} }, "without integrity registers"},
		"a named register":    {func(_ *doc, _, _, _, values m) { values[14] = map[any]any{"x": []any{[]any{1, make([]byte, 32)}}} }, "cannot be read in a CoMID"},
		"register 24":         {func(_ *doc, _, _, _, values m) { values[14] = map[any]any{24: []any{[]any{1, make([]byte, 32)}}} }, "register 24"},
		"a register's nought": {func(_ *doc, _, _, _, values m) { values[14] = map[any]any{4: []any{}} }, "without a value"},
		"SHA-512":             {func(_ *doc, _, _, _, values m) { values[14] = map[any]any{4: []any{[]any{8, make([]byte, 64)}}} }, "neither SHA-256 nor SHA-384"},
		"a short digest":      {func(_ *doc, _, _, _, values m) { values[14] = map[any]any{4: []any{[]any{1, make([]byte, 20)}}} }, "neither SHA-256 nor SHA-384"},
		"an own algorithm":    {func(_ *doc, _, _, _, values m) { values[14] = map[any]any{4: []any{[]any{"mine", make([]byte, 32)}}} }, "neither SHA-256 nor SHA-384"},
		"a digest of three":   {func(_ *doc, _, _, _, values m) { values[14] = map[any]any{4: []any{[]any{1, make([]byte, 32), 1}}} }, "cannot be read in a CoMID"},
		"a window of text":    {func(d *doc, _, _, _, _ m) { d.m[4] = m{1: "2026-01-01"} }, "cannot be read in its map"},
	} {
		t.Run(name, func(t *testing.T) {
			d := doc{m: document(), outer: 501, tag: 506}
			comid := d.m[1].([]any)[0].(m)
			triple := comid[4].(m)[0].([]any)[0].([]any)
			measurement := triple[1].([]any)[0].(m)
			c.change(&d, comid, triple[0].(m), measurement, measurement[1].(m))
			_, err := corim.Read(d.bytes(t), nil, now)
			wantCode(t, err, "corim_malformed")
			if !strings.Contains(fault.Of(err).Says, c.says) {
				t.Errorf("%q is not in %q", c.says, fault.Of(err).Says)
			}
		})
	}
}

// TestWhatOthersWrite reads what the draft allows and we do not write.
func TestWhatOthersWrite(t *testing.T) {
	uuid := bytes.Repeat([]byte{7}, 16)
	d := doc{m: document(), outer: 501, tag: 506}
	d.m[0], d.m[5] = uuid, []any{m{0: "ACME", 1: cbor.Tag{Number: 32, Content: "https://acme.example"}, 2: []any{1}}}
	comid := d.m[1].([]any)[0].(m)
	comid[1], comid[0], comid[2] = m{0: cbor.Tag{Number: 37, Content: uuid}, 1: 3}, "en", []any{m{0: "ACME", 2: []any{0}}}
	triple := comid[4].(m)[0].([]any)[0].([]any)
	triple[0] = m{0: m{0: cbor.Tag{Number: 560, Content: []byte("gw1")}, 1: "ACME", 2: "GW-1"}}
	first := triple[1].([]any)[0].(m)
	first[0], first[1].(m)[0] = "firmware", m{0: "1.0", 1: "semver"}
	triple[1] = append(triple[1].([]any), m{1: m{0: m{0: "2.0", 1: 16384}, 14: map[any]any{uint64(0): []any{[]any{"sha-384", make([]byte, 48)}}}}})
	found, err := corim.Read(d.bytes(t), nil, now)
	if err != nil || len(found) != 2 || found[0].Firmware != "1.0" || found[1].Firmware != "2.0" ||
		!reflect.DeepEqual(found[1].PCRs, map[string]map[int][]string{"sha384": {0: {strings.Repeat("00", 48)}}}) {
		t.Fatalf("%+v, %v", found, err)
	}
}

func TestUnreadable(t *testing.T) {
	file := write(t, sample())
	for i := range file {
		if _, err := corim.Read(file[:i], nil, now); err == nil {
			t.Fatalf("cut at byte %d, and read", i)
		}
	}
	nested := append(bytes.Repeat([]byte{0x81}, 1000), 0)
	for name, b := range map[string][]byte{
		"nothing":       nil,
		"text":          []byte("hello"),
		"too large":     make([]byte, corim.MaxFile+1),
		"something on":  append(bytes.Clone(file), 0),
		"nested deeply": append([]byte{0xd9, 0x01, 0xf5}, nested...),
		"endless":       append([]byte{0xd9, 0x01, 0xf5, 0xbf, 0x00}, 0xff),
		"a huge array":  {0xd9, 0x01, 0xf5, 0xa2, 0x00, 0x61, 'x', 0x01, 0x9a, 0xff, 0xff, 0xff, 0xff},
		"a key twice":   {0xd9, 0x01, 0xf5, 0xa2, 0x00, 0x61, 'x', 0x00, 0x61, 'y'},
	} {
		_, err := corim.Read(b, nil, now)
		t.Run(name, func(t *testing.T) { wantCode(t, err, "corim_malformed") })
	}
}

// FuzzRead takes any bytes. What is read can be written and is read again, the same.
func FuzzRead(f *testing.F) {
	file := write(f, sample())
	key := keys(f)["P-256"]
	signed, err := corim.Sign(file, key, "ACME")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(file)
	f.Add(signed)
	f.Add((&doc{m: document(), outer: 501, tag: 506}).bytes(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := corim.Read(b, key.Public(), now); err != nil && fault.Of(err).Kind == fault.Internal {
			t.Fatal(err)
		}
		found, err := corim.Read(b, nil, now)
		if err != nil {
			if fault.Of(err).Kind == fault.Internal {
				t.Fatal(err)
			}
			return
		}
		for i := range found {
			found[i].ID = "id"
			again, err := corim.Read(write(t, found[i]), nil, now)
			if err != nil || again[0].Digest() != found[i].Digest() {
				t.Fatalf("%+v\nis not read again: %v", found[i], err)
			}
		}
	})
}

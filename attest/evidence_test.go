package attest_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"slices"
	"strings"
	"testing"

	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/hallmark-pki/hallmark/attest"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/internal/forge"
)

// specimen is a bundle with some of everything; what is inside the statements
// is nobody's matter here.
func specimen() *forge.Bundle {
	return &forge.Bundle{
		Certify:  &forge.Statement{Attest: []byte("certify"), Signature: []byte("by"), Third: []byte("public")},
		Quote:    &forge.Statement{Attest: []byte("quote"), Signature: []byte("by"), Third: []byte("values")},
		EventLog: bytes.Repeat([]byte("event "), 1000),
		Further:  [][]byte{forge.Wrap([]int{1, 2, 3}, casn1.NULL, nil), wrapped(`["application/eat+cwt", "AA"]`)},
		Certs:    [][]byte{{0x30, 0}, {0xa3, 0}, {0x30, 1, 5}},
	}
}

func wrapped(text string) []byte {
	return forge.Wrap(forge.WrappedStatement, casn1.UTF8String, []byte(text))
}

func cbor(b ...byte) []byte { return forge.Wrap(forge.WrappedStatement, casn1.OCTET_STRING, b) }

// TestParseEvidence reads some of everything.
func TestParseEvidence(t *testing.T) {
	for _, packed := range []bool{false, true} {
		b := specimen()
		b.Packed = packed
		der := b.DER()
		e, err := attest.ParseEvidence(der)
		if err != nil {
			t.Fatal(err)
		}
		if string(e.Certify.Attest) != "certify" || string(e.Certify.Public) != "public" || e.Certify.Values != nil ||
			string(e.Quote.Attest) != "quote" || string(e.Quote.Values) != "values" || e.Quote.Public != nil || string(e.Quote.Signature) != "by" {
			t.Errorf("read %+v and %+v", e.Certify, e.Quote)
		}
		if !bytes.Equal(e.EventLog, b.EventLog) || !bytes.Equal(e.DER, der) {
			t.Error("the event log or the whole is not what was sent")
		}
		if !slices.Equal(e.Unknown, []string{"1.2.3", "application/eat+cwt"}) || len(e.Certs) != 2 || !bytes.Equal(e.Certs[1], []byte{0x30, 1, 5}) {
			t.Errorf("unknown %q, certificates %x", e.Unknown, e.Certs)
		}
	}
}

// TestWrappings are event logs as different clients wrap them.
func TestWrappings(t *testing.T) {
	log := []byte("\xfb\xff event log")
	encoded := base64.RawURLEncoding.EncodeToString(log)
	binary := func(indicators ...byte) []byte {
		out := append([]byte{0x82 + byte(len(indicators)), 0x78, byte(len(attest.EventLogType))}, attest.EventLogType...)
		return append(append(append(out, 0x40+byte(len(log))), log...), indicators...)
	}
	for says, statement := range map[string][]byte{
		"plain":          wrapped(`["` + attest.EventLogType + `","` + encoded + `",4]`),
		"no indicators":  wrapped(`["` + attest.EventLogType + `","` + encoded + `"]`),
		"white space":    wrapped(" [\n\t\"" + attest.EventLogType + "\" ,\r\n \"" + encoded + "\" , 15 ] "),
		"escaped slash":  wrapped(`["` + strings.Replace(attest.EventLogType, "/", `\/`, 1) + `","` + encoded + `"]`),
		"CBOR":           cbor(binary(4)...),
		"CBOR, no third": cbor(binary()...),
	} {
		e, err := attest.ParseEvidence((&forge.Bundle{Further: [][]byte{statement}}).DER())
		if err != nil || !bytes.Equal(e.EventLog, log) {
			t.Errorf("%s: %v", says, err)
		}
	}
}

// TestBadBundles is a row for every way in which a bundle is refused for its form.
func TestBadBundles(t *testing.T) {
	good := specimen().DER()
	with := func(further ...[]byte) []byte {
		b := specimen()
		b.EventLog, b.Further = nil, further
		return b.DER()
	}
	name := attest.EventLogType
	for reason, rows := range map[attest.Reason]map[string][]byte{
		attest.MalformedEvidence: {
			"nothing":                         nil,
			"no sequence":                     {4, 1, 0},
			"an empty sequence":               {0x30, 0},
			"no statements":                   {0x30, 2, 0x30, 0},
			"an empty list of certificates":   {0x30, 10, 0x30, 6, 0x30, 4, 6, 2, 42, 3, 0x30, 0},
			"a byte after it":                 append(slices.Clone(good), 0),
			"a byte less":                     good[:len(good)-1],
			"an indefinite length":            append([]byte{0x30, 0x80}, append(slices.Clone(good[4:]), 0, 0)...),
			"too large":                       make([]byte, attest.MaxEvidence+1),
			"a certificate of 9 KiB":          (&forge.Bundle{Certify: specimen().Certify, Certs: [][]byte{append([]byte{0x30, 0x82, 0x24, 0}, make([]byte, 9<<10)...)}}).DER(),
			"a certificate with a bad length": (&forge.Bundle{Certify: specimen().Certify, Certs: [][]byte{{0x30, 9, 0}}}).DER(),
			"a certify of text":               (&forge.Bundle{Further: [][]byte{forge.Wrap(forge.CertifyStatement, casn1.UTF8String, []byte("a"))}}).DER(),
			"a certify of three and more":     (&forge.Bundle{Further: [][]byte{forge.Wrap(forge.CertifyStatement, casn1.SEQUENCE, []byte{4, 1, 1, 4, 1, 1, 4, 1, 1, 4, 1, 1})}}).DER(),
			"a certify with a number third":   (&forge.Bundle{Further: [][]byte{forge.Wrap(forge.CertifyStatement, casn1.SEQUENCE, []byte{4, 1, 1, 4, 1, 1, 2, 1, 1})}}).DER(),
			"a quote of an empty statement":   (&forge.Bundle{Further: [][]byte{forge.Wrap(forge.QuoteStatement, casn1.SEQUENCE, []byte{4, 0, 4, 1, 1})}}).DER(),
			"a statement of a type alone":     with([]byte{0x30, 4, 6, 2, 42, 3}),
			"a statement of two values":       with([]byte{0x30, 8, 6, 2, 42, 3, 5, 0, 5, 0}),
			"a statement without a type":      with([]byte{0x30, 2, 5, 0}),
			"a wrapped number":                with(forge.Wrap(forge.WrappedStatement, casn1.INTEGER, []byte{1})),
			"JSON that ends":                  with(wrapped(`["` + name + `","AA"`)),
			"JSON that goes on":               with(wrapped(`["` + name + `","AA",4]]`)),
			"JSON with more members":          with(wrapped(`["` + name + `","AA",4,5]`)),
			"JSON with a third that is text":  with(wrapped(`["` + name + `","AA","4"]`)),
			"JSON with a third too large":     with(wrapped(`["` + name + `","AA",400]`)),
			"JSON without a value":            with(wrapped(`["` + name + `"]`)),
			"JSON that is no array":           with(wrapped(`"` + name + `"`)),
			"JSON with a bad escape":          with(wrapped(`["\q","AA"]`)),
			"JSON that ends in an escape":     with(wrapped(`["\`)),
			"a type of 300 letters":           with(wrapped(`["` + strings.Repeat("a", 300) + `","AA"]`)),
			"base64 in lines":                 with(wrapped("[\"" + name + "\",\"AA\nAA\"]")),
			"base64 with padding":             with(wrapped(`["` + name + `","AA=="]`)),
			"base64 of the other alphabet":    with(wrapped(`["` + name + `","+/AA"]`)),
			"base64 with a bit too much":      with(wrapped(`["` + name + `","AB"]`)),
			"CBOR of nothing":                 with(cbor()),
			"CBOR of a map":                   with(cbor(0xa0)),
			"CBOR of one":                     with(cbor(0x81, 0x00)),
			"CBOR of four":                    with(cbor(0x84, 0x00, 0x40, 0x00, 0x00)),
			"CBOR of indefinite length":       with(cbor(0x9f, 0x00, 0x40, 0xff)),
			"CBOR that goes on":               with(cbor(0x82, 0x00, 0x40, 0x00)),
			"CBOR that ends":                  with(cbor(0x82, 0x00, 0x42, 0x00)),
			"CBOR with a huge length":         with(cbor(0x82, 0x00, 0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)),
			"CBOR with a large length":        with(cbor(0x82, 0x00, 0x5a, 0xff, 0xff, 0xff, 0xff)),
			"CBOR with a text for a value":    with(cbor(0x82, 0x00, 0x60)),
		},
		attest.DuplicateStatement: {
			"two certifies":        with(statementOf(forge.CertifyStatement)),
			"two quotes":           with(statementOf(forge.QuoteStatement)),
			"two event logs":       with(wrapped(`["`+name+`","AA"]`), wrapped(`["`+name+`","AA"]`)),
			"one of each wrapping": with(wrapped(`["`+name+`","AA"]`), wrapped(`["`+name+`+gzip","`+gzipped(t, []byte("log"))+`"]`)),
		},
		attest.UnsupportedEvidence: {
			"an unknown type":       (&forge.Bundle{Further: [][]byte{forge.Wrap([]int{1, 2, 3}, casn1.NULL, nil)}}).DER(),
			"an unknown media type": (&forge.Bundle{Further: [][]byte{wrapped(`["application/vnd.hallmark.ima-ascii","AA",4]`)}}).DER(),
			"a content format":      (&forge.Bundle{Further: [][]byte{cbor(0x82, 0x18, 0x3c, 0x40)}}).DER(),
		},
		attest.LogMalformed: {
			"no log in it":    with(wrapped(`["` + name + `",""]`)),
			"not compressed":  with(wrapped(`["` + name + `+gzip","AAAA"]`)),
			"a bomb":          with(wrapped(`["` + name + `+gzip","` + gzipped(t, make([]byte, 100<<20)) + `"]`)),
			"half a member":   with(wrapped(`["` + name + `+gzip","` + gzipped(t, []byte("event log"))[:20] + `"]`)),
			"a byte after it": with(wrapped(`["` + name + `+gzip","` + gzipped(t, []byte("event log!!"), 0) + `"]`)),
		},
	} {
		for says, der := range rows {
			t.Run(string(reason)+": "+says, func(t *testing.T) {
				_, err := attest.ParseEvidence(der)
				if err == nil || fault.Of(err).Code != string(reason) {
					t.Errorf("%v", err)
				}
			})
		}
	}
}

func statementOf(kind []int) []byte {
	return forge.Wrap(kind, casn1.SEQUENCE, []byte{4, 1, 1, 4, 1, 1})
}

func gzipped(t *testing.T, log []byte, after ...byte) string {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(log); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(append(out.Bytes(), after...))
}

func FuzzParseEvidence(f *testing.F) {
	f.Add(specimen().DER())
	packed := specimen()
	packed.Packed = true
	f.Add(packed.DER())
	f.Fuzz(func(t *testing.T, der []byte) {
		e, err := attest.ParseEvidence(der)
		if err != nil {
			if kind := fault.Of(err).Kind; kind != fault.Malformed && kind != fault.Denied {
				t.Fatalf("an error of kind %s: %v", kind, err)
			}
			return
		}
		if len(e.EventLog) > attest.MaxEventLog || len(e.Certs) > 10 || len(e.Unknown) > 8 {
			t.Fatalf("out of bounds: %+v", e)
		}
		if e.Certify == nil && e.Quote == nil && e.EventLog == nil {
			t.Fatal("took what has nothing of use in it")
		}
		kept, err := e.Keep()
		if err != nil || len(kept.Bundle.Bytes) > len(der)+200 {
			t.Fatalf("kept as %d bytes, was %d: %v", len(kept.Bundle.Bytes), len(der), err)
		}
	})
}

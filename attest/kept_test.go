package attest

import (
	"bytes"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"
)

// bundleOf lays out statements, each a type and a value, and certificates.
func bundleOf(t *testing.T, certs []asn1.RawValue, statements ...any) []byte {
	t.Helper()
	type statement struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	var list []statement
	for i := 0; i < len(statements); i += 2 {
		params := ""
		if _, text := statements[i+1].(string); text {
			params = "utf8"
		}
		value, err := asn1.MarshalWithParams(statements[i+1], params)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, statement{statements[i].(asn1.ObjectIdentifier), asn1.RawValue{FullBytes: value}})
	}
	der, err := asn1.Marshal(struct {
		Statements []statement
		Certs      []asn1.RawValue `asn1:"optional,omitempty"`
	}{list, certs})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestKeep(t *testing.T) {
	log := []byte(strings.Repeat("measured ", 1000))
	wrapped := `["` + EventLogType + `","` + base64.RawURLEncoding.EncodeToString(log) + `",4]`
	sum := sha256.Sum256(log)
	named := `["` + EventLogType + `","sha256:` + hex.EncodeToString(sum[:]) + `",4]`
	other := asn1.ObjectIdentifier{1, 2, 3}
	certs := []asn1.RawValue{{FullBytes: []byte{0x30, 1, 5}}}
	sent := bundleOf(t, certs, other, "before", oidCMW, wrapped, other, wrapped)
	e, err := ParseEvidence(sent)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := e.Keep()
	if err != nil {
		t.Fatal(err)
	}
	want := bundleOf(t, certs, other, "before", oidCMW, named, other, wrapped)
	if !bytes.Equal(kept.Bundle.Bytes, want) || kept.Bundle.SHA256 != sha256.Sum256(want) || kept.Bundle.Kind != BundleBlob {
		t.Errorf("the bundle is kept as %q", kept.Bundle.Bytes)
	}
	if kept.EventLog == nil || !bytes.Equal(kept.EventLog.Bytes, log) || kept.EventLog.SHA256 != sum || kept.EventLog.Kind != EventLogBlob || len(kept.Blobs()) != 2 {
		t.Errorf("the log is kept as %+v", kept.EventLog)
	}
	statement := struct{ A, B []byte }{[]byte("a"), []byte("b")}
	if e, err = ParseEvidence(bundleOf(t, nil, oidQuote, statement)); err != nil {
		t.Fatal(err)
	}
	if kept, err = e.Keep(); err != nil || !bytes.Equal(kept.Bundle.Bytes, e.DER) || kept.EventLog != nil || len(kept.Blobs()) != 1 {
		t.Errorf("without a log: %+v, %v", kept, err)
	}
}

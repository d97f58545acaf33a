package ca_test

import (
	"bytes"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/hallmark-pki/hallmark/ca"
	"github.com/hallmark-pki/hallmark/internal/fault"
)

var (
	oidChallenge     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}
	oidLinking       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 58}
	oidAttestation   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 59}
	oidChangeSubject = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 7, 36}
	oidMicrosoft     = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 14}
)

// TestParseCSR reads every claim out of one request.
func TestParseCSR(t *testing.T) {
	evidence := []byte{0x30, 3, 2, 1, 7}
	key := newKey(t, elliptic.P256())
	der := forgery{
		subject: name(part(3, text(casn1.UTF8String, "Gerät 7")), part(5, text(casn1.PrintableString, "SN 7")), part(10, text(casn1.T61String, "M\xfcller")), part(11, text(30, "\x00O\x00U"))),
		attributes: bytes.Join([][]byte{
			attribute(oidChallenge, text(casn1.PrintableString, "secret")),
			attribute(oidLinking, text(casn1.UTF8String, "link")),
			attribute(oidAttestation, evidence),
			attribute(oidChangeSubject, []byte{0x30, 0}),
			attribute(asn1.ObjectIdentifier{1, 2, 3, 4}, []byte{5, 0}, []byte{5, 0}),
			extensionRequest(extension(17, seqOf(text(0x82, "host.example"), text(0x86, "spiffe://a/b"), text(0x87, "\xc0\x00\x02\x01"), text(0x81, "a@b.example"), text(0x88, "\x2a\x03"))), extension(15, []byte{3, 2, 7, 0x80})),
		}, nil),
	}.der(t, key)
	c, err := ca.ParseCSR(der)
	if err != nil {
		t.Fatal(err)
	}
	var subject, sans []string
	for _, a := range c.Subject {
		subject = append(subject, a.Value)
	}
	for _, s := range c.SANs {
		sans = append(sans, s.Kind+" "+s.Value)
	}
	if got := strings.Join(subject, "|"); got != "Gerät 7|SN 7|Müller|OU" {
		t.Errorf("subject %q", got)
	}
	if got := strings.Join(sans, "|"); got != "dNSName host.example|uniformResourceIdentifier spiffe://a/b|iPAddress 192.0.2.1|rfc822Name a@b.example|registeredID " {
		t.Errorf("SANs %q", got)
	}
	if c.Challenge != "secret" || c.Linking != "link" || !bytes.Equal(c.Attestation, evidence) || !c.ChangeSubject || c.KeyType != ca.P256 {
		t.Errorf("read %+v", c)
	}
	other := newKey(t, elliptic.P384())
	swapped, err := c.WithKey(other.Public())
	if err != nil || swapped.KeyType != ca.P384 || swapped.Challenge != "secret" || bytes.Equal(swapped.SPKI, c.SPKI) {
		t.Errorf("with another key: %+v, %v", swapped, err)
	}
	if _, err := c.WithKey(newKey(t, elliptic.P224()).Public()); err == nil {
		t.Error("took another key that is too weak")
	}
}

func seqOf(parts ...[]byte) []byte {
	return append([]byte{0x30, byte(len(bytes.Join(parts, nil)))}, bytes.Join(parts, nil)...)
}

// TestOpenSSLRequests reads what OpenSSL writes for each kind of key.
func TestOpenSSLRequests(t *testing.T) {
	for _, newkey := range [][]string{
		{"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"}, {"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"},
		{"-newkey", "rsa:2048"}, {"-newkey", "ed25519"}, {"-newkey", "rsa:3072", "-sha512", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:-1"},
	} {
		text := opensslRequest(t, newkey...)
		block, _ := pem.Decode(text)
		if _, err := ca.ParseCSR(block.Bytes); err != nil {
			t.Errorf("%v: %v", newkey, err)
		}
	}
	for code, newkey := range map[string][]string{
		"key_parameters":          {"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:explicit"},
		"key_type":                {"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"},
		"csr_signature_algorithm": {"-newkey", "rsa:2048", "-sha1"},
		"weak_key":                {"-newkey", "rsa:1024"},
	} {
		block, _ := pem.Decode(opensslRequest(t, newkey...))
		_, err := ca.ParseCSR(block.Bytes)
		refused(t, err, fault.Malformed, code)
	}
	block, _ := pem.Decode(opensslRequest(t, "-newkey", "ed25519", "-addext", "basicConstraints=critical,CA:TRUE"))
	_, err := ca.ParseCSR(block.Bytes)
	refused(t, err, fault.Denied, "ca_requested")
	block, _ = pem.Decode(opensslRequest(t, "-newkey", "ed25519", "-addext", "keyUsage=cRLSign"))
	_, err = ca.ParseCSR(block.Bytes)
	refused(t, err, fault.Denied, "ca_requested")
}

func opensslRequest(t *testing.T, arguments ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("openssl", append([]string{"req", "-new", "-batch", "-nodes", "-subj", "/O=Fleet/CN=dev-1", "-keyout", filepath.Join(dir, "key"), "-out", filepath.Join(dir, "csr")}, arguments...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("openssl req %v: %v\n%s", arguments, err, out)
	}
	text, err := os.ReadFile(filepath.Join(dir, "csr"))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestBadRequests is a row for every way in which a request is refused for its form.
func TestBadRequests(t *testing.T) {
	key := newKey(t, elliptic.P256())
	challenge := attribute(oidChallenge, text(casn1.UTF8String, "x"))
	sans := func(names ...[]byte) []byte { return extensionRequest(extension(17, seqOf(names...))) }
	good := forgery{}.der(t, key)
	for says, c := range map[string]struct {
		forgery
		code string
	}{
		"version 1":             {forgery{version: 1}, "csr_version"},
		"trailing data":         {forgery{trailing: []byte{0}}, "csr_malformed"},
		"a foreign signature":   {forgery{spki: spki(t, newKey(t, elliptic.P256()).Public())}, "csr_signature"},
		"a zero signature":      {forgery{signature: []byte{0x30, 6, 2, 1, 0, 2, 1, 0}}, "csr_signature"},
		"an empty signature":    {forgery{signature: []byte{}}, "csr_signature"},
		"SHA-1":                 {forgery{algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 1}}, "csr_signature_algorithm"},
		"MD5":                   {forgery{algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 4}}, "csr_signature_algorithm"},
		"an unknown key type":   {forgery{spki: seqOf(seqOf([]byte{6, 3, 42, 3, 4}), []byte{3, 2, 0, 1})}, "key_type"},
		"P-224":                 {forgery{spki: spki(t, newKey(t, elliptic.P224()).Public())}, "key_type"},
		"a point off the curve": {forgery{spki: offCurve(spki(t, key.Public()))}, "weak_key"},
		"a NUL in a name":       {forgery{subject: name(part(3, text(casn1.UTF8String, "dev-1\x00.example")))}, "bad_name"},
		"a line break":          {forgery{subject: name(part(3, text(casn1.PrintableString, "dev\n1")))}, "bad_name"},
		"a right-to-left mark":  {forgery{subject: name(part(3, text(casn1.UTF8String, "dev\u202e1")))}, "bad_name"},
		"a zero-width letter":   {forgery{subject: name(part(3, text(casn1.UTF8String, "dev\u200b1")))}, "bad_name"},
		"bad UTF-8":             {forgery{subject: name(part(3, text(casn1.UTF8String, "dev\xff1")))}, "bad_name"},
		"half a letter":         {forgery{subject: name(part(3, text(30, "\x00d\x00")))}, "bad_name"},
		"a lone surrogate":      {forgery{subject: name(part(3, text(30, "\xd8\x00")))}, "bad_name"},
		"a number for a name":   {forgery{subject: name(part(3, []byte{2, 1, 7}))}, "bad_name"},
		"an empty RDN":          {forgery{subject: seqOf([]byte{0x31, 0})}, "csr_malformed"},
		"many RDNs":             {forgery{subject: name(repeat(part(3, text(casn1.UTF8String, "x")), 65)...)}, "csr_malformed"},
		"a long name":           {forgery{subject: name(part(3, text(casn1.UTF8String, strings.Repeat("x", 257))))}, "bad_name"},
		"long SANs":             {forgery{attributes: extensionRequest(extension(17, text(0x30, strings.Repeat("\x86\x01a", 3000))))}, "bad_name"},
		"many SANs":             {forgery{attributes: sans(repeat(text(0x86, "a"), 33)...)}, "csr_malformed"},
		"many attributes":       {forgery{attributes: manyAttributes(33)}, "csr_malformed"},
		"many extensions":       {forgery{attributes: extensionRequest(manyExtensions(33)...)}, "csr_malformed"},
		"two challenges":        {forgery{attributes: append(challenge, challenge...)}, "csr_duplicate"},
		"two challenge values":  {forgery{attributes: attribute(oidChallenge, text(casn1.UTF8String, "a"), text(casn1.UTF8String, "b"))}, "csr_malformed"},
		"no challenge value":    {forgery{attributes: attribute(oidChallenge)}, "csr_malformed"},
		"an empty challenge":    {forgery{attributes: attribute(oidChallenge, text(casn1.UTF8String, ""))}, "bad_challenge"},
		"a long challenge":      {forgery{attributes: attribute(oidChallenge, text(casn1.UTF8String, strings.Repeat("x", 256)))}, "bad_challenge"},
		"a numeric challenge":   {forgery{attributes: attribute(oidChallenge, []byte{2, 1, 7})}, "bad_challenge"},
		"two extension requests": {forgery{attributes: append(extensionRequest(), extensionRequest()...)},
			"csr_duplicate"},
		"two kinds of extension request": {forgery{attributes: append(extensionRequest(), attribute(oidMicrosoft, []byte{0x30, 0})...)}, "csr_duplicate"},
		"one extension twice":            {forgery{attributes: extensionRequest(extension(37, []byte{5, 0}), extension(37, []byte{5, 0}))}, "csr_duplicate"},
		"CA:TRUE under another name":     {forgery{attributes: attribute(oidMicrosoft, seqOf(extension(19, []byte{0x30, 3, 1, 1, 0xff})))}, "ca_requested"},
		"CA:TRUE in bad DER":             {forgery{attributes: extensionRequest(extension(19, []byte{0x30, 3, 1, 1, 1}))}, "ca_requested"},
		"CA:TRUE and trailing data":      {forgery{attributes: extensionRequest(extension(19, []byte{0x30, 3, 1, 1, 0xff, 0}))}, "csr_malformed"},
		"keyCertSign":                    {forgery{attributes: extensionRequest(extension(15, []byte{3, 2, 2, 4}))}, "ca_requested"},
		"an unreadable key usage":        {forgery{attributes: extensionRequest(extension(15, []byte{4, 1, 4}))}, "csr_malformed"},
		"no SAN":                         {forgery{attributes: sans()}, "csr_malformed"},
		"a SAN of no kind":               {forgery{attributes: sans(text(0x8c, "x"))}, "csr_malformed"},
		"a DNS name with a NUL":          {forgery{attributes: sans(text(0x82, "a\x00b"))}, "bad_name"},
		"a DNS name with a homoglyph":    {forgery{attributes: sans(text(0x82, "dеv"))}, "bad_name"},
		"an empty URI":                   {forgery{attributes: sans(text(0x86, ""))}, "bad_name"},
		"an address of 5 octets":         {forgery{attributes: sans(text(0x87, "12345"))}, "bad_name"},
		"an otherName of nothing":        {forgery{attributes: sans([]byte{0xa0, 0})}, "csr_malformed"},
		"a directoryName with a NUL":     {forgery{attributes: sans(append([]byte{0xa4, byte(len(name(part(3, text(12, "a\x00")))))}, name(part(3, text(12, "a\x00")))...))}, "bad_name"},
	} {
		kind := fault.Malformed
		if c.code == "ca_requested" {
			kind = fault.Denied
		}
		_, err := ca.ParseCSR(c.der(t, key))
		if err == nil || fault.Of(err).Kind != kind || fault.Of(err).Code != c.code {
			t.Errorf("%s: got %v, want code %s", says, err, c.code)
		}
	}
	for i := range good {
		if _, err := ca.ParseCSR(good[:i]); err == nil {
			t.Fatalf("the first %d of %d bytes were taken for a request", i, len(good))
		}
	}
	if _, err := ca.ParseCSR(make([]byte, ca.MaxCSR+1)); !fault.Is(err, fault.Malformed) {
		t.Error(err)
	}
	if _, err := ca.ParseCSR(requestDER(t, key, &x509.CertificateRequest{})); err != nil {
		t.Error(err)
	}
}

func manyAttributes(n int) (all []byte) {
	for i := range n {
		all = append(all, attribute(asn1.ObjectIdentifier{1, 2, 3, i}, []byte{5, 0})...)
	}
	return all
}

func manyExtensions(n int) (all [][]byte) {
	for i := range n {
		all = append(all, extension(100+i, []byte{5, 0}))
	}
	return all
}

func repeat(b []byte, n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = b
	}
	return out
}

// offCurve spoils the last byte of a point.
func offCurve(spki []byte) []byte {
	spoilt := bytes.Clone(spki)
	spoilt[len(spoilt)-1] ^= 1
	return spoilt
}

// TestEverySingleBit flips each bit of a request in turn: none may be taken.
func TestEverySingleBit(t *testing.T) {
	der := requestDER(t, newKey(t, elliptic.P256()), named("dev-1"))
	for i := range len(der) * 8 {
		spoilt := bytes.Clone(der)
		spoilt[i/8] ^= 1 << (i % 8)
		if _, err := ca.ParseCSR(spoilt); err == nil {
			t.Errorf("taken with bit %d flipped", i)
		}
	}
}
